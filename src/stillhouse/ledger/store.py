"""The ledger: opens the database, brings the view up to date with the log, rebuilds it, compares it."""

import contextlib
from collections.abc import Iterable, Iterator, Set
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, create_engine, event, func, inspect, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from stillhouse import facts
from stillhouse.errors import CorruptLog, HomeNewer, LedgerUnavailable, StorageError
from stillhouse.ledger import schema
from stillhouse.ledger.clean import clean
from stillhouse.ledger.view import rows_of
from stillhouse.vault.log import Entry, Log

# The revision that this code's schema is; a test compares it with the migrations.
REVISION = "0007"
# Enough rows to make a transaction worth its commit, few enough to keep progress visible.
_ENTRIES_PER_TRANSACTION = 2000
# And not much in memory at once, where entries are long.
_BYTES_PER_TRANSACTION = 8 << 20


class Ledger:
    """One database. Everything it holds can be deleted and rebuilt from the log."""

    def __init__(self, url: str) -> None:
        """Open and, where needed, migrate. Raises LedgerUnavailable, HomeNewer."""
        self.url = url
        with database_errors():
            self.engine = _engine(url)
            try:
                self._migrate()
            except BaseException:
                self.engine.dispose()
                raise

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def catch_up(self, log: Log) -> int:
        """Apply what the log has and the view has not; returns how many entries that were.

        A view that knows entries which the log does not have (after power loss, or another log) is built anew.
        """
        applied = 0
        with database_errors():
            with self.engine.connect() as connection:
                cursors = {row.writer: row for row in connection.execute(select(schema.cursors))}
            if not all(log.holds(row.writer, row.number, row.chain) for row in cursors.values()):
                return self.rebuild(log)
            for writer in log.writers():
                batch: list[Entry] = []
                size = 0
                start = cursors[writer].number if writer in cursors else 0
                for entry in log.follow(writer, start):
                    batch.append(entry)
                    size += len(entry.payload)
                    if len(batch) >= _ENTRIES_PER_TRANSACTION or size >= _BYTES_PER_TRANSACTION:
                        applied += self._apply(batch)
                        batch, size = [], 0
                applied += self._apply(batch)
        return applied

    def _apply(self, entries: list[Entry]) -> int:
        """Apply entries of one writer in one transaction, together with how far that brings us."""
        if not entries:
            return 0
        grouped = _group(entries)
        try:
            with self.engine.begin() as connection:
                for table, rows in grouped.items():
                    connection.execute(_insert_new(connection, table), rows)
                self._moved(connection, entries)
        except (SQLAlchemyError, ValueError, OverflowError, TypeError) as failure:
            if not _is_refusal(failure):
                raise
            self._apply_one_by_one(entries)
        return len(entries)

    def _apply_one_by_one(self, entries: list[Entry]) -> None:
        """Apply what can be applied; what this database refuses is counted and named, and holds up nothing else."""
        with self.engine.begin() as connection:
            for entry in entries:
                try:
                    with connection.begin_nested():
                        for table, rows in _group([entry]).items():
                            connection.execute(_insert_new(connection, table), rows)
                except (SQLAlchemyError, ValueError, OverflowError, TypeError) as failure:
                    if not _is_refusal(failure):
                        raise
                    connection.execute(_insert_new(connection, schema.unviewed), [_unviewed(entry, failure)])
            self._moved(connection, entries)

    def _moved(self, connection: Connection, entries: list[Entry]) -> None:
        """Write down how far the view is."""
        (writer, last), chain = entries[-1].position, entries[-1].chain.hex()
        number = last + 1
        at = connection.execute(
            select(schema.cursors.c.number).where(schema.cursors.c.writer == writer)
        ).scalar_one_or_none()
        if at is None:
            connection.execute(
                _insert_new(connection, schema.cursors), [{"writer": writer, "number": number, "chain": chain}]
            )
        elif at < number:
            connection.execute(
                schema.cursors.update().where(schema.cursors.c.writer == writer).values(number=number, chain=chain)
            )

    def rebuild(self, log: Log) -> int:
        """Forget everything and read the log from its start."""
        with database_errors(), self.engine.begin() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(table.delete())
        return self.catch_up(log)

    def differences(self, log: Log) -> list[str]:
        """Compare with a view built from the log alone, in memory; says which tables differ.

        An entry that either database refused is compared with nothing.
        """
        fresh = Ledger("sqlite://")
        fresh.catch_up(log)
        with database_errors():
            refused = {row[:2] for engine in (self.engine, fresh.engine) for row in _rows(engine, schema.unviewed)}
            found = [
                f"{table.name}: {len(here)} rows here, {len(there)} in the log's view"
                + ("" if len(here) != len(there) else ", but not the same ones")
                for table in schema.metadata.sorted_tables
                if table is not schema.unviewed
                and (here := _rows(self.engine, table, refused)) != (there := _rows(fresh.engine, table, refused))
            ]
        fresh.close()
        return found

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        with database_errors(), self.engine.connect() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in schema.metadata.sorted_tables
            }

    def _migrate(self) -> None:
        """Bring the schema to REVISION; alembic is imported only when there is something to do."""
        with self.engine.connect() as connection:
            revision = None
            if inspect(connection).has_table("alembic_version"):
                revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        if revision == REVISION:
            return
        if revision is not None and revision > REVISION:
            raise HomeNewer(f"(its ledger has schema {revision}, this version knows {REVISION})")
        from stillhouse.ledger.migrations.apply import upgrade

        upgrade(self.engine)


# What SQLite says of its file, and what helps: the ledger is a view of the log.
_FREE = "Free some space, then run the command again; it resumes."
_REMOVE = (
    "Remove ledger.db, ledger.db-wal and ledger.db-shm from the home: the next command builds them anew from the log."
)
_ADVICE = {
    "file is not a database": _REMOVE,
    "malformed": _REMOVE,
    "unable to open database file": "Look whether the home can be written and its disk has room.",
    "readonly database": "The home must be writable.",
    "disk I/O error": "Look whether the disk is full or failing; the log has everything, and ledger.db can be built anew.",
}


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn the database's refusals into LedgerUnavailable."""
    try:
        yield
    except (SQLAlchemyError, ImportError) as failure:
        reason = _reason(failure)
        if "database or disk is full" in reason:
            raise StorageError(f"The ledger could not be written: {reason}.", next_step=_FREE) from failure
        advice = next((advice for words, advice in _ADVICE.items() if words in reason), "")
        raise LedgerUnavailable(f"({reason})", next_step=advice) from failure


def _reason(failure: Exception) -> str:
    cause = failure.orig if isinstance(failure, DBAPIError) else failure
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            # The log is the truth, so the view need not survive power loss; NORMAL keeps it consistent.
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def _insert_new(connection: Connection, table: Table) -> Any:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # takes a while to import, and most homes have none

        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def _group(entries: Iterable[Entry]) -> dict[Table, list[dict[str, Any]]]:
    grouped: dict[Table, list[dict[str, Any]]] = {}
    for entry in entries:
        try:
            fact = facts.decode(entry.payload)
        except msgspec.MsgspecError as failure:
            writer, number = entry.position
            raise CorruptLog(
                f"entry {number} of {writer} is of a kind that this version does not know: {failure}"
            ) from (failure)
        where = {"writer": entry.position.writer, "number": entry.position.number, "at": fact.at}
        for place, row in enumerate(rows_of(fact)):
            values = {**where, "place": place, **row.values}
            grouped.setdefault(row.table, []).append(clean(row.table, values))
    return grouped


# PostgreSQL's classes of errors that are about a value: data exceptions, constraints, limits (its appendix A).
_VALUES = ("22", "23", "54")


def _is_refusal(failure: Exception) -> bool:
    """Is it the value that the database refuses, and not the database that is in trouble?"""
    if not isinstance(failure, DBAPIError):
        return not isinstance(failure, SQLAlchemyError)
    state = getattr(failure.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_VALUES)
    return not isinstance(failure, OperationalError | InterfaceError)


def _unviewed(entry: Entry, failure: Exception) -> dict[str, Any]:
    fact = facts.decode(entry.payload)
    values = {
        "writer": entry.position.writer,
        "number": entry.position.number,
        "place": 0,
        "at": fact.at,
        "kind": type(fact).__name__,
        "reason": _reason(failure)[:500],
    }
    return clean(schema.unviewed, values)


def _rows(engine: Engine, table: Table, without: Set[tuple[Any, ...]] = frozenset()) -> list[tuple[Any, ...]]:
    """All rows of a table in order, but for those of some entries."""
    with engine.connect() as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns))
        return [tuple(row) for row in found if not without or tuple(row)[:2] not in without]
