"""Bytes in a local folder: one file per key, spread over 256 folders.

Relied on: rename is atomic within a file system, and fsync of a file and of its folder makes both durable. What a disk
does with its own cache is outside our reach. On NFS (4.1 or newer, mounted ``hard``, exported ``sync``) both hold as far as the
server keeps its word; another client may see a new file some seconds late (attribute caching), never half of it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stillhouse.errors import StorageError
from stillhouse.vault.files import make_folder, storage_errors, sync_folder, write_whole
from stillhouse.vault.sealing import lifted, sealed_like, taking_in

_TRASH, _INCOMING = "trash", "incoming"
# Different bytes under one digest are damage; more of it than this is something else.
_SAME_NAME = 100


class LocalBackend:
    """A folder; it need not exist before the first ``put``. What is discarded lies in a folder ``trash`` within it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, durably."""
        path = self._path(key)
        if path.exists():
            return
        incoming = self.root / _INCOMING  # a sealed vault has it: its other folders let nothing be renamed within them
        with taking_in(self.root, path.parent):
            write_whole(path, data, incoming if incoming.is_dir() else None)
        sealed_like(path, path.parent)

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        with self._reading(key):
            return self._path(key).read_bytes()

    def read(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a key."""
        with self._reading(key), self._path(key).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, start)

    def size(self, key: str) -> int:
        """How many bytes a key has."""
        with self._reading(key):
            return self._path(key).stat().st_size

    def exists(self, key: str) -> bool:
        """Is there such a key?"""
        return self._path(key).exists()

    def list(self) -> Iterator[str]:
        """All keys, in order."""
        yield from _files(self.root)

    def discard(self, key: str) -> None:
        """Move a key's file into the trash, beside what lies there by that name, unless that is the same."""
        path, trashed = self._path(key), self._trashed(key)
        for number in range(_SAME_NAME):
            target = trashed if not number else trashed.with_name(f"{key}.{number}")
            if not path.exists() or self._move(path, target):
                return
            if path.read_bytes() == target.read_bytes():
                self._remove(path)
                return
        raise StorageError(f"{trashed} has {_SAME_NAME} files of one name that all differ.", next_step="Look at them.")

    def recover(self, key: str) -> bool:
        """Move a key's file back, where none is."""
        return self._move(self._trashed(key), self._path(key))

    def discarded(self) -> Iterator[str]:
        """All keys in the trash, in order."""
        yield from _files(self.root / _TRASH)

    def peek(self, key: str, length: int) -> bytes:
        """The first bytes of a discarded key."""
        try:
            with self._trashed(key).open("rb") as file:
                return file.read(length)
        except FileNotFoundError:
            return b""

    def discarded_as(self, key: str) -> os.stat_result:
        """The inode of a discarded key; its ``st_ctime`` is when it was discarded, or later. Raises KeyError."""
        try:
            return self._trashed(key).stat()
        except FileNotFoundError:
            raise KeyError(key) from None

    def reclaim(self, key: str) -> None:
        """Remove a file of the trash."""
        self._remove(self._trashed(key))

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            with storage_errors(f"{self._path(key)} could not be read"):
                yield
        except FileNotFoundError:
            raise KeyError(key) from None

    def _move(self, old: Path, new: Path) -> bool:
        """Give a file another name, and never one that is taken; False where there is none, or the name is."""
        if not old.exists() or new.exists():
            return False
        with storage_errors(f"{old} could not be moved"):
            try:
                make_folder(new.parent)
                with lifted(self.root, (old.parent, new.parent), (old,)):
                    os.link(old, new)  # which replaces nothing, as a rename would
                    sync_folder(new.parent)
                    os.unlink(old)
            except (FileNotFoundError, FileExistsError):
                return False
            sync_folder(old.parent)
        sealed_like(new, new.parent)
        return True

    def _remove(self, path: Path) -> None:
        with (
            storage_errors(f"{path} could not be removed"),
            contextlib.suppress(FileNotFoundError),
            lifted(self.root, (path.parent,), (path,)),
        ):
            path.unlink()
            sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        # Keys end in a digest: its last digits spread evenly, its first belong to the algorithm's name. A sorted listing
        # needs the folders to sort as the keys do, hence the prefix of the digest itself.
        return self.root / key.rpartition("-")[2][:2] / key

    def _trashed(self, key: str) -> Path:
        return self.root / _TRASH / key.rpartition("-")[2][:2] / key


def _files(root: Path) -> Iterator[str]:
    if root.is_dir():
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and folder.name not in (_TRASH, _INCOMING):
                yield from sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
