"""Keep a command, and everything that it starts, from changing what is under custody: script, shell or coding agent; root, too.

Covers: unlink, rename, link, truncate, write and creation below the protected folders, by any process of this tree, whatever
its user (Landlock, which no process can take off again); mounts, which such processes may not change; block devices, which are
left out of what may be written, and cannot be made anew.

Does not cover: whatever runs outside this tree and does as it is told (a container engine, a scheduler, another machine, a
service behind a socket); changes of mode, owner and times; reading. Protection from the accidents of a command, not from an
enemy.

Landlock allows and cannot forbid, so everything but the protected folders is allowed, name by name. Therefore nothing can be
made, removed or renamed *directly* in the folders above them, and new names there cannot be written to.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

# Devices by which memory and disks are reached past every file system.
_RAW = ("mem", "kmem", "port")


class Guard(msgspec.Struct, frozen=True):
    """What a guard would do. ``closed`` are the folders above, ``problems`` why it must not be relied on: then it does not
    start.
    """

    protected: tuple[str, ...]
    changeable: tuple[str, ...]
    closed: tuple[str, ...]
    problems: tuple[str, ...]


def plan_guard(protected: Iterable[Path], version: int, needed: int) -> Guard:
    """Look at the machine; nothing is changed. ``version`` is the kernel's of Landlock, ``needed`` the least that will do."""
    folders = tuple(sorted({path.resolve() for path in protected}))
    problems = []
    if version < needed:
        problems.append(f"this kernel has Landlock {version or 'not at all'}; version {needed} (Linux 6.2) is needed")
    problems += [f"{folder} does not exist" for folder in folders if not folder.exists()]
    problems += [problem for folder in folders for problem in (*_further_names(folder), *_further_mounts(folder))]
    above = {parent for folder in folders for parent in folder.parents}
    inside = tuple(folder for folder in folders if not any(parent in folders for parent in folder.parents))
    opened = {*above, Path("/dev")}  # looked into, and not allowed as a whole
    changeable = sorted(
        str(path)
        for folder in opened
        for path in _children(folder)
        if path not in opened and path not in folders and not _is_raw(path)
    )
    return Guard(tuple(map(str, inside)), tuple(changeable), tuple(sorted(map(str, above))), tuple(problems))


def _children(folder: Path) -> Iterator[Path]:
    """What is in a folder, links left out: what they point to has a name of its own."""
    try:
        with os.scandir(folder) as listing:
            yield from (folder / entry.name for entry in listing if not entry.is_symlink())
    except OSError:
        return  # what cannot be listed is not allowed


def _is_raw(path: Path) -> bool:
    try:
        inode = path.lstat()
    except OSError:
        return True
    if stat.S_ISDIR(inode.st_mode) and path.parent == Path("/dev") and path.name != "shm":
        return any(_is_raw(inner) for inner in _children(path))
    return stat.S_ISBLK(inode.st_mode) or (path.parent == Path("/dev") and path.name in _RAW)


def _further_names(folder: Path) -> Iterator[str]:
    """A hard link elsewhere is a way to the same bytes past the folder's name."""
    for place, _, files in os.walk(folder):
        for name in files:
            inode = os.lstat(os.path.join(place, name))
            if stat.S_ISREG(inode.st_mode) and inode.st_nlink > 1:
                yield f"{os.path.join(place, name)} has {inode.st_nlink} names (hard links), and only this one is protected"
                return


def _further_mounts(folder: Path) -> Iterator[str]:
    """Another mount of the same file system is a way to the same files past the folder's path."""
    mounts = _mounts()
    own = max(
        (mount for mount in mounts if _within(str(folder), mount[2])), key=lambda mount: len(mount[2]), default=None
    )
    if own is None:
        return
    device, root, point = own
    inside = os.path.normpath(os.path.join(root, os.path.relpath(folder, point)))
    for other_device, other_root, other_point in mounts:
        if (other_device, other_root, other_point) == own or other_device != device:
            continue
        if _within(inside, other_root) or _within(other_root, inside):
            if _within(other_point, str(folder)):
                continue  # below the protected folder itself
            yield f"{folder} is also reached through the mount {other_point}"


def _mounts() -> list[tuple[str, str, str]]:
    """(device, the path in it that is mounted, where) of every mount."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        root, point = (text.encode().decode("unicode_escape") for text in (fields[3], fields[4]))
        found.append((fields[2], root, point))
    return found


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
