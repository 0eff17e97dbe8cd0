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
from stillhouse.vault.locks import wait_for

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of <linux/fs.h>
IMMUTABLE, APPEND = 0x10, 0x20
_FOLDERS = [f"{number:02x}" for number in range(256)]
_TRASH, _INCOMING = "trash", "incoming"
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
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _set(descriptor, flags)
    finally:
        os.close(descriptor)


def seal(root: Path, kind: Seal) -> int:
    """Seal every folder of a vault, and with flags every object; returns how many objects there are. Repeat it at will.

    Run by root in a folder of somebody else, it follows no link: what is no folder of the same owner is refused.

    Raises StorageError where this user may not, or the file system cannot.
    """
    what = " (only root sets flags: let its cron run `stillhouse vault protect flags`)" if kind is Seal.FLAGS else ""
    with storage_errors(f"{root} could not be sealed{what}"):
        root.mkdir(parents=True, exist_ok=True)
        with _folder(root, None) as (outer, owner):
            with _made(outer, _INCOMING, owner):
                pass
            objects = _seal_half(outer, owner, kind)
            with _made(outer, _TRASH, owner) as trash:
                objects += _seal_half(trash, owner, kind)
                _keep(trash, kind, IMMUTABLE)
            _keep(outer, kind, IMMUTABLE)
    return objects


def lift(root: Path) -> None:
    """Take every seal off. Raises StorageError where this user may not."""
    with storage_errors(f"{root} could not be opened again"), _folder(root, None) as (outer, owner):
        _open_folder(outer)
        for name in os.listdir(outer):
            if name in _FOLDERS:
                _open_inner(outer, name, owner)
        if _TRASH in os.listdir(outer):
            with _folder(Path(_TRASH), owner, outer) as (trash, _):
                _open_folder(trash)
                for name in os.listdir(trash):
                    if name in _FOLDERS:
                        _open_inner(trash, name, owner)


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
    if seal_of(root) is not Seal.MODES:
        yield
        return
    with lifted(root, (folder,), ()):
        yield


@contextlib.contextmanager
def lifted(root: Path, folders: Sequence[Path], files: Sequence[Path]) -> Iterator[None]:
    """Let the block change these; afterwards all that is left of them is sealed as it was. Raises StorageError."""
    if seal_of(root) is None:
        yield
        return
    opened: list[tuple[Path, int, int]] = []
    # Only under it is a folder as its seal left it: another would find one open, and leave it so.
    with wait_for(root / _INCOMING / "lock"):
        kept = [
            (path, _mode(path), flags_of(path) & (IMMUTABLE | APPEND)) for path in (*folders, *files) if path.exists()
        ]
        try:
            for path, mode, flags in kept:
                with _explained(path):
                    if flags:
                        set_flags(path, 0)
                    if path in folders and not mode & stat.S_IWUSR:
                        path.chmod(_OPEN)
                opened.append((path, mode, flags))
            yield
        finally:
            for path, mode, flags in opened:
                with contextlib.suppress(FileNotFoundError), storage_errors(f"{path} could not be sealed again"):
                    if path in folders and not mode & stat.S_IWUSR:
                        path.chmod(mode)
                    if flags:
                        set_flags(path, flags)


@contextlib.contextmanager
def _folder(path: Path, owner: int | None, within: int | None = None) -> Iterator[tuple[int, int]]:
    """A descriptor of a folder that is one, of this owner where one is named, and the owner."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=within)
    try:
        found = os.fstat(descriptor).st_uid
        if owner is not None and found != owner:
            raise OSError(errno.EPERM, f"{path} belongs to user {found}, and not to {owner} like the rest")
        yield descriptor, found
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _made(within: int, name: str, owner: int) -> Iterator[int]:
    """The same for an inner one, made where it is not there: whoever seals, the owner goes on working in it."""
    try:
        os.mkdir(name, _OPEN, dir_fd=within)
        fresh = True
    except FileExistsError:
        fresh = False
    with _folder(Path(name), None, within) as (descriptor, found):
        if fresh and os.geteuid() == 0 and found != owner:
            os.fchown(descriptor, owner, -1)
        elif found != owner:
            raise OSError(errno.EPERM, f"{name} belongs to user {found}, and not to {owner} like the rest")
        yield descriptor


def _seal_half(half: int, owner: int, kind: Seal) -> int:
    count = 0
    for name in _FOLDERS:
        with _made(half, name, owner) as folder:
            for inner in os.listdir(folder):
                count += 1
                if kind is Seal.FLAGS:
                    _flag_file(folder, inner, IMMUTABLE)
            _keep(folder, kind, APPEND)
    return count


def _flag_file(folder: int, name: str, flags: int) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        inode = os.fstat(descriptor)
        if not stat.S_ISREG(inode.st_mode) or inode.st_nlink > 1:
            raise OSError(errno.EPERM, f"{name} is no plain file of one name")
        _set(descriptor, flags) if flags else _unset(descriptor)
    finally:
        os.close(descriptor)


def _unset(descriptor: int) -> None:
    """Take both flags off; a file system that has none has none to take off."""
    try:
        _set(descriptor, 0)
    except OSError as failure:
        if failure.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _keep(folder: int, kind: Seal, flag: int) -> None:
    if kind is Seal.FLAGS:
        _set(folder, flag)
    else:
        os.fchmod(folder, _SEALED)


def _open_folder(folder: int) -> None:
    _unset(folder)
    if not os.fstat(folder).st_mode & stat.S_IWUSR:
        os.fchmod(folder, _OPEN)


def _open_inner(half: int, name: str, owner: int) -> None:
    with _folder(Path(name), owner, half) as (folder, _):
        _open_folder(folder)
        for inner in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                _flag_file(folder, inner, 0)


def _set(descriptor: int, flags: int) -> None:
    before = int(struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0])
    wanted = before & ~(IMMUTABLE | APPEND) | flags
    if wanted != before:
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", wanted))


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
