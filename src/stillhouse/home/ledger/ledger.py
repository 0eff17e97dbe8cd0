"""The ledger: opens the database, brings the view up to date with the log, rebuilds it, compares it."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.exc import SQLAlchemyError

from stillhouse.home.ledger import in_use
from stillhouse.home.ledger.applying import FOLLOWING, Batch, apply_one_by_one, batches, move_cursor, rows_by_table
from stillhouse.home.ledger.building import Reached, build, make_empty, nobody
from stillhouse.home.ledger.databases import database_errors, insert_new, is_refusal, open_database, writing
from stillhouse.home.ledger.projection import tables
from stillhouse.vault.entry_reader import EntryReader
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

# A view without rows is built in bulk, indexes last, where the log is longer than this; below, it makes no difference.
_LONG = 20_000
_ROWS_AT_ONCE = 1000


class _Swapped(Exception):
    """Another view is in use than the one that was being written."""


class Ledger:
    """One database. Everything it holds can be deleted and rebuilt from the log."""

    def __init__(
        self,
        url: str,
        swapped: Callable[[], None] = lambda: None,
        vault: Objects | None = None,
        cache: Path | None = None,
    ) -> None:
        """Open; a database without any view gets an empty one. Where an older version's is there, ``catch_up`` replaces it.

        ``swapped`` is called when another view was put in use here, so that others look. The ``vault`` has the indexes of
        imported rows; what is made of them to look into lies in the ``cache``. Raises LedgerUnavailable, HomeNewer.
        """
        self.url = url
        self.vault, self.cache = vault, cache
        self.entries: EntryReader | None = None
        self._swapped = swapped
        self._token = ""
        with database_errors():
            self.engine = open_database(url)
            try:
                self._open()
            except BaseException:
                self.engine.dispose()
                raise

    def close(self) -> None:
        """Close all connections."""
        if self.entries is not None:
            self.entries.close()
        self.engine.dispose()

    def catch_up(self, log: Log, reached: Reached = nobody) -> int:
        """Apply what the log has and the view has not; returns how many entries that were.

        A view of an older version, and one that knows entries which the log does not have (after power loss, or another log), is
        rebuilt. Raises HomeNewer where a newer version has swapped the view since it was opened, CorruptLog.
        """
        if self.entries is None or self.entries.log is not log:
            self.entries = EntryReader(log)
        with database_errors():
            while True:
                if not self._look():
                    return self._build(log, reached)
                try:
                    return self._follow(log, reached)
                except _Swapped:
                    continue
                except SQLAlchemyError:  # tables that are gone: by a swap, or for another reason
                    token = self._token
                    if self._look() and self._token == token:
                        raise

    def rebuild(self, log: Log, reached: Reached = nobody) -> int:
        """Rebuild the view from the log's start, and put it in the place of the one in use."""
        with database_errors():
            self._look()
            return self._build(log, reached)

    def differences(self, log: Log) -> list[str]:
        """Compare with a view built from the log alone, beside this one; says which tables differ.

        An entry that either database refused is compared with nothing.
        """
        with tempfile.TemporaryDirectory(prefix="stillhouse-view-") as folder:
            fresh = Ledger(f"sqlite:///{folder}/ledger.db")
            try:
                fresh.catch_up(log)
                with database_errors():
                    engines = (self.engine, fresh.engine)
                    refused = {row[:2] for engine in engines for row in _rows(engine, tables.unviewed)}
                    compared = {
                        name: _compared(*(_rows(engine, table, refused) for engine in engines))
                        for name, table in tables.by_name.items()
                        if table is not tables.unviewed
                    }
            finally:
                fresh.close()
        return [f"{name}: {different}" for name, different in compared.items() if different]

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        with database_errors(), self.engine.connect() as connection:
            return {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in tables.by_name.items()
            }

    def _open(self) -> None:
        with self.engine.connect() as connection:
            if in_use.is_prepared(connection):
                in_use.view_in_use(connection)
                return
            fresh = not in_use.tables_of_other_views(connection)
        if fresh:
            self._token = make_empty(self.engine).token

    def _look(self) -> bool:
        """Is the view in use this version's own? Raises HomeNewer."""
        with self.engine.connect() as connection:
            found = in_use.view_in_use(connection) if self._token or in_use.is_prepared(connection) else None
        self._token = found.token if found is not None and found.is_ours else ""
        return bool(self._token)

    def _build(self, log: Log, reached: Reached) -> int:
        found, applied = build(self.engine, log, self._token, reached)
        self._token = found.token
        self._swapped()
        return applied

    def _follow(self, log: Log, reached: Reached) -> int:
        with self.engine.connect() as connection:
            cursors = {row.writer: row for row in connection.execute(select(tables.cursors))}
        if not all(log.holds(row.writer, row.number, row.chain) for row in cursors.values()):
            return self._build(log, reached)
        if not cursors and log.count() > _LONG:
            return self._build(log, reached)
        starts = {row.writer: row.number for row in cursors.values()}
        return sum(self._apply(batch) for batch in batches(log, starts, FOLLOWING))

    def _apply(self, batch: Batch) -> int:
        """Apply entries of one writer in one transaction, together with how far that brings us."""
        grouped = rows_by_table(batch)
        try:
            with writing(self.engine) as connection:
                self._check_swap(connection)
                for table, rows in grouped.items():
                    insert_new(connection, table, rows)
                move_cursor(connection, tables.cursors, batch)
        except Exception as failure:
            if not is_refusal(failure):
                raise
            with writing(self.engine) as connection:
                self._check_swap(connection)
                apply_one_by_one(connection, batch, lambda table: table)
                move_cursor(connection, tables.cursors, batch)
        return len(batch)

    def _check_swap(self, connection: Connection) -> None:
        found = in_use.view_in_use(connection)
        if found is None or found.token != self._token:
            raise _Swapped


def _rows(engine: Engine, table: Table, without: Set[tuple[Any, ...]] = frozenset()) -> Iterator[tuple[Any, ...]]:
    """All rows of a table in order, but for those of some entries."""
    with engine.connect() as connection:
        streamed = connection.execution_options(yield_per=_ROWS_AT_ONCE)
        for row in streamed.execute(select(table).order_by(*table.primary_key.columns)):
            if not without or tuple(row)[:2] not in without:
                yield tuple(row)


def _compared(here: Iterator[tuple[Any, ...]], there: Iterator[tuple[Any, ...]]) -> str:
    """How the rows of two views differ, in words; empty where they do not."""
    counts, same = [0, 0], True
    for pair in itertools.zip_longest(here, there):
        same = same and pair[0] == pair[1]
        counts = [count + (row is not None) for count, row in zip(counts, pair, strict=True)]
    if same:
        return ""
    more = "" if counts[0] != counts[1] else ", but not the same ones"
    return f"{counts[0]} rows here, {counts[1]} in the log's view{more}"
