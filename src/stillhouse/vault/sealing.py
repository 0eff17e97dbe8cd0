"""Seal a vault's folders, so that not even their owner, or not even root, changes them by accident.

Two seals. *Modes* (0555): whoever owns the folders and is not root gets a refusal, and so does `rm -rf`. *Flags*: objects are
immutable and their folders only take what is new (``chattr +i``, ``+a``); root gets a refusal, too. Only root, with
CAP_LINUX_IMMUTABLE, sets or lifts flags; ext4, XFS, btrfs and others keep them.

Covers: accidents, and programs that do not try to undo a seal. Does not cover: who lifts the seal on purpose (`chmod`,
`chattr -i`), and who writes to the disk below the file system. A kill while a seal is lifted for a discard leaves that folder
open until it is sealed again, which `tick` does.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from stillhouse.errors import StorageError
from stillhouse.vault.files import storage_errors

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of <linux/fs.h>
IMMUTABLE, APPEND = 0x10, 0x20
_FOLDERS = [f"{number:02x}" for number in range(256)]
_SEALED, _OPEN = 0o555, 0o755


class Seal(StrEnum):
    """What keeps folders as they are."""

    MODES = "modes"
    FLAGS = "flags"


def flags_of(path: Path) -> int:
    """The flags of a file or folder; none where its file system keeps none, or it cannot be asked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        answer = fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0))
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return int(struct.unpack("l", answer)[0])


def set_flags(path: Path, flags: int) -> None:
    """Give a file or folder these of the two flags. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        before = int(struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0])
        wanted = before & ~(IMMUTABLE | APPEND) | flags
        if wanted != before:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", wanted))
    finally:
        os.close(descriptor)


def seal(root: Path, kind: Seal) -> int:
    """Seal every folder of a vault, and with flags every object; returns how many objects there are. Repeat it at will.

    Raises StorageError where this user may not, or the file system cannot.
    """
    objects = 0
    what = " (only root sets flags: let its cron run `stillhouse vault protect flags`)" if kind is Seal.FLAGS else ""
    with storage_errors(f"{root} could not be sealed{what}"):
        root.mkdir(parents=True, exist_ok=True)
        owner = root.stat()
        halves = (root, root / "trash")
        # All there will ever be, since the outermost are closed afterwards; and whoever seals, the owner goes on working in them.
        for folder in (root / "trash", root / "incoming", *(half / name for half in halves for name in _FOLDERS)):
            if not folder.exists():
                folder.mkdir()
                os.chown(folder, owner.st_uid, owner.st_gid)
        for half in (root, root / "trash"):
            for name in _FOLDERS:
                objects += _seal_folder(half / name, kind)
            _keep(half, kind, IMMUTABLE)
    return objects


def lift(root: Path) -> None:
    """Take every seal off. Raises StorageError where this user may not."""
    with storage_errors(f"{root} could not be opened again"):
        for half in (root, root / "trash"):
            for folder in (half, *(half / name for name in _FOLDERS)):
                if folder.is_dir():
                    _open(folder)
                    for path in folder.iterdir():
                        if path.is_file() and flags_of(path) & IMMUTABLE:
                            set_flags(path, 0)


def seal_of(root: Path) -> Seal | None:
    """How a vault is sealed, by its outermost folder."""
    if flags_of(root) & IMMUTABLE:
        return Seal.FLAGS
    return Seal.MODES if root.is_dir() and not _mode(root) & stat.S_IWUSR else None


def sealed_like(path: Path, folder: Path) -> None:
    """A new object is sealed as its folder is, if this process may; else it waits for the next seal."""
    if flags_of(folder) & APPEND:
        with contextlib.suppress(OSError):
            set_flags(path, IMMUTABLE)


@contextlib.contextmanager
def taking_in(root: Path, folder: Path) -> Iterator[None]:
    """Let the block put something into a folder. Flags allow that; a mode is lifted for so long."""
    if not folder.exists() or _mode(folder) & stat.S_IWUSR:
        yield
        return
    with lifted(root, (folder,), ()):
        yield


@contextlib.contextmanager
def lifted(root: Path, folders: Sequence[Path], files: Sequence[Path]) -> Iterator[None]:
    """Let the block change these; afterwards all that is left of them is sealed as it was. Raises StorageError."""
    kept = [
        (path, _mode(path), flags)
        for path in (*folders, *files)
        if path.exists() and ((flags := flags_of(path) & (IMMUTABLE | APPEND)) or not _mode(path) & stat.S_IWUSR)
    ]
    if not any(path in folders for path, _, _ in kept) and not any(flags for _, _, flags in kept):
        yield
        return
    opened: list[tuple[Path, int, int]] = []
    with _alone(root / "incoming" / "lock"):
        try:
            for path, mode, flags in kept:
                with _explained(path):
                    if flags:
                        set_flags(path, 0)
                    if path in folders:
                        path.chmod(_OPEN)
                opened.append((path, mode, flags))
            yield
        finally:
            for path, mode, flags in opened:
                with contextlib.suppress(FileNotFoundError), storage_errors(f"{path} could not be sealed again"):
                    if path in folders:
                        path.chmod(mode)
                    if flags:
                        set_flags(path, flags)


def _seal_folder(folder: Path, kind: Seal) -> int:
    count = 0
    for path in folder.iterdir():
        count += 1
        if kind is Seal.FLAGS:
            set_flags(path, IMMUTABLE)
    _keep(folder, kind, APPEND)
    return count


def _keep(folder: Path, kind: Seal, flag: int) -> None:
    if kind is Seal.FLAGS:
        set_flags(folder, flag)
    else:
        folder.chmod(_SEALED)


def _open(folder: Path) -> None:
    if flags_of(folder) & (IMMUTABLE | APPEND):
        set_flags(folder, 0)
    if not _mode(folder) & stat.S_IWUSR:
        folder.chmod(_OPEN)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise StorageError(
            f"{path} is sealed, and this user may not lift that.",
            next_step="Run the command as root, who set the seal, or take it off first: `stillhouse vault protect flags --lift`.",
        ) from failure


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One at a time lifts seals: another would find a folder open, and leave it so."""
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
