"""What was found of candidates by themselves, kept in the home's cache: each is examined once, however often datasets are formed.

One file for each set of things that findings depend on: what is held out, what is kept, and the code that examines. Nothing is
kept of what can be erased. A file that cannot be used is made again: what it holds can always be found once more.
"""

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from stillhouse.conversations.redaction import Secrets
from stillhouse.datasets.candidates import examining_code
from stillhouse.datasets.distinct import SAME_AS_BYTES
from stillhouse.datasets.filter import Examiner, Finding
from stillhouse.home.row_index import DIGEST_BYTES

# Other things that are held out, or another version of this software, make other files; the oldest go.
_MOST_FILES = 8
_SECONDS = 10
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS findings (row BLOB PRIMARY KEY, found TEXT, same_as BLOB, content BLOB) WITHOUT ROWID"
)
_NAME_BYTES = 16


class KnownFindings:
    """Findings by what their rows are made of."""

    def __init__(self, folder: Path, examiner: Examiner) -> None:
        """``folder`` is made where it is not there."""
        self._path = folder / f"{_scope(examiner)}.db"
        self._database = self._opened()

    def known(self, rows: Sequence[bytes]) -> dict[bytes, Finding]:
        """What is known of some rows."""
        if self._database is None or not rows:
            return {}
        query = f"SELECT row, found, same_as, content FROM findings WHERE row IN ({','.join('?' * len(rows))})"  # noqa: S608 - marks
        try:
            found = self._database.execute(query, rows).fetchall()
        except sqlite3.Error as failure:
            self._give_up(failure)
            return {}
        try:
            return {row: _finding(said, same_as, content) for row, said, same_as, content in found}
        except (ValueError, TypeError) as failure:
            self._give_up(sqlite3.DatabaseError(str(failure)))
            return {}

    def add(self, rows: Sequence[bytes], found: Sequence[Finding]) -> None:
        """Keep what was found."""
        if self._database is None or not rows:
            return
        values = [
            (row, _said(one), one.same_as, one.content) for row, one in zip(rows, found, strict=True)
        ]  # fmt: skip
        try:
            with self._database:  # committed at once: another process may be writing, too
                self._database.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as failure:
            self._give_up(failure)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection | None:
        """The file of today, where it can be opened; another process may be writing it, and then this one goes without."""
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                database = sqlite3.connect(self._path, timeout=_SECONDS)
                database.execute("PRAGMA synchronous = OFF")
                database.execute(_SCHEMA)
            except sqlite3.DatabaseError as failure:
                if isinstance(failure, sqlite3.OperationalError):  # locked, or no room
                    return None
                with contextlib.suppress(OSError):
                    self._path.unlink()
            except OSError:
                return None
            else:
                self._tidy_up()
                return database
        return None

    def _give_up(self, failure: sqlite3.Error) -> None:
        """Go on without: the file is in use, or the disk is full; one that is damaged goes."""
        self.close()
        if not isinstance(failure, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _tidy_up(self) -> None:
        with contextlib.suppress(OSError):
            files = sorted(self._path.parent.glob("*.db"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in [path for path in files if path != self._path][_MOST_FILES - 1 :]:
                old.unlink()


def _scope(examiner: Examiner) -> str:
    """What findings depend on besides their rows."""
    protected, hasher = examiner.protected, blake3()
    hasher.update(examining_code())
    said = [sorted(protected.ngrams.items()), sorted(protected.codes.items()), sorted(examiner.keep)]
    said += [str(examiner.secrets)] if examiner.secrets is not Secrets.KEEP else []
    hasher.update(repr(said).encode("utf-8", "surrogatepass"))
    return hasher.hexdigest(_NAME_BYTES)


def _said(found: Finding) -> str:
    reasons = (found.incomplete, found.unverified, found.held_out)
    return json.dumps(reasons) if any(reasons) else ""


def _finding(said: str, same_as: bytes, content: bytes) -> Finding:
    incomplete, unverified, held_out = json.loads(said) if said else ("", "", "")
    if len(same_as) != SAME_AS_BYTES or len(content) != DIGEST_BYTES:
        raise ValueError("these are no digests")
    return Finding(incomplete, unverified, held_out, same_as, content)
