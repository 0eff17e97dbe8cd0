"""Keep a command, and everything that it starts, from changing what is under custody: script, shell or coding agent; root, too.

Covers: unlink, rename, link, truncate, write and creation below the protected folders, by any process of this tree, whatever
its user (Landlock, which no process can take off again); mounts, which such processes may not change; block devices, which are
left out of what may be written (as are /proc, /sys and all but a few devices), and cannot be made again.

Does not cover: whatever runs outside this tree and does as it is told (a container engine, a scheduler, another machine, a
service behind a socket); ioctls on what can be read (a file system's own commands, as root); device nodes in other folders
than /dev; changes of mode, owner and times; reading. Protection from the accidents of a command, not from an enemy.

Landlock allows and cannot forbid, so everything but the protected folders is allowed, name by name. Therefore nothing can be
made, removed or renamed *directly* in the folders above them, and new names there cannot be written to.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

_DEVICES = Path("/dev")
# What programs write to that is no way to a disk or to memory; the last are GPUs. All other devices are left out.
_HARMLESS = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "nvidia", "dri", "kfd")
# Here the kernel is told what to do, starting programs outside of any tree included.
_MACHINE = (Path("/proc"), Path("/sys"))


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
    outermost = tuple(folder for folder in folders if not any(parent in folders for parent in folder.parents))
    above = {parent for folder in outermost for parent in folder.parents}
    opened = {*above, _DEVICES}  # looked into, and not allowed as a whole
    changeable = sorted(
        str(path)
        for folder in opened
        for path in _children(folder)
        if path not in opened and path not in outermost and path not in _MACHINE and _is_harmless(path)
    )
    return Guard(tuple(map(str, outermost)), tuple(changeable), tuple(sorted(map(str, above))), tuple(problems))


def _children(folder: Path) -> Iterator[Path]:
    """What is in a folder, links left out: what they point to has a name of its own."""
    try:
        with os.scandir(folder) as listing:
            yield from (folder / entry.name for entry in listing if not entry.is_symlink())
    except OSError:
        return  # what cannot be listed is not allowed


def _is_harmless(path: Path) -> bool:
    """May this be written to? In /dev only what is known; elsewhere all but block devices."""
    if path.parent == _DEVICES:
        return path.name.startswith(_HARMLESS)
    try:
        return not stat.S_ISBLK(path.lstat().st_mode)
    except OSError:
        return False


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
    mounts, path = _mounts(), str(folder)
    around = max((mount for mount in mounts if _within(path, mount[2])), key=lambda mount: len(mount[2]), default=None)
    held = [(device, root, point) for device, root, point in mounts if _within(point, path) and point != path]
    if around is not None:
        device, root, point = around
        held.append((device, os.path.normpath(os.path.join(root, os.path.relpath(path, point))), path))
    for device, inside, place in held:
        for other in mounts:
            if other[0] != device or _within(other[2], path) or other == around:
                continue
            if _within(inside, other[1]) or _within(other[1], inside):
                yield f"{place} is also reached through the mount {other[2]}"


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
