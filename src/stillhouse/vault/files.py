"""Write files so that they are whole or absent, and stay. Every durable write of the vault goes through here."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stillhouse.errors import StorageError

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, then run the command again; it resumes where it stopped.",
    errno.EDQUOT: "The disk quota is used up: free some space, then run the command again; it resumes where it stopped.",
    errno.EACCES: "Give this user the right to do that there, then run the command again.",
    errno.EROFS: "The file system is read-only: remount it or choose another --home, then run the command again.",
}


def readable(path: Path | str) -> str:
    """A path as text that can be written down: bytes that are no UTF-8 are shown as such."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn the medium's refusal into a StorageError that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise StorageError(f"{what}: {reason}.", next_step=_ADVICE.get(failure.errno or 0, "")) from failure


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, by which two names of one place are known as that; None where nothing is there."""
    try:
        inode = path.stat()
    except OSError:
        return None
    return inode.st_dev, inode.st_ino


def read_regular(path: Path) -> bytes:
    """The bytes of a plain file. Links, pipes and the like, which somebody may have laid there, are none.

    Raises FileNotFoundError, StorageError.
    """
    with storage_errors(f"{path} could not be read"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file")
            return file.read()


def sync_file(path: Path) -> None:
    """Make the bytes of a file that somebody else wrote durable. A pipe or a link is none, and an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably: a file in a folder whose own name is lost is lost."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def write_whole(path: Path, data: bytes, through: Path | None = None) -> None:
    """Write, fsync, rename, fsync the folder. Raises StorageError; what was at ``path`` stays until the rename.

    ``through`` is a folder of the same file system to write in, where another than the target's must be taken.
    """
    with storage_errors(f"{path} could not be written"):
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=through or path.parent, prefix=".incoming-")
        try:
            try:
                os.fchmod(descriptor, 0o444)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        sync_folder(path.parent)
