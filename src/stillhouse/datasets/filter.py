"""Which records make the dataset, and why the others do not.

What a candidate is by itself is found once (``Examiner``); what becomes of it beside others is decided from that alone, without
its text (``Filter``).
"""

import functools
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from stillhouse.canon import digest_plain, digest_value, raw_digest
from stillhouse.conversations.finishes import incomplete, is_usable
from stillhouse.conversations.record import Conversation, content_digest
from stillhouse.conversations.redaction import Secrets
from stillhouse.conversations.row_turns import incomplete_answer, last_answer, said_bytes, tokens_by_stamps, words_of
from stillhouse.conversations.secrets_in_text import find_secrets
from stillhouse.datasets.distinct import SAME_AS_BYTES, Distinct
from stillhouse.datasets.fingerprint import code_digest, common_ngrams, ngrams, shared_ngram
from stillhouse.nouns import Decision, FunnelStep, Ground, Task, Verdict, VerdictStatus

# Ten words in a row are rarely chance; shorter runs are the grammar of the language.
NGRAM = 10
# What stands in more than one prompt in fifty is the way in which prompts are worded.
COMMON_SHARE = 0.02


class Candidate(NamedTuple):
    """An answer that might become a row; ``tokens`` are the answer's where somebody counted them, else -1.

    Where more than text was said, ``conversation`` is all of it, its answers among it; ``task`` and ``text`` have its words.
    """

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
    conversation: Conversation | None = None

    @property
    def answers(self) -> str:
        """The tokens of its answers by their stamp sets, as JSON; "" where all have one set."""
        found = tokens_by_stamps(self.conversation) if self.conversation is not None else {}
        return json.dumps(found) if found else ""

    def words(self) -> Iterator[str]:
        """Every text in it."""
        if self.conversation is not None:
            yield from map(words_of, self.conversation.turns)
            return
        yield from (message.content for message in self.task.messages)
        yield from (self.text, self.reasoning, self.code)


class Protected(NamedTuple):
    """What training data must not contain: the n-grams of held-out tasks by where they are from, and their solutions.

    ``starts`` are the first words of the n-grams.
    """

    ngrams: Mapping[tuple[str, ...], str]
    codes: Mapping[str, str]
    starts: frozenset[str] = frozenset()


class Finding(NamedTuple):
    """What a candidate is by itself, whatever else is there: why three of the steps drop it ("" where they do not); 16 bytes that
    are equal for the same question with the same code, but for names and layout; and the digest of its content.
    """

    incomplete: str
    unverified: str
    held_out: str
    same_as: bytes
    content: bytes


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


class Examiner(NamedTuple):
    """Finds what candidates are by themselves. A pure function over batches, for any engine."""

    protected: Protected
    keep: tuple[str, ...] = ()
    secrets: Secrets = Secrets.KEEP

    def examine(self, candidates: Sequence[Candidate]) -> list[Finding]:
        """What each of them is."""
        return [self._finding(candidate) for candidate in candidates]

    def _finding(self, candidate: Candidate) -> Finding:
        return Finding(
            _secret(candidate, self.secrets) or _incomplete(candidate, self.keep),
            _unverified(candidate),
            _held_out(candidate, self.protected),
            _same_as(candidate),
            raw_digest(content_of(candidate)),
        )


class Filter:
    """Decides of candidates, which come in order: whole, passed, distinct, not held out, allowed. Each drop has its reason."""

    def __init__(self, decisions: Mapping[int, Decision], wanted: Collection[str] = STEPS, most: int = 0) -> None:
        """Only the ``wanted`` steps. ``decisions`` are those of the stamp sets for the dataset's use; a set without one is
        denied. ``most`` above 0 keeps no more rows than that, the first in order.
        """
        self._denied = {id: _denied(decision) for id, decision in decisions.items()}
        self._steps, self._most = tuple(step for step in STEPS if step in wanted), most
        self._dropped = {step: Counter[str]() for step in (*self._steps, WANTED)}
        self._seen = Distinct()
        self._candidates = self.kept = 0

    def drops_at(self, finding: Finding, stamps: int, name: str) -> tuple[str, str]:
        """At which step the next candidate is dropped, and why; empty where it is kept. Of later ones that are the same it is
        said that they are the same as ``name``.
        """
        self._candidates += 1
        for step in self._steps:
            reason = self._reason(step, finding, stamps, name)
            if reason:
                self._dropped[step][kind_of(reason)] += 1
                return step, reason
        if self._most and self.kept >= self._most:
            self._dropped[WANTED]["surplus"] += 1
            return WANTED, "surplus: more rows than were wanted"
        self.kept += 1
        return "", ""

    def funnel(self) -> tuple[FunnelStep, ...]:
        """How many were left after each step, and why the others were not."""
        left = self._candidates
        steps = [FunnelStep("answers", left, {})]
        for step, dropped in self._dropped.items():
            left -= dropped.total()
            if step != WANTED or dropped:
                steps.append(FunnelStep(step, left, dict(sorted(dropped.items()))))
        return tuple(steps)

    def close(self) -> None:
        """Forget what was seen."""
        self._seen.close()

    def _reason(self, step: str, finding: Finding, stamps: int, name: str) -> str:
        if step == COMPLETE:
            return finding.incomplete
        if step == VERIFIED:
            return finding.unverified
        if step == DISTINCT:
            first = self._seen.first(finding.same_as, name)
            return f"duplicate: the same code as {first}" if first is not None else ""
        if step == NOT_HELD_OUT:
            return finding.held_out
        return self._denied.get(stamps, "denied: nothing is known of its origin")


def content_of(row: Candidate) -> str:
    """The digest of a row's content: its prompt, answer and verdict, and neither days, ids nor timings."""
    return digest_plain(_content(row))


def content_digest_before_2026_12(rows: Sequence[Candidate]) -> str:
    """What stood for some rows until November 2026: versions of then keep it, and are compared by it."""
    return digest_value(sorted(map(_content, rows), key=repr))


def _content(row: Candidate) -> list[object]:
    if row.conversation is not None:
        judged = [str(row.verdict.status), row.verdict.check, row.verdict.checks, row.verdict.checks_passed]
        return ["conversation", content_digest(row.conversation), row.conversation.fork, judged]
    return [
        [[message.role, message.content] for message in row.task.messages],
        *([row.text, row.reasoning] if row.reasoning else [row.text]),
        [str(row.verdict.status), row.verdict.check, row.verdict.checks, row.verdict.checks_passed],
    ]


def _incomplete(candidate: Candidate, keep: Collection[str]) -> str:
    if candidate.conversation is not None:
        turns = candidate.conversation.turns
        kind = incomplete_answer(turns[last_answer(candidate.conversation)]) if turns else None
        return "" if kind is None or kind in keep else f"{kind}: it ended with {candidate.finish!r}"
    if is_usable(candidate.text, candidate.finish, keep):
        return ""
    return f"{incomplete(candidate.text, candidate.finish)}: it ended with {candidate.finish!r}"


def _secret(candidate: Candidate, secrets: Secrets) -> str:
    if secrets is not Secrets.DROP:
        return ""
    kinds = sorted({secret.kind for text in candidate.words() for secret in find_secrets(text)})
    return f"it holds a secret: {', '.join(kinds)}" if kinds else ""


def _unverified(candidate: Candidate) -> str:
    if candidate.verdict.status is VerdictStatus.PASSED:
        return ""
    if candidate.verdict.status is VerdictStatus.NOT_JUDGED:
        return ""  # a prompt without tests: its answers are kept as they are, and say so
    where = f" at {candidate.verdict.check}" if candidate.verdict.check else ""
    return f"{candidate.verdict.status}{where}: {candidate.verdict.reason}"


def _same_as(candidate: Candidate) -> bytes:
    if candidate.conversation is not None:
        return said_bytes(candidate.conversation)[:SAME_AS_BYTES]
    normal_form = code_digest(candidate.code) if candidate.code else digest_value(candidate.text)
    question = [[message.role, message.content] for message in candidate.task.messages]
    return raw_digest(digest_plain([question, normal_form]))[:SAME_AS_BYTES]


def _held_out(candidate: Candidate, protected: Protected) -> str:
    if candidate.task.split == "held-out":
        return f"held-out family: {candidate.task.family}"
    same = protected.codes.get(code_digest(candidate.code)) if candidate.code else None
    if same:
        return f"same code as the held-out: {same}"
    for text in candidate.words():
        gram = shared_ngram(text, protected.ngrams, protected.starts, NGRAM)
        if gram is not None:
            return f"shares words with the held-out: {protected.ngrams[gram]} ({' '.join(gram)})"
    return ""


def _denied(decision: Decision) -> str:
    if decision.allowed:
        return ""
    return f"{'quarantined' if Ground.REVOCATION in decision.grounds else 'denied'}: {decision.reason}"


def kind_of(reason: str) -> str:
    """The part of a reason that is counted: what stands before the particulars."""
    return reason.partition(":")[0].partition(" at ")[0]
