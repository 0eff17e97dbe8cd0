"""Which rows are the first with their content, in bounded memory: what was seen lies in a database of its own on disk.

It has no name, holds digests and row names, and is gone with the process.
"""

from blake3 import blake3

from stillhouse.canon import raw_digest
from stillhouse.datasets.temporary_database import temporary_database, temporary_errors

SAME_AS_BYTES = 16
_SCHEMA = """
CREATE TABLE first (content BLOB PRIMARY KEY, name BLOB) WITHOUT ROWID;
CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class Distinct:
    """Remembers rows by what makes them the same as others, and by their keys."""

    def __init__(self) -> None:
        self._database = temporary_database(_SCHEMA)

    def is_new(self, key: str) -> bool:
        """Is a key seen for the first time?"""
        mark = (raw_digest(key)[:SAME_AS_BYTES],)
        with temporary_errors():
            return bool(self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", mark).rowcount)

    def first(self, content: bytes, name: str) -> str | None:
        """What the earlier row is called that has the same ``content``; None where this is now the first."""
        called = name.encode("utf-8", "surrogatepass")
        with temporary_errors():
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
