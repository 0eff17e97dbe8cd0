"""What a source looked like when its last snapshot was taken: a cache, so that what did not change is not read again.

A file counts as unchanged where its inode, size and both of its times are as they were, and where its times lie well before that
snapshot began: a file that was written in the same moment can change without its times showing it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_value
from stillhouse.vault.files import storage_errors
from stillhouse.vault.manifests import EntryKind, FileEntry, Page, escape, order

# Longer than a page that is written through a mapping stays dirty: until it is written out (after some 35 s), further writes to
# it show in no time. And coarser than the clock of any file system in use.
_MOMENT = 60_000_000_000


class Mark(NamedTuple):
    """By what a file is known again."""

    inode: int
    changed: int


class _Part(msgspec.Struct, frozen=True, array_like=True):
    page: Page
    marks: tuple[tuple[int, int], ...]


class Before(NamedTuple):
    """A file as it was: its entry, and the digests of the packs that its extents count by."""

    entry: FileEntry
    packs: tuple[bytes, ...]


class Seen:
    """What was seen of one source, read and written in the order of its walk. An unreadable cache is an empty one."""

    def __init__(self, folder: Path, source: Path, began: int) -> None:
        """``began`` is the present moment in nanoseconds."""
        self._folder = folder
        self._file = folder / digest_value(escape(os.fsencode(source))).replace(":", "-")
        self._began = began
        self._before = self._read()
        self._next = next(self._before, None)
        self._hasher = blake3()
        self._writing = self._file.with_suffix(f".{os.getpid()}")
        with storage_errors(f"{folder} could not be written"):
            folder.mkdir(parents=True, exist_ok=True)
            self._out = self._writing.open("wb")

    def unchanged(self, entry: FileEntry, inode: os.stat_result) -> Before | None:
        """The file as it was, if it is still that. Ask in the order of the walk."""
        if self._next is None:
            return None
        if self._next[1].entry.path != entry.path:
            wanted = order(entry.path)
            while self._next is not None and order(self._next[1].entry.path) < wanted:
                self._next = next(self._before, None)
        if self._next is None or self._next[1].entry.path != entry.path:
            return None
        mark, before = self._next
        self._next = next(self._before, None)
        same = (before.entry.size, before.entry.modified) == (entry.size, entry.modified)
        return before if same and mark == Mark(inode.st_ino, inode.st_ctime_ns) else None

    def keep(self, page: Page, marks: list[Mark]) -> None:
        """Remember a page, with the marks of its files in order."""
        sure = tuple((mark.inode, mark.changed if mark.changed < self._began - _MOMENT else 0) for mark in marks)
        data = msgspec.msgpack.encode(_Part(page, sure))
        self._write(len(data).to_bytes(8, "little") + data)

    def finish(self) -> None:
        """Let the next snapshot of this source use what was kept."""
        with storage_errors(f"{self._writing} could not be written"):
            self._out.write(self._hasher.digest())
            self._out.close()
            os.replace(self._writing, self._file)

    def close(self) -> None:
        """Forget what was not finished."""
        self._out.close()
        self._writing.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._hasher.update(data)
        with storage_errors(f"{self._writing} could not be written"):
            self._out.write(data)

    def _read(self) -> Iterator[tuple[Mark, Before]]:
        if not _is_whole(self._file):
            return
        with self._file.open("rb") as file:
            left = self._file.stat().st_size - 32
            while left > 0:
                length = int.from_bytes(file.read(8), "little")
                part = msgspec.msgpack.decode(file.read(length), type=_Part)
                left -= 8 + length
                files = (entry for entry in part.page.entries if entry.kind is EntryKind.FILE)
                for entry, mark in zip(files, part.marks, strict=True):
                    yield Mark(*mark), Before(entry, part.page.packs)


def _is_whole(path: Path) -> bool:
    try:
        left = path.stat().st_size - 32
        hasher = blake3()
        with path.open("rb") as file:
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                hasher.update(piece)
                left -= len(piece)
            return left == 0 and file.read() == hasher.digest()
    except OSError:
        return False
