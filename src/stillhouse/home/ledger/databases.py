"""The databases a view can be in: SQLite (a file, or memory) and PostgreSQL. What differs between them is here, and only here."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from stillhouse.errors import LedgerUnavailable, StorageError
from stillhouse.interrupts import interruptible, shielded
from stillhouse.vault.locks import try_for, wait_for

# What a database says of itself, and what helps: the ledger is a view of the log.
_FREE = "Free some space, then run the command again; it resumes."
_REMOVE = (
    "Remove ledger.db, ledger.db-wal and ledger.db-shm from the home: the next command rebuilds them from the log."
)
_ADVICE = {
    "file is not a database": _REMOVE,
    "malformed": _REMOVE,
    "unable to open database file": "Look whether the home can be written and its disk has room.",
    "readonly database": "The home must be writable.",
    "disk I/O error": "Look whether the disk is full or failing; the log has everything, and ledger.db can be rebuilt.",
    "database is locked": "Another process has been writing to it for half a minute: look whether one is suspended.",
    "permission denied for schema": "A view is built in new tables: GRANT CREATE ON SCHEMA to this user, then run it again.",
}
# PostgreSQL's classes of errors that are about a value: data exceptions, constraints, limits (its appendix A).
_VALUES = ("22", "23", "54")
# Two numbers of our own name the lock in PostgreSQL; the second is the schema's.
_BUILDING = 0x57111


def open_database(url: str) -> Engine:
    """An engine for a URL. Raises what ``database_errors`` turns into LedgerUnavailable."""
    engine = create_engine(url)
    if is_sqlite(engine):

        @event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            # The log is the truth, so the view need not survive power loss; NORMAL keeps it consistent.
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def is_sqlite(bind: Engine | Connection) -> bool:
    """Is it SQLite, and not PostgreSQL?"""
    return bind.dialect.name == "sqlite"


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn the database's refusals into LedgerUnavailable."""
    try:
        yield
    except (SQLAlchemyError, ImportError) as failure:
        reason = reason_of(failure)
        if "database or disk is full" in reason:
            raise StorageError(f"The ledger could not be written: {reason}.", next_step=_FREE) from failure
        advice = next((advice for words, advice in _ADVICE.items() if words in reason), "")
        raise LedgerUnavailable(f"({reason})", next_step=advice) from failure


def reason_of(failure: BaseException) -> str:
    """What a database says is wrong, in a line."""
    cause = failure.orig if isinstance(failure, DBAPIError) else failure
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def is_refusal(failure: Exception) -> bool:
    """Is it the value that the database refuses, and not the database that is in trouble?"""
    cause = failure.orig if isinstance(failure, DBAPIError) else failure
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_VALUES)
    if isinstance(failure, DBAPIError):
        return not isinstance(failure, OperationalError | InterfaceError)
    return isinstance(failure, ValueError | OverflowError | TypeError)


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is going to write. On SQLite it has the write lock from its start, so that what it reads stays true; and
    changes of tables are a part of it, which its driver would else commit one by one.
    """
    with _transaction(engine, *(["BEGIN IMMEDIATE"] if is_sqlite(engine) else [])) as connection:
        yield connection


@contextlib.contextmanager
def _transaction(engine: Engine, *first: str) -> Iterator[Connection]:
    """A transaction that begins with some statements. An interrupt in the middle of its beginning or its end would leave it open,
    and this process would wait for itself when it closes the home: it comes before or after them.
    """
    with shielded(), engine.begin() as connection:
        for statement in first:
            connection.exec_driver_sql(statement)
        with interruptible():
            yield connection


@contextlib.contextmanager
def building_alone(engine: Engine, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Nobody else builds a view in this database while the block runs; waits for whoever does, once ``waiting`` was told. A kill
    releases it.
    """
    if not is_sqlite(engine):
        key = f"({_BUILDING}, hashtext(current_schema()))"
        with _transaction(engine) as connection:  # whose end lets go of it, however it comes
            if not connection.execute(text(f"SELECT pg_try_advisory_xact_lock{key}")).scalar():
                waiting()
                connection.execute(text(f"SELECT pg_advisory_xact_lock{key}"))
            yield
        return
    path = engine.url.database
    if not path or path == ":memory:":
        yield
        return
    try:
        lock = try_for(Path(f"{path}-building"))
        if lock is None:
            waiting()
            lock = wait_for(Path(f"{path}-building"))
    except StorageError as failure:
        raise LedgerUnavailable(f"({failure})") from failure
    with lock:
        yield


def insert_new(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each in the order of the table's columns, and pass over those that are there already. Written out, as every
    process would compile it for every table.
    """
    mark = "?" if is_sqlite(connection) else "%s"
    connection.exec_driver_sql(f"{_insertion(connection, table, mark)} ON CONFLICT DO NOTHING", list(rows))


def insert_many(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows that are surely new, as fast as the database takes them. Raises whatever its driver does."""
    if is_sqlite(connection):
        connection.exec_driver_sql(_insertion(connection, table, "?"), list(rows))
        return
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {table.name} ({_names(connection, table)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.dbapi.Error as failure:  # type: ignore[union-attr]
        raise DBAPIError(statement, None, failure) from failure


def _insertion(connection: Connection, table: Table, mark: str) -> str:
    marks = ", ".join([mark] * len(table.columns))
    return f"INSERT INTO {table.name} ({_names(connection, table)}) VALUES ({marks})"  # noqa: S608 - names are ours


def _names(connection: Connection, table: Table) -> str:
    return ", ".join(connection.dialect.identifier_preparer.quote(column.name) for column in table.columns)


def create_table(connection: Connection, table: Table) -> None:
    """Make a table without its indexes."""
    connection.exec_driver_sql(_creation(table, f"{connection.dialect.name}+{connection.dialect.driver}"))


@cache
def _creation(table: Table, dialect: str) -> str:
    """The statement that makes a table. Kept, as every comparison with the log makes all tables once more."""
    return str(CreateTable(table).compile(dialect=URL.create(dialect).get_dialect()()))


def create_index(connection: Connection, name: str, table: Table, columns: Sequence[str]) -> None:
    """Make an index."""
    quoted = ", ".join(connection.dialect.identifier_preparer.quote(column) for column in columns)
    connection.execute(text(f"CREATE INDEX {name} ON {table.name} ({quoted})"))


def indexed_columns(connection: Connection) -> dict[str, list[list[str | None]]]:
    """The columns of each index that each table has, all tables in one query where the database can."""
    found = inspect(connection).get_multi_indexes()
    return {table: [list(one["column_names"]) for one in indexes] for (_, table), indexes in found.items()}


def table_names(connection: Connection) -> list[str]:
    """The tables of the database, or of the schema in use."""
    return list(inspect(connection).get_table_names())


def key_of_table(connection: Connection, name: str) -> list[str]:
    """The columns of a table's primary key."""
    return list(inspect(connection).get_pk_constraint(name)["constrained_columns"])
