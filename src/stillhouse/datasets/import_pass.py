"""One pass over a corpus: rows are read in groups, recognised, and counted or stored."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stillhouse.datasets.corpora.corpus_reading import LeftOutRows, Read, as_said, read_lines
from stillhouse.datasets.corpora.origins import Declared, withheld
from stillhouse.datasets.corpora.row_files import RowFile
from stillhouse.datasets.import_staging import Counts, Staged, Staging
from stillhouse.datasets.recognition import Recogniser, mark_row
from stillhouse.home.ledger import answer_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import Decision, StampSet, Use
from stillhouse.permission.decide import Door

_ROWS_AT_ONCE, _TEXT_AT_ONCE = 2000, 8 << 20


class ImportRequest(NamedTuple):
    """What is to be imported, under which name, for which use, and as what."""

    path: Path
    name: str
    use: Use
    declared: Declared
    erasable: str = ""
    keep: tuple[str, ...] = ()


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
    declared: Declared,
    progress: Progress,
    left_out: LeftOutRows,
    recogniser: Recogniser,
    *,
    is_withheld: bool,
) -> Pass:
    """One pass over the rows, which keeps counts alone."""
    progress.start("scan rows", 0)
    counts, sets = Counts(), dict[int, StampSet]()
    reads = read_lines(files, declared, left_out, withheld if is_withheld else as_said)
    for group in _groups(reads):
        for one in _recognised(recogniser, group):
            counts.rows += 1
            counts.read[one.stamps.id] = counts.read.get(one.stamps.id, 0) + 1
            counts.shapes[one.read.said.shape] = counts.shapes.get(one.read.said.shape, 0) + 1
            sets.setdefault(one.stamps.id, one.stamps)
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
    reads = read_lines(
        files, request.declared, left_out, withheld if request.erasable else as_said, skip=counts.lines
    )  # fmt: skip
    for group in _groups(reads):
        ready = list(_recognised(recogniser, group))
        for one in ready:
            sets.setdefault(one.stamps.id, one.stamps)
        decisions.check(one.stamps for one in ready)
        named = [staging.key(one) for one in ready]
        known = answer_queries.known(home.ledger, [key for _, key in named], run)
        full = False
        for one, (prompt, key) in zip(ready, named, strict=True):
            full |= staging.take(one, prompt, key, decisions.of(one.stamps), is_known=key in known)
        done += len(group)
        progress.update(counts.rows)
        if full:
            counts.sets, counts.decided = list(sets.values()), decisions.told()
            staging.save(done, left_out, recogniser.told())
    progress.finish(f"{sum(counts.kept.values()):,} rows kept of {counts.rows:,}")
    counts.recognised = recogniser.told()
    return Pass(counts, sets, left_out)


def _groups(reads: Iterable[Read | None]) -> Iterator[list[Read | None]]:
    """Rows in groups that are looked up together, and are in memory together."""
    group: list[Read | None] = []
    size = 0
    for read in reads:
        group.append(read)
        if read is not None:
            size += len(read.said.text) + len(read.rest) + sum(len(turn.content) for turn in read.said.messages)
        if len(group) >= _ROWS_AT_ONCE or size >= _TEXT_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _recognised(recogniser: Recogniser, group: Sequence[Read | None]) -> Iterator[Staged]:
    """Rows with the stamps that the home knows of them."""
    reads = [read for read in group if read is not None]
    marked = [mark_row(read.said) for read in reads]
    sets = recogniser.recognise([(row, read.stamps, read.own) for row, read in zip(marked, reads, strict=True)])
    yield from map(Staged, reads, marked, sets)
