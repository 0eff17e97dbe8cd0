"""Which rows are the first with their content, in bounded memory: what was seen lies in a database of its own on disk.

It has no name, holds digests and row names, and is gone with the process.
"""

import sqlite3

from blake3 import blake3

from stillhouse.canon import raw_digest

# Pages that are kept in memory; the rest is read from disk.
_CACHE_KIB = 65_536
SAME_AS_BYTES = 16


class Distinct:
    """Remembers rows by what makes them the same as others, and by their keys."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("CREATE TABLE first (content BLOB PRIMARY KEY, name BLOB) WITHOUT ROWID")
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def is_new(self, key: str) -> bool:
        """Is a key seen for the first time?"""
        return bool(
            self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (raw_digest(key)[:SAME_AS_BYTES],)).rowcount
        )

    def first(self, content: bytes, name: str) -> str | None:
        """What the earlier row is called that has the same ``content``; None where this is now the first."""
        called = name.encode("utf-8", "surrogatepass")
        if self._database.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (content, called)).rowcount:
            return None
        (first,) = self._database.execute("SELECT name FROM first WHERE content = ?", (content,)).fetchone()
        return bytes(first).decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Forget all of it."""
        self._database.close()


def same_text(prompt: str, text: str) -> bytes:
    """Equal for rows that ask and answer the same; ``prompt`` is the digest of what is asked."""
    hasher = blake3(raw_digest(prompt))
    hasher.update(text.encode("utf-8", "surrogatepass"))
    return hasher.digest(SAME_AS_BYTES)
