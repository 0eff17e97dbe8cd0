"""Rows that were imported, found again by key or by mark, from the indexes that their entries name.

The database has one line for each import and stamp set; the rows themselves stand in the indexes, objects of the vault. What is
asked of them is asked of sorted arrays that are made of an index once, lie in the home's cache and are mapped into memory: a
million rows in some 160 MB, found in a microsecond each. They can be deleted, and are made again.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from stillhouse.canon import digest_value, raw_digest
from stillhouse.home import facts
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.home.row_index import MARK_BYTES, read_index
from stillhouse.vault.files import storage_errors

if TYPE_CHECKING:
    import numpy

# What rows are found by.
ANSWER, CODE, ALIAS, KEY = "answer", "code", "aliases", "key"
# Objects of an index that are sorted as one: more of them are fewer arrays to look into, and more memory while they are sorted.
_TOGETHER = 40
_HALF = 8
_LINE = [("high", ">u8"), ("low", ">u8"), ("question_high", ">u8"), ("question_low", ">u8"), ("stamps", "<i8")]


class ImportedRow(NamedTuple):
    """A row that was found: by which mark, when it came, what it answers (zeros where that is not known), and its stamp set."""

    mark: str
    at: str
    question: str
    stamps: int


class WrittenImport(NamedTuple):
    """What the log says of an import, as ``facts.RowsImported`` has it."""

    know: str
    rows: int
    shapes: dict[str, int]
    skipped: dict[str, int]
    recognised: dict[str, dict[str, int]]
    shares: tuple[facts.ImportedShare, ...]


class _Import(NamedTuple):
    run: str
    at: str
    objects: tuple[str, ...]


def found(ledger: Ledger, by: str, marks: Iterable[str], but_runs: str | frozenset[str] = "") -> Iterator[ImportedRow]:
    """The rows with one of these marks (hex, or digests), but for those of a run, or of several. Raises CorruptObject."""
    left_out = {but_runs} if isinstance(but_runs, str) else but_runs
    imports = [one for one in _imports(ledger) if one.run not in left_out]
    named = {_bytes(mark): mark for mark in marks} if imports else {}
    if not named:
        return
    import numpy

    wanted = numpy.frombuffer(b"".join(sorted(named)), dtype=_LINE[:2])
    for one in imports:
        for lines in _sorted_lines(ledger, one, by):
            start = numpy.searchsorted(lines["high"], wanted["high"], "left")
            end = numpy.searchsorted(lines["high"], wanted["high"], "right")
            for place in numpy.flatnonzero(end > start):
                for line in lines[start[place] : end[place]]:
                    if line["low"] == wanted["low"][place]:
                        question = _hex(line["question_high"], line["question_low"])
                        mark = named[wanted[place].tobytes()]
                        yield ImportedRow(mark, one.at, question, int(line["stamps"]))


def knows(ledger: Ledger, but_run: str) -> str:
    """So much a home has to know rows by, but for an import: where that is the same, rows are recognised as they were."""
    counted = [select(func.count()).select_from(table) for table in (tables.answers, tables.acts)]
    counted.append(
        select(func.count(func.distinct(tables.row_imports.c.run))).where(tables.row_imports.c.run != but_run)
    )  # fmt: skip
    return "/".join(str(row[0]) for query in counted for row in all_rows(ledger, query))


def runs(ledger: Ledger) -> frozenset[str]:
    """The runs of all imports."""
    return frozenset(one.run for one in _imports(ledger))


def any_aliases(ledger: Ledger, but_run: str) -> bool:
    """Are any rows known by an alias, but for those of a run?"""
    imports = (one for one in _imports(ledger) if one.run != but_run)
    return any(len(lines) for one in imports for lines in _sorted_lines(ledger, one, ALIAS))


def keys_brought_by(ledger: Ledger, keys: Collection[str], those: Collection[str]) -> set[str]:
    """Those of some keys that some imports brought."""
    return {row.mark for row in found(ledger, KEY, keys, runs(ledger) - set(those))}


def keys_known(ledger: Ledger, keys: Collection[str], but_run: str = "") -> set[str]:
    """Those of some keys that were imported."""
    return {row.mark for row in found(ledger, KEY, keys, but_run)}


def of_stamps(ledger: Ledger, by: str, ids: Collection[int]) -> Iterator[tuple[str, str]]:
    """The marks of all rows with one of these stamp sets, in hex: of what they answer, and their own."""
    import numpy

    for one in _imports(ledger):
        for lines in _sorted_lines(ledger, one, by):
            for line in lines[numpy.isin(lines["stamps"], list(ids))]:
                yield _hex(line["question_high"], line["question_low"]), _hex(line["high"], line["low"])


def rows_by_stamps(ledger: Ledger) -> dict[tuple[int, str], tuple[int, int]]:
    """How many rows each import brought that the log had not before, and their tokens, by stamp set and run.

    An import that was written down twice counts once.
    """
    table = tables.imported_rows.c
    query = select(table.stamps, table.run, func.max(table.new).label("rows"), func.max(table.tokens).label("tokens"))
    query = query.group_by(table.stamps, table.run)
    return {(int(row.stamps), row.run): (int(row.rows), int(row.tokens)) for row in all_rows(ledger, query)}


def import_of(ledger: Ledger, run: str) -> WrittenImport | None:
    """What was written down of an import, last where it was more than once."""
    rows = list(as_written(all_rows(ledger, ordered(tables.row_imports).where(tables.row_imports.c.run == run))))
    row = rows[-1] if rows else None
    return row and WrittenImport(
        row.know, row.rows, decode(row.shapes, dict[str, int]), decode(row.skipped, dict[str, int]),
        decode(row.recognised, dict[str, dict[str, int]]), decode(row.shares, tuple[facts.ImportedShare, ...]),
    )  # fmt: skip


def _imports(ledger: Ledger) -> list[_Import]:
    by_run: dict[str, _Import] = {}
    for row in as_written(all_rows(ledger, ordered(tables.row_imports))):
        objects = decode(row._mapping["index"], tuple[str, ...])
        first = by_run.setdefault(row.run, _Import(row.run, row.at, objects))
        more = tuple(digest for digest in objects if digest not in first.objects)
        by_run[row.run] = first._replace(objects=first.objects + more)
    return list(by_run.values())


def _bytes(mark: str) -> bytes:
    """A mark, or as much of a digest as tells it from all others."""
    return raw_digest(mark)[:MARK_BYTES] if ":" in mark else bytes.fromhex(mark)


def _hex(high: Any, low: Any) -> str:
    return f"{int(high):016x}{int(low):016x}"


def _sorted_lines(ledger: Ledger, one: _Import, by: str) -> Iterator["numpy.ndarray[Any, Any]"]:
    """What an index has to be found by, sorted: of the cache, or made now."""
    if ledger.vault is None or ledger.cache is None:
        return
    for start in range(0, len(one.objects), _TOGETHER):
        digests = one.objects[start : start + _TOGETHER]
        path = ledger.cache / f"{digest_value(digests).partition(':')[2][:32]}-{by}.npy"
        lines = _cached(path)
        yield _made(ledger, path, digests, by) if lines is None else lines


def _cached(path: Path) -> "numpy.ndarray[Any, Any] | None":
    """The lines that were made before; None where there are none, or something else stands there."""
    import numpy

    with contextlib.suppress(OSError, ValueError, EOFError):
        lines: numpy.ndarray[Any, Any] = numpy.load(path, mmap_mode="r")
        if lines.dtype == numpy.dtype(_LINE) and lines.ndim == 1:
            return lines
    return None


def _made(ledger: Ledger, path: Path, digests: Sequence[str], by: str) -> "numpy.ndarray[Any, Any]":
    import numpy

    assert ledger.vault is not None
    parts = []
    for table in read_index(ledger.vault, digests, (by, "question", "stamps")):
        parts += [_lines(batch, by) for batch in table.to_batches()]
    lines = numpy.concatenate(parts) if parts else numpy.empty(0, dtype=_LINE)
    lines = lines[numpy.lexsort((lines["low"], lines["high"]))]
    with storage_errors(f"{path} could not be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        with new.open("wb") as file:
            numpy.save(file, lines)
        new.replace(path)
    return lines


def _lines(batch: Any, by: str) -> "numpy.ndarray[Any, Any]":
    """The lines of a batch that have such a mark; a row with several aliases is found by each."""
    import numpy
    import pyarrow
    import pyarrow.compute

    marks, rows = batch.column(by), numpy.arange(batch.num_rows)
    if by == ALIAS:
        rows = pyarrow.compute.list_parent_indices(marks).to_numpy(zero_copy_only=False)
        marks = marks.flatten()
    there = marks.is_valid().to_numpy(zero_copy_only=False)
    marks, rows = marks.filter(pyarrow.array(there)), rows[there]
    lines = numpy.zeros(len(rows), dtype=_LINE)
    lines["high"], lines["low"] = _halves(marks)
    question = batch.column("question")
    asked = question.fill_null(bytes(MARK_BYTES)) if question.null_count else question
    high, low = _halves(asked)
    lines["question_high"], lines["question_low"] = high[rows], low[rows]
    lines["stamps"] = batch.column("stamps").to_numpy(zero_copy_only=False)[rows]
    return lines


def _halves(marks: Any) -> tuple["numpy.ndarray[Any, Any]", "numpy.ndarray[Any, Any]"]:
    """The first sixteen bytes of each value of fixed width, as two numbers."""
    import numpy

    count, width = len(marks), marks.type.byte_width
    if not count:
        return numpy.empty(0, ">u8"), numpy.empty(0, ">u8")
    raw = numpy.frombuffer(marks.buffers()[1], "u1", count=count * width, offset=marks.offset * width)
    halves = numpy.ascontiguousarray(raw.reshape(count, width)[:, :MARK_BYTES]).view(">u8")
    return halves[:, 0], halves[:, 1]
