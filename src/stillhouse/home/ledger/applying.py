"""Entries of the log into the rows of a view: in batches, each in one transaction together with how far that brings it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, select

from stillhouse.errors import CorruptLog
from stillhouse.home import facts
from stillhouse.home.ledger.clean import clean, fits, may_be_odd
from stillhouse.home.ledger.databases import insert_new, is_refusal, reason_of
from stillhouse.home.ledger.projection import rows_of, tables
from stillhouse.vault.log import Log, LogEntry


class BatchSize(NamedTuple):
    """How many entries are applied at once, and bytes of them: not much in memory, where entries are long."""

    entries: int
    bytes: int


# Of a view without indexes: enough rows to make a transaction worth its commit, few enough to keep progress visible.
BUILDING = BatchSize(2000, 8 << 20)
# With its indexes a transaction writes every page that it touches, and keys fall everywhere: 100,000 answers wrote 4 GB with
# 2,000 entries at once. Few enough that others wait no longer than a second or two.
FOLLOWING = BatchSize(20_000, 32 << 20)

# Entries of one writer, at least one.
Batch = list[LogEntry]


def batches(log: Log, starts: Mapping[str, int], most: BatchSize = BUILDING) -> Iterator[Batch]:
    """What the log has after so many entries of each writer. Raises CorruptLog, CorruptObject."""
    for writer in log.writers():
        batch: Batch = []
        size = 0
        for entry in log.follow(writer, starts.get(writer, 0)):
            batch.append(entry)
            size += len(entry.payload)
            if len(batch) >= most.entries or size >= most.bytes:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def rows_by_table(batch: Iterable[LogEntry]) -> dict[Table, list[tuple[Any, ...]]]:
    """The rows of some entries, as a database can hold them. Raises CorruptLog for one of an unknown kind."""
    grouped: dict[Table, list[tuple[Any, ...]]] = {}
    for entry in batch:
        try:
            fact = facts.decode(entry.payload)
        except msgspec.MsgspecError as failure:
            writer, number = entry.position
            raise CorruptLog(
                f"entry {number} of {writer} is of a kind that this version does not know: {failure}"
            ) from failure
        (writer, number), at = entry.position, fact.at
        odd = may_be_odd(entry.payload)
        for place, row in enumerate(rows_of(fact)):
            values = (writer, number, place, at, *row.values)
            grouped.setdefault(row.table, []).append(
                clean(row.table, values) if odd or not fits(row.table, values) else values
            )
    return grouped


def apply_one_by_one(connection: Connection, batch: Batch, table_of: Callable[[Table], Table]) -> None:
    """Apply what can be applied; what this database refuses is counted and named, and holds up nothing else."""
    for entry in batch:
        try:
            with connection.begin_nested():
                for table, rows in rows_by_table([entry]).items():
                    insert_new(connection, table_of(table), rows)
        except Exception as failure:
            if not is_refusal(failure):
                raise
            insert_new(connection, table_of(tables.unviewed), [_unviewed(entry, failure)])


def move_cursor(connection: Connection, cursors: Table, batch: Batch) -> None:
    """Write down how far the view is."""
    (writer, last), chain = batch[-1].position, batch[-1].chain.hex()
    number = last + 1
    at = connection.execute(select(cursors.c.number).where(cursors.c.writer == writer)).scalar_one_or_none()
    if at is None:
        insert_new(connection, cursors, [(writer, number, chain)])
    elif at < number:
        connection.execute(cursors.update().where(cursors.c.writer == writer).values(number=number, chain=chain))


def _unviewed(entry: LogEntry, failure: Exception) -> tuple[Any, ...]:
    fact = facts.decode(entry.payload)
    return clean(tables.unviewed, (*entry.position, 0, fact.at, type(fact).__name__, reason_of(failure)[:500]))
