"""Rows of the view, for the files of questions beside this one: in the order in which they were recorded, by keys, as facts."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Table, select

from stillhouse.home.ledger.databases import database_errors
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import AFact, fact_of, tables

# SQLite takes 32,766 parameters in a statement; a thousand keeps statements small everywhere.
_KEYS_PER_QUERY = 1000


def recorded(ledger: Ledger, kind: type[AFact], *conditions: ColumnElement[bool]) -> list[AFact]:
    """All facts of a kind, in the order in which they were written down."""
    query = ordered(tables.by_name[kind.tables[0].name]).where(*conditions)
    return [fact_of(kind, row) for row in as_written(all_rows(ledger, query))]


def ordered(table: Table, *columns: ColumnElement[Any]) -> Select[Any]:
    """A table's rows, or some columns of them, in the order in which they were written down."""
    return select(*columns or (table,)).order_by(table.c.at, table.c.writer, table.c.number, table.c.place)


def as_written(rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
    """Rows in the order in which they were written down: each writer's by their numbers, whatever a clock said; between writers
    by the clock, since there is nothing else.
    """
    by_writer: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_writer.setdefault(row.writer, []).append(row)
    waiting = [
        (deque(sorted(found, key=lambda row: (row.number, row.place))), writer) for writer, found in by_writer.items()
    ]
    while waiting:
        queue, writer = min(waiting, key=lambda one: (one[0][0].at, one[1]))
        yield queue.popleft()
        if not queue:
            waiting.remove((queue, writer))


def all_rows(ledger: Ledger, query: Select[Any]) -> Iterator[Row[Any]]:
    """The rows of a query, one after the other. Raises LedgerUnavailable."""
    with database_errors(), ledger.engine.connect() as connection:
        yield from connection.execute(query)


def in_groups(keys: Iterable[str]) -> Iterator[list[str]]:
    """Keys in groups that a statement takes."""
    iterator = iter(keys)
    while group := list(itertools.islice(iterator, _KEYS_PER_QUERY)):
        yield group


def by_keys(ledger: Ledger, table: Table, column: ColumnElement[str], keys: Iterable[str]) -> Iterator[Row[Any]]:
    """The rows whose column is one of these keys; in order within each group."""
    for chunk in in_groups(keys):
        yield from all_rows(ledger, ordered(table).where(column.in_(chunk)))


def decode(data: str, kind: Any) -> Any:
    """What a column holds as JSON."""
    return msgspec.json.decode(data, type=kind)
