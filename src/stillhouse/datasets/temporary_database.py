"""A database on disk without a name: for what is too much to hold in memory, and is gone with the process."""

import contextlib
import sqlite3
from collections.abc import Iterator

from stillhouse.errors import StorageError

# Pages that are kept in memory; the rest is read from disk.
_CACHE_KIB = 32_768


def temporary_database(schema: str) -> sqlite3.Connection:
    """Open one with some tables. Everything is one transaction that never ends. Raises StorageError."""
    with temporary_errors():
        database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            database.execute(f"PRAGMA {pragma}")
        database.executescript(schema)
        database.execute("BEGIN")
    return database


@contextlib.contextmanager
def temporary_errors() -> Iterator[None]:
    """What SQLite says of a disk, in our words. Raises StorageError."""
    try:
        yield
    except sqlite3.Error as failure:
        raise StorageError(
            f"A temporary file could not be written or read: {failure}.",
            next_step="Free space in the temporary folder, or name another one in TMPDIR, then run the command again.",
        ) from failure
