"""Walk a folder in the order of manifests, and say what each name in it is. Reads names and inodes, not contents."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from stillhouse.errors import SourceChanging, StorageError
from stillhouse.vault.files import storage_errors
from stillhouse.vault.manifests import EntryKind, FileEntry, escape, far_off, fits

_Read = TypeVar("_Read")
_TRIES = 3
# Others belong to the machine (capabilities, labels) and cannot be set by whom they do not concern.
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")


class Met(NamedTuple):
    """A name that the walk met: its place, its inode, and its entry without contents."""

    path: str
    place: bytes
    inode: os.stat_result
    entry: FileEntry


class Walk:
    """All that is below a folder, or one file. ``skipped`` are the names of sockets and devices, which hold no data.

    ``leave_out`` are folders and files (device, inode) that are not taken: a vault is not a part of its own contents, and a
    key not a part of what it encrypts.
    """

    def __init__(self, source: Path, leave_out: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.skipped: list[str] = []
        # Names that could not be read, where ``skip_unreadable`` says to go on without them.
        self.unreadable: list[str] = []
        self.skip_unreadable = False
        # Files that are not taken for what is in them: keys, wherever a copy of one lies.
        self.is_secret: Callable[[bytes, os.stat_result], bool] = lambda place, inode: False
        self._source, self._leave_out = os.fsencode(source), leave_out
        self._links: dict[tuple[int, int], str] = {}

    def __iter__(self) -> Iterator[Met]:
        try:
            with storage_errors(f"{os.fsdecode(self._source)} could not be read"):
                inode = os.stat(self._source)
        except FileNotFoundError:
            raise StorageError(
                f"{os.fsdecode(self._source)} does not exist.", next_step="Name a file or folder that does."
            ) from None
        # Folders may be nested deeper than functions can call each other.
        left: list[Iterator[tuple[str, bytes, os.stat_result]]] = [iter([("", self._source, inode)])]
        while left:
            following = next(left[-1], None)
            if following is None:
                left.pop()
                continue
            met = self._meet(*following)
            if met is not None:
                yield met
                if met.entry.kind is EntryKind.FOLDER:
                    left.append(self._below(met.path, met.place))

    def _meet(self, path: str, place: bytes, inode: os.stat_result) -> Met | None:
        """What a name is; None where it is skipped, or went away."""
        mode = inode.st_mode
        if (inode.st_dev, inode.st_ino) in self._leave_out:
            self.skipped.append(path)
            return None
        if stat.S_ISDIR(mode):
            return Met(path, place, inode, self._entry(path, place, inode, EntryKind.FOLDER))
        if stat.S_ISREG(mode) and self.is_secret(place, inode):
            self.skipped.append(path)
            return None
        if stat.S_ISREG(mode):
            first = self._links.setdefault((inode.st_dev, inode.st_ino), path) if inode.st_nlink > 1 else path
            kind = EntryKind.FILE if first == path else EntryKind.SAME
            return Met(
                path, place, inode, self._entry(path, place, inode, kind, first if kind is EntryKind.SAME else "")
            )
        if stat.S_ISLNK(mode):
            try:
                target = escape(os.readlink(place))
            except FileNotFoundError:
                return None
            return Met(path, place, inode, self._entry(path, place, inode, EntryKind.LINK, target))
        if stat.S_ISFIFO(mode):
            return Met(path, place, inode, self._entry(path, place, inode, EntryKind.PIPE))
        self.skipped.append(path)
        return None

    def _below(self, path: str, place: bytes) -> Iterator[tuple[str, bytes, os.stat_result]]:
        try:
            with storage_errors(f"{os.fsdecode(place)} could not be read"), os.scandir(place) as listing:
                if path and os.path.islink(place):
                    return  # a link stands in its place since, and leads elsewhere: as if it had gone
                names = sorted(entry.name for entry in listing)
        except FileNotFoundError:
            return
        except StorageError:
            if not self.skip_unreadable:
                raise
            self.unreadable.append(path)
            return
        for name in names:
            inner, path_of_it = place + b"/" + name, f"{path}/{escape(name)}" if path else escape(name)
            try:
                with storage_errors(f"{os.fsdecode(inner)} could not be read"):
                    found = os.lstat(inner)
            except FileNotFoundError:
                continue  # it went away since it was listed: as if it had gone before
            except StorageError:  # a folder that may be listed and not entered
                if not self.skip_unreadable:
                    raise
                self.unreadable.append(path_of_it)
                continue
            yield path_of_it, inner, found

    def as_first(self, met: Met, inode: os.stat_result) -> Met:
        """A further name of a file as its first one, where that went away before it was read."""
        self._links[inode.st_dev, inode.st_ino] = met.path
        return Met(met.path, met.place, inode, self._entry(met.path, met.place, inode, EntryKind.FILE))

    def _entry(self, path: str, place: bytes, inode: os.stat_result, kind: EntryKind, target: str = "") -> FileEntry:
        return FileEntry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(inode.st_mode),
            modified=fits(inode.st_mtime_ns),
            owner=inode.st_uid,
            group=inode.st_gid,
            size=inode.st_size if kind is EntryKind.FILE else 0,
            target=target,
            attributes=far_off(inode.st_mtime_ns) | ({} if kind is EntryKind.LINK else _attributes(place)),
            sparse=kind is EntryKind.FILE and inode.st_blocks * 512 < inode.st_size,
        )


def read_still(met: Met, read: Callable[[int, os.stat_result], tuple[_Read, int]]) -> tuple[_Read, os.stat_result]:
    """What ``read`` makes of a file (by its descriptor and inode) that is the same before and after, and its inode then.

    ``read`` also says how many bytes it saw. Raises SourceChanging, StorageError; FileNotFoundError for one that went away.
    """
    for _ in range(_TRIES):
        with storage_errors(f"{os.fsdecode(met.place)} could not be read"):
            # A file can have become a pipe meanwhile, which nobody may write into.
            descriptor = os.open(met.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise SourceChanging(f"({os.fsdecode(met.place)} is no file any more)")
                found, length = read(descriptor, before)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        if _still(before) == _still(after) and length == before.st_size:
            return found, before
    raise SourceChanging(f"({os.fsdecode(met.place)})")


def _still(inode: os.stat_result) -> tuple[int, int, int]:
    return inode.st_size, inode.st_mtime_ns, inode.st_ctime_ns


def _attributes(place: bytes) -> dict[str, bytes]:
    try:
        names = [name for name in os.listxattr(place) if name.startswith(_KEPT_ATTRIBUTES)]
        return {escape(os.fsencode(name)): os.getxattr(place, name) for name in names}
    except OSError:
        return {}  # a file system without them
