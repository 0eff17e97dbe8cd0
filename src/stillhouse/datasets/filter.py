"""Which records make the dataset, and why the others do not. Pure: candidates in, a funnel and placements out."""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from stillhouse.canon import digest_plain, digest_value, raw_digest
from stillhouse.conversations.finishes import incomplete, is_usable
from stillhouse.datasets.content_tree import ContentTree
from stillhouse.datasets.fingerprint import code_digest, common_ngrams, ngrams, shared_ngram
from stillhouse.nouns import Decision, FunnelStep, Ground, Task, Verdict, VerdictStatus

# Ten words in a row are rarely chance; shorter runs are the grammar of the language.
NGRAM = 10
# What stands in more than one prompt in fifty is the way in which prompts are worded.
COMMON_SHARE = 0.02


class Candidate(NamedTuple):
    """An answer that might become a row; ``tokens`` are the answer's where somebody counted them, else -1."""

    key: str
    task: Task
    sample: int
    text: str
    code: str
    finish: str
    stamps: int
    verdict: Verdict
    reasoning: str = ""
    tokens: int = -1


class Protected(NamedTuple):
    """What training data must not contain: the n-grams of held-out tasks by where they are from, and their solutions.

    ``starts`` are the first words of the n-grams.
    """

    ngrams: Mapping[tuple[str, ...], str]
    codes: Mapping[str, str]
    starts: frozenset[str] = frozenset()


class Drop(NamedTuple):
    """A candidate that did not become a row: at which step, and why."""

    candidate: Candidate
    step: str
    reason: str


class FilterResult(NamedTuple):
    """The outcome: rows in a fixed order, the funnel, what was dropped, and the digest of each row's content."""

    rows: tuple[Candidate, ...]
    funnel: tuple[FunnelStep, ...]
    drops: tuple[Drop, ...]
    contents: tuple[str, ...]

    @property
    def content_digest(self) -> str:
        """What stands for all rows."""
        tree = ContentTree()
        for content in self.contents:
            tree.add(raw_digest(content))
        return tree.root()


def protect(tasks: Sequence[Task], own_prompts: Sequence[str]) -> Protected:
    """What must not be in a dataset if these tasks are to mean anything as a test."""
    common = common_ngrams(own_prompts, NGRAM, COMMON_SHARE)
    grams: dict[tuple[str, ...], str] = {}
    codes: dict[str, str] = {}
    for task in tasks:
        found, code = _marks(task.messages[-1].content, task.solution)
        for gram in found - common:
            grams.setdefault(gram, task.id)
        if code:
            codes.setdefault(code, task.id)
    return Protected(grams, codes, frozenset(gram[0] for gram in grams if gram))


@functools.lru_cache(maxsize=4096)  # a suite's tasks, which every dataset of a process is compared with
def _marks(prompt: str, solution: str) -> tuple[frozenset[tuple[str, ...]], str]:
    """The n-grams of a task's texts, and the digest of its solution; "" where it has none."""
    return ngrams(prompt, NGRAM) | ngrams(solution, NGRAM), code_digest(solution) if solution else ""


# The steps of a funnel, in order, by name.
COMPLETE, VERIFIED, DISTINCT, NOT_HELD_OUT, ALLOWED = "complete", "verified", "distinct", "not held out", "allowed"
# Comes after them where a number of rows was asked for.
WANTED = "wanted"
STEPS = (COMPLETE, VERIFIED, DISTINCT, NOT_HELD_OUT, ALLOWED)


def filter_rows(
    candidates: Sequence[Candidate],
    protected: Protected,
    decisions: Mapping[int, Decision],
    wanted: Collection[str] = STEPS,
    most: int = 0,
    keep: Collection[str] = (),
) -> FilterResult:
    """Whole, passed, distinct, not held out, allowed: in that order, each drop with its reason; only the ``wanted`` steps.

    ``decisions`` are those of the stamp sets for the dataset's use; a set without one is denied. ``most`` above 0 keeps no
    more rows than that, the first in order.
    """
    steps: tuple[tuple[str, Callable[[Candidate], str]], ...] = (
        (COMPLETE, lambda candidate: _incomplete(candidate, keep)),
        (VERIFIED, _verified),
        (DISTINCT, _Distinct()),
        (NOT_HELD_OUT, lambda candidate: _held_out(candidate, protected)),
        (ALLOWED, lambda candidate: _denied(candidate, decisions)),
    )
    left = sorted(candidates, key=lambda candidate: (candidate.task.id, candidate.sample, candidate.key))
    drops: list[Drop] = []
    funnel = [FunnelStep("answers", len(left), {})]
    for name, reason_of in (step for step in steps if step[0] in wanted):
        kept: list[Candidate] = []
        dropped: Counter[str] = Counter()
        for candidate in left:
            reason = reason_of(candidate)
            if reason:
                dropped[_kind(reason)] += 1
                drops.append(Drop(candidate, name, reason))
            else:
                kept.append(candidate)
        funnel.append(FunnelStep(name, len(kept), dict(sorted(dropped.items()))))
        left = kept
    if most and len(left) > most:
        drops += [Drop(candidate, WANTED, "surplus: more rows than were wanted") for candidate in left[most:]]
        funnel.append(FunnelStep(WANTED, most, {"surplus": len(left) - most}))
        left = left[:most]
    return FilterResult(tuple(left), tuple(funnel), tuple(drops), tuple(map(content_of, left)))


def content_of(row: Candidate) -> str:
    """The digest of a row's content: its prompt, answer and verdict, and neither days, ids nor timings."""
    return digest_plain(_content(row))


def content_digest_before_2026_12(rows: Sequence[Candidate]) -> str:
    """What stood for some rows until November 2026: versions of then keep it, and are compared by it."""
    return digest_value(sorted(map(_content, rows), key=repr))


def _content(row: Candidate) -> list[object]:
    return [
        [[message.role, message.content] for message in row.task.messages],
        *([row.text, row.reasoning] if row.reasoning else [row.text]),
        [str(row.verdict.status), row.verdict.check, row.verdict.checks, row.verdict.checks_passed],
    ]


def _incomplete(candidate: Candidate, keep: Collection[str]) -> str:
    if is_usable(candidate.text, candidate.finish, keep):
        return ""
    return f"{incomplete(candidate.text, candidate.finish)}: it ended with {candidate.finish!r}"


def _verified(candidate: Candidate) -> str:
    if candidate.verdict.status is VerdictStatus.PASSED:
        return ""
    if candidate.verdict.status is VerdictStatus.NOT_JUDGED:
        return ""  # a prompt without tests: its answers are kept as they are, and say so
    where = f" at {candidate.verdict.check}" if candidate.verdict.check else ""
    return f"{candidate.verdict.status}{where}: {candidate.verdict.reason}"


class _Distinct:
    """Drops an answer whose code, but for names and layout, was seen for the same prompt."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, str], Candidate] = {}

    def __call__(self, candidate: Candidate) -> str:
        normal_form = code_digest(candidate.code) if candidate.code else digest_value(candidate.text)
        first = self._seen.setdefault((candidate.task.messages, normal_form), candidate)
        return "" if first is candidate else f"duplicate: the same code as sample {first.sample} of {first.task.id}"


def _held_out(candidate: Candidate, protected: Protected) -> str:
    if candidate.task.split == "held-out":
        return f"held-out family: {candidate.task.family}"
    same = protected.codes.get(code_digest(candidate.code)) if candidate.code else None
    if same:
        return f"same code as the held-out: {same}"
    for text in (
        *(message.content for message in candidate.task.messages),
        candidate.text,
        candidate.reasoning,
        candidate.code,
    ):
        gram = shared_ngram(text, protected.ngrams, protected.starts, NGRAM)
        if gram is not None:
            return f"shares words with the held-out: {protected.ngrams[gram]} ({' '.join(gram)})"
    return ""


def _denied(candidate: Candidate, decisions: Mapping[int, Decision]) -> str:
    decision = decisions.get(candidate.stamps)
    if decision is None:
        return "denied: nothing is known of its origin"
    if decision.allowed:
        return ""
    return f"{'quarantined' if Ground.REVOCATION in decision.grounds else 'denied'}: {decision.reason}"


def _kind(reason: str) -> str:
    """The part of a reason that is counted: what stands before the particulars."""
    return reason.partition(":")[0].partition(" at ")[0]
