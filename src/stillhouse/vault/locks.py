"""Locks between processes: flock(2) on a file, held as long as it is open, so that a kill releases it.

Covers: processes of one machine, and of several on a file system whose flock is shared (NFS 4 is). Does not cover: a file system
without locks, and whoever removes the file.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from stillhouse.errors import HomeBusy
from stillhouse.vault.files import storage_errors


class Lock:
    """A lock that this process holds. Release it, or use it as a context manager."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Let others have it."""
        os.close(self.descriptor)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def wait_for(path: Path) -> Lock:
    """Take a lock, waiting for whoever has it. Raises StorageError."""
    lock = Lock(_opened(path))
    try:
        with storage_errors(f"{path} could not be locked"):
            fcntl.flock(lock.descriptor, fcntl.LOCK_EX)
    except BaseException:
        lock.release()
        raise
    return lock


def try_for(path: Path) -> Lock | None:
    """Take a lock, or None where another process has it. Raises StorageError."""
    lock = Lock(_opened(path))
    try:
        with storage_errors(f"{path} could not be locked"):
            try:
                fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.release()
                return None
    except BaseException:
        lock.release()
        raise
    return lock


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs. Raises HomeBusy, naming ``what``, where another process has it, and StorageError."""
    lock = try_for(path)
    if lock is None:
        raise HomeBusy(f"({what})")
    with lock:
        yield


def _opened(path: Path) -> int:
    with storage_errors(f"{path} could not be used"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as denied:  # a file of another user's can be locked, too
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise denied from None
