"""One pass over a corpus: rows are read in groups, recognised, and counted or stored."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import NamedTuple

from stillhouse.conversations.redaction import Secrets
from stillhouse.datasets.corpora.corpus_reading import CorpusLine, LeftOutRows, Reading, Unread, as_said, lines_in
from stillhouse.datasets.corpora.origins import Declared, withheld
from stillhouse.datasets.corpora.row_files import RowFile
from stillhouse.datasets.filter import kind_of
from stillhouse.datasets.import_staging import Counts, Staged, Staging
from stillhouse.datasets.recognition import Recogniser
from stillhouse.datasets.row_reader import ReadRow, RowReader
from stillhouse.errors import UsageError
from stillhouse.home.ledger import answer_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import Decision, StampSet, Use
from stillhouse.permission.decide import Door

_ROWS_AT_ONCE, _TEXT_AT_ONCE = 2000, 8 << 20
# Some of these are with each worker, and in memory here, too.
_ROWS_A_BATCH, _TEXT_A_BATCH = 500, 1 << 20
# So large a row counts as that was parsed when it was read, as those of tables are.
_PARSED = 16_000
# Each stamp set is decided, written down and held in memory by itself, in 4 kB.
_MOST_SETS = 50_000


class ImportRequest(NamedTuple):
    """What is to be imported, under which name, for which use, and as what."""

    path: Path
    name: str
    use: Use
    declared: Declared
    erasable: str = ""
    keep: tuple[str, ...] = ()
    secrets: Secrets = Secrets.KEEP

    @property
    def reader(self) -> RowReader:
        """What reads its rows."""
        return RowReader(self.reading, self.keep, self.secrets)

    @property
    def reading(self) -> Reading:
        """How its rows are understood: of those that are to be erasable, words of their own are not written down."""
        return Reading(self.declared, withheld if self.erasable else as_said)


class Group(NamedTuple):
    """Rows that are looked up together, and of how many lines they are."""

    rows: list[ReadRow | Unread]
    lines: int


class Pass(NamedTuple):
    """What one pass over a corpus found."""

    counts: Counts
    sets: dict[int, StampSet]
    left_out: LeftOutRows


class KeepDecisions:
    """What may be kept of an import, by stamp set; each is decided once, and what may not be stored at all ends it."""

    def __init__(self, home: Home, request: ImportRequest) -> None:
        self._home, self._request = home, request
        self._found: dict[int, Decision] = {}

    def check(self, sets: Iterable[StampSet]) -> None:
        """Decide. Raises PolicyRefusal for one that may not be stored."""
        for stamps in sets:
            if stamps.id not in self._found:
                self._home.doors.check(Door.USE, f"import {self._request.name}", stamps.stamps, Use.STORE)
                self._found[stamps.id] = self._home.policy.check(Door.KEEP, stamps.stamps, self._request.use)

    def told(self) -> dict[int, str]:
        """Why each set that was checked is denied; "" for those that are allowed."""
        return {id: "" if one.allowed else one.reason for id, one in self._found.items()}

    def of(self, stamps: StampSet) -> Decision:
        """The decision about a set that was checked."""
        return self._found[stamps.id]


def look_through(
    home: Home,
    files: Sequence[RowFile],
    reader: RowReader,
    progress: Progress,
    left_out: LeftOutRows,
    recogniser: Recogniser,
) -> Pass:
    """One pass over the rows, which keeps counts alone."""
    progress.start("scan rows", 0)
    counts, sets = Counts(), dict[int, StampSet]()
    for group in _groups(home, lines_in(files, left_out), reader):
        for one in _recognised(recogniser, _read_of(group.rows, left_out)):
            counts.rows += 1
            _count_end(counts, one)
            sets |= {stamps.id: stamps for stamps in _turn_sets(one)}
            counts.read[one.stamps.id] = counts.read.get(one.stamps.id, 0) + 1
            counts.shapes[one.row.read.said.shape] = counts.shapes.get(one.row.read.said.shape, 0) + 1
            sets.setdefault(one.stamps.id, one.stamps)
        _check_sets(sets)
        progress.update(counts.rows)
    progress.finish(f"{counts.rows} rows")
    counts.recognised = recogniser.told()
    return Pass(counts, sets, left_out)


def store(
    home: Home,
    request: ImportRequest,
    run: str,
    files: Sequence[RowFile],
    staging: Staging,
    decisions: KeepDecisions,
    progress: Progress,
) -> Pass:
    """One pass over the rows, which stores them as they come."""
    counts = staging.counts
    left_out, recogniser = LeftOutRows(), Recogniser(home, run)
    left_out.rows.update(counts.left_out)
    left_out.examples.update(counts.examples)
    recogniser.resume(counts.recognised)
    sets = {stamps.id: stamps for stamps in counts.sets}
    progress.start(f"import {request.path}", 0)
    if counts.lines:
        progress.say(f"going on after line {counts.lines:,}")
    done = counts.lines
    reader = request.reader
    for group in _groups(home, lines_in(files, left_out, counts.lines), reader):
        ready = list(_recognised(recogniser, _read_of(group.rows, left_out)))
        every = [stamps for one in ready for stamps in (one.stamps, *one.row.read.answers)]
        decisions.check(every)
        sets |= {stamps.id: stamps for stamps in every}
        ready = [_before_denied(one, reader, decisions) for one in ready]
        decisions.check(one.stamps for one in ready)
        for one in ready:
            sets |= {stamps.id: stamps for stamps in (one.stamps, *_turn_sets(one))}
            _count_end(counts, one)
        _check_sets(sets)
        named = [staging.key(one) for one in ready]
        known = answer_queries.known(home.ledger, [key for _, key in named], run)
        full = False
        for one, (prompt, key) in zip(ready, named, strict=True):
            full |= staging.take(one, prompt, key, decisions.of(one.stamps), is_known=key in known)
        done += group.lines
        progress.update(counts.rows)
        if full:
            counts.sets, counts.decided = list(sets.values()), decisions.told()
            staging.save(done, left_out, recogniser.told())
    progress.finish(f"{sum(counts.kept.values()):,} rows kept of {counts.rows:,}")
    counts.recognised = recogniser.told()
    return Pass(counts, sets, left_out)


def _turn_sets(one: Staged) -> Iterator[StampSet]:
    """The sets that turns of a row carry: what they stand for is written down with the row's own."""
    yield from one.row.read.answers
    if one.row.read.inputs is not None:
        yield one.row.read.inputs


def _count_end(counts: Counts, one: Staged) -> None:
    for secret in one.row.redacted:
        counts.redacted[secret] = counts.redacted.get(secret, 0) + 1
    if one.row.ends:
        kind = kind_of(one.row.ends)
        counts.shortened[kind] = counts.shortened.get(kind, 0) + 1


def _before_denied(one: Staged, reader: RowReader, decisions: KeepDecisions) -> Staged:
    """A row that is denied, up to its first denied answer; the row itself where that leaves nothing, or denies nothing."""
    if not one.row.read.answers or decisions.of(one.stamps).allowed:
        return one

    def denied(stamps: int) -> str:
        reason = decisions.told().get(stamps, "")
        return f"denied: {reason}" if reason else ""

    told = {stamp for stamps in _turn_sets(one) for stamp in stamps.stamps}
    shorter = reader.before_denied(one.row, denied) if told.issuperset(one.stamps.stamps) else None
    return Staged(shorter, shorter.read.stamps) if shorter is not None else one


def _check_sets(sets: Sized) -> None:
    """Origins that differ in every row are no origins: ids that stand in a column of models, or days with a time."""
    if len(sets) > _MOST_SETS:
        raise UsageError(
            f"These rows have more than {_MOST_SETS:,} different origins (model, host, day, terms).",
            next_step="Look at the columns that name the model: they may hold ids. Or import the files in parts.",
        )


def _groups(home: Home, lines: Iterable[CorpusLine], reader: RowReader) -> Iterator[Group]:
    """Lines in groups that are looked up together; workers read them in smaller ones."""
    rows: list[ReadRow | Unread] = []
    size = read = 0
    for batch in home.engine.map(reader.read, _batches(lines)):
        rows += batch.rows
        size += batch.text
        read += batch.lines
        if len(rows) >= _ROWS_AT_ONCE or size >= _TEXT_AT_ONCE:
            yield Group(rows, read)
            rows, size, read = [], 0, 0
    if read:
        yield Group(rows, read)


def _batches(lines: Iterable[CorpusLine]) -> Iterator[list[CorpusLine]]:
    batch: list[CorpusLine] = []
    size = 0
    for one in lines:
        batch.append(one)
        size += len(one.line.text) or _PARSED
        if len(batch) >= _ROWS_A_BATCH or size >= _TEXT_A_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_of(group: Iterable[ReadRow | Unread], left_out: LeftOutRows) -> list[ReadRow]:
    """Those that were read; the others are counted."""
    for one in group:
        if isinstance(one, Unread):
            left_out.row(*one)
    return [one for one in group if isinstance(one, ReadRow)]


def _recognised(recogniser: Recogniser, rows: Sequence[ReadRow]) -> Iterator[Staged]:
    """Rows with the stamps that the home knows of them."""
    sets = recogniser.recognise([(row.marks, row.read.stamps, row.read.own) for row in rows])
    for row, stamps in zip(rows, sets, strict=True):
        yield Staged(row, stamps)
