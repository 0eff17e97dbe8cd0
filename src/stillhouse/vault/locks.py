"""Locks between processes: flock(2) on a file, held as long as it is open, so that a kill releases it.

Covers: processes of one machine, and of several on a file system whose flock is shared (NFS 4 is). Does not cover: a file system
without locks, and whoever removes the file.
"""

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from pathlib import Path

from stillhouse.errors import HomeBusy
from stillhouse.vault.files import storage_errors


class Lock:
    """A lock that this process holds. Release it, or use it as a context manager.

    An unreferenced lock is released when its file object is collected: an interrupt can arrive after the lock was taken and
    before the caller has it. There is no ``__del__``, which would swallow an interrupt that arrives in it.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def release(self) -> None:
        """Let others have it."""
        self._file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def wait_for(path: Path) -> Lock:
    """Take a lock, waiting for whoever has it. Raises StorageError."""
    file = _opened(path)
    try:
        with storage_errors(f"{path} could not be locked"):
            fcntl.flock(file, fcntl.LOCK_EX)
        return Lock(file)
    except BaseException:
        file.close()
        raise


def try_for(path: Path) -> Lock | None:
    """Take a lock, or None where another process has it. Raises StorageError."""
    file = _opened(path)
    try:
        with storage_errors(f"{path} could not be locked"):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return None
        return Lock(file)
    except BaseException:
        file.close()
        raise


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs. Raises HomeBusy, naming ``what``, where another process has it, and StorageError."""
    lock = try_for(path)
    if lock is None:
        raise HomeBusy(f"({what})")
    with lock:
        yield


def _opened(path: Path) -> io.FileIO:
    """A file object instead of a descriptor: it is closed when it is collected, if an interrupt kept others from it."""
    with storage_errors(f"{path} could not be used"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return io.FileIO(path, "r+", opener=lambda name, _: _descriptor(name))


def _descriptor(name: str) -> int:
    try:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as denied:  # a file of another user's can be locked, too
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise denied from None
