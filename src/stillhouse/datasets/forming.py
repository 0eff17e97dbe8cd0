"""Form a dataset: examine what is new, decide of everything, and say where each candidate ended. In bounded memory.

Heads of all candidates go into a database of their own on disk, without a name, which is gone with the process. Candidates whose
findings are not known are read and examined, in batches, by whatever engine there is. Decisions then come from heads and findings
alone, in the order of task, sample and key. Texts are read again only to be written.
"""

import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from stillhouse.canon import tagged_digest
from stillhouse.datasets.candidates import CandidateSource, Head
from stillhouse.datasets.content_tree import ContentTree
from stillhouse.datasets.filter import STEPS, Candidate, Examiner, Filter, Finding, content_digest_before_2026_12
from stillhouse.datasets.findings import KnownFindings
from stillhouse.datasets.temporary_database import temporary_database, temporary_errors
from stillhouse.engine.engine import Engine
from stillhouse.nouns import Decision, FunnelStep

# Small enough that a few batches of long texts are little, large enough that handing one over costs nothing beside the work.
_AT_ONCE = 256
_SCHEMA = """
CREATE TABLE found (
    id INTEGER PRIMARY KEY, source INTEGER, place INTEGER, row BLOB, task BLOB, sample INTEGER, key TEXT, stamps INTEGER,
    tokens INTEGER, incomplete BLOB, unverified BLOB, held_out BLOB, same_as BLOB, content BLOB, answers TEXT
);
CREATE TABLE drops (id INTEGER PRIMARY KEY, step TEXT, reason BLOB);
"""


class FormingRules(NamedTuple):
    """What decides which candidates become rows: as ``Examiner`` and ``Filter`` have it."""

    examiner: Examiner
    decisions: Mapping[int, Decision]
    wanted: Collection[str] = STEPS
    most: int = 0


class Placed(NamedTuple):
    """Where a candidate ended: at which step it was dropped and why, both empty where it is a row. ``content`` is a digest."""

    id: int
    source: int
    place: int
    row: bytes
    key: str
    stamps: int
    tokens: int
    content: str
    step: str
    reason: str


class Formed:
    """What came of forming. Use it as a context manager: it holds a database."""

    def __init__(self, sources: Sequence[CandidateSource]) -> None:
        """Nothing is placed yet: ``form`` does that."""
        self.sources = sources
        self.rows, self.content_digest = 0, ""
        self.funnel: tuple[FunnelStep, ...] = ()
        self.stamp_sets, self.tokens = Counter[int](), Counter[int]()
        self.answer_tokens, self.has_several = Counter[int](), False
        self.rows_of_source = Counter[int]()
        self.database = temporary_database(_SCHEMA)

    def __enter__(self) -> "Formed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    def count_answers(self, stamps: int, tokens: int, answers: str) -> None:
        """Count the tokens of a row by the sets of its answers."""
        self.has_several = self.has_several or bool(answers)
        by_set = {int(id): count for id, count in json.loads(answers).items()} if answers else {stamps: max(0, tokens)}
        self.answer_tokens.update(by_set)

    def placed(self, where: str = "TRUE") -> Iterator[Placed]:
        """Where each candidate ended, in the order of the sources; ``where`` is a condition on ``found`` and ``drops``."""
        query = f"""
            SELECT id, source, place, row, key, stamps, tokens, content, coalesce(step, ''), coalesce(reason, x'')
            FROM found LEFT JOIN drops USING (id) WHERE {where} ORDER BY id
        """  # noqa: S608 - our own conditions
        with temporary_errors():
            for id, source, place, row, key, stamps, tokens, content, step, reason in self.database.execute(query):
                yield Placed(id, source, place, row, key, stamps, tokens, tagged_digest(content), step, _text(reason))

    def with_texts(self, where: str = "TRUE") -> Iterator[tuple[Placed, Candidate]]:
        """The same with the candidates themselves, of which few are in memory at once."""
        for number, of_source in itertools.groupby(self.placed(where), key=lambda one: one.source):
            while some := list(itertools.islice(of_source, _AT_ONCE)):
                yield from zip(some, self.sources[number].read([one.place for one in some]), strict=True)

    @temporary_errors()
    def spread(self, condition: str, most: int) -> list[tuple[Placed, Candidate]]:
        """At most so many candidates, evenly from all that a condition holds for, in the order in which they were decided."""
        found = f"FROM found LEFT JOIN drops USING (id) WHERE {condition}"
        (count,) = self.database.execute(f"SELECT count(*) {found}").fetchone()
        places = {place * count // most for place in range(most)} if count > most else set(range(count))
        numbered = f"SELECT id, row_number() OVER (ORDER BY task, sample, key, id) - 1 AS place {found}"
        chosen = f"SELECT id FROM ({numbered}) WHERE place IN ({','.join(map(str, places))}) ORDER BY place"  # noqa: S608
        ids = [id for (id,) in self.database.execute(chosen)] if places else []
        order = {id: number for number, id in enumerate(ids)}
        candidates = self.with_texts(f"id IN ({','.join(map(str, ids))})") if ids else iter(())
        return sorted(candidates, key=lambda one: order[one[0].id])

    def digest_before_2026_12(self) -> str:
        """What stood for these rows until November 2026; they are all in memory for that, as they were then."""
        return content_digest_before_2026_12([candidate for _, candidate in self.with_texts("step IS NULL")])


def form(
    sources: Sequence[CandidateSource],
    rules: FormingRules,
    engine: Engine,
    cache: Path,
    reached: Callable[[int], None] = lambda looked_at: None,
) -> Formed:
    """Decide which candidates become rows. ``cache`` is the folder in which findings are kept; ``reached`` is told how many were
    looked at.

    Raises what reading the sources raises.
    """
    formed = Formed(sources)
    known = KnownFindings(cache, rules.examiner)
    try:
        with temporary_errors():
            _look(formed, rules.examiner, engine, known, reached)
            _decide(formed, rules)
    except BaseException:
        formed.database.close()
        raise
    finally:
        known.close()
    return formed


class _Group(NamedTuple):
    """Candidates of a source that are examined together, with their ids."""

    source: int
    heads: list[tuple[int, Head]]


def _look(
    formed: Formed, examiner: Examiner, engine: Engine, known: KnownFindings, reached: Callable[[int], None]
) -> None:
    """Heads and findings of all candidates, into the database. What an engine works on is in memory, and nothing else."""
    waiting: deque[_Group] = deque()
    ids, looked_at = itertools.count(), 0

    def write(source: int, found: Sequence[tuple[int, Head, Finding]]) -> None:
        nonlocal looked_at
        _write(formed, source, found)
        looked_at += len(found)
        reached(looked_at)

    def to_examine() -> Iterator[Sequence[Candidate]]:
        for number, source in enumerate(formed.sources):
            for some in _in_groups(source.heads()):
                heads = [(next(ids), head) for head in some]
                found = {} if source.is_erasable else known.known([head.row for _, head in heads])
                write(number, [(id, head, found[head.row]) for id, head in heads if head.row in found])
                unknown = [(id, head) for id, head in heads if head.row not in found]
                if unknown:
                    waiting.append(_Group(number, unknown))
                    yield list(source.read([head.place for _, head in unknown]))

    examined: Iterator[list[Finding]] = engine.map(examiner.examine, to_examine())
    for findings in examined:
        group = waiting.popleft()
        if not formed.sources[group.source].is_erasable:
            known.add([head.row for _, head in group.heads], findings)
        write(group.source, [(id, head, one) for (id, head), one in zip(group.heads, findings, strict=True)])


def _write(formed: Formed, source: int, found: Iterable[tuple[int, Head, Finding]]) -> None:
    values = [
        (
            id, source, head.place, head.row, _blob(head.task), head.sample, head.key, head.stamps, head.tokens,
            _blob(one.incomplete), _blob(one.unverified), _blob(one.held_out), one.same_as, one.content, head.answers,
        )
        for id, head, one in found
    ]  # fmt: skip
    formed.database.executemany("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _decide(formed: Formed, rules: FormingRules) -> None:
    """Go through all candidates in order: which are dropped, and what stands for the others."""
    filtering, tree = Filter(rules.decisions, rules.wanted, rules.most), ContentTree()
    query = """
        SELECT id, source, task, sample, stamps, tokens, incomplete, unverified, held_out, same_as, content, answers
        FROM found ORDER BY task, sample, key, id
    """
    try:
        for id, source, task, sample, stamps, tokens, *reasons, same_as, content, answers in formed.database.execute(
            query
        ):
            incomplete, unverified, held_out = map(_text, reasons)
            finding = Finding(incomplete, unverified, held_out, same_as, content)
            step, reason = filtering.drops_at(finding, stamps, f"sample {sample} of {_text(task)}")
            if step:
                formed.database.execute("INSERT INTO drops VALUES (?, ?, ?)", (id, step, _blob(reason)))
            else:
                tree.add(content)
                formed.stamp_sets[stamps] += 1
                formed.tokens[stamps] += max(0, tokens)
                formed.count_answers(stamps, tokens, answers)
                formed.rows_of_source[source] += 1
    finally:
        filtering.close()
    formed.rows, formed.funnel, formed.content_digest = filtering.kept, filtering.funnel(), tree.root()


def _in_groups(heads: Iterable[Head]) -> Iterator[list[Head]]:
    waiting = iter(heads)
    while group := list(itertools.islice(waiting, _AT_ONCE)):
        yield group


def _blob(text: str) -> bytes:
    """As SQLite takes and sorts any text: half a surrogate pair, too."""
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
