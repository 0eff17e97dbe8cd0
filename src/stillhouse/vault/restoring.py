"""Restore snapshots, whole or by path. What is restored is what was stored, or the command fails and says what is not.

A restore is made beside its target, under a name of its own, and moved there in one step when all of it was verified and
is durable: nobody sees half of one, and one that was killed resumes. Over existing files it goes only when asked to,
and then file by file, each replaced in one step.

Covers: manifests that name ``..``, absolute paths or a path through a link that the same manifest makes (links are made last, and
folders are entered without following any). Does not cover: what somebody who may write in the target's parent does meanwhile.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.errors import CorruptObject, StorageError, TargetExists, UnknownName
from stillhouse.vault.files import storage_errors, sync_folder
from stillhouse.vault.manifests import EntryKind, FileEntry, Page, attributes_of, modified_of, unescape
from stillhouse.vault.reading import Reader, is_below

# Entries that are restored together: the threads share blocks, and an error stops soon.
_AT_ONCE = 256
_SMALL = 1 << 15
_FLUSH_BYTES = 1 << 26
# Under names that begin so things are made before they get their own; leftovers of an earlier try are removed.
_HALF = b".stillhouse-restoring-"
_OTHER = "Move it away, then run the command again: what is of another kind is not replaced."


class Restored(NamedTuple):
    """What was restored: every file's bytes were compared with its digest. ``kept`` lay there already, from an earlier try."""

    files: int
    bytes: int
    kept: int


Way = Callable[[Reader, str, Path, str, Callable[[int, int], None]], Restored]
"""How a snapshot is restored: (reader, snapshot, target, path, called with files and bytes)."""


class _Deferred(NamedTuple):
    """What is done when all files are there: further names, links, and the times of folders."""

    names: list[FileEntry]
    links: list[FileEntry]
    folders: list[FileEntry]


def restore(
    reader: Reader,
    snapshot: str,
    target: Path,
    below: str = "",
    advanced: Callable[[int, int], None] = lambda files, count: None,
) -> Restored:
    """Restore what a snapshot has at and below a path to a target that does not exist yet, or is an empty folder.

    Raises CorruptObject (and then nothing is at the target), TargetExists, UnknownName, StorageError.
    """
    with storage_errors(f"{target} could not be looked at"):
        if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
            raise TargetExists(f"({target})")
        if target.exists() and target.stat().st_dev != target.absolute().parent.stat().st_dev:
            raise TargetExists(
                f"({target} is a mount point)", next_step="Name a folder within it, which does not exist yet."
            )
    # The same snapshot and path give the same name: that is how a second try finds what the first has done.
    beside = (
        target.parent / f".restoring-{snapshot[7:23]}-{blake3(os.fsencode(target.name + '/' + below)).hexdigest()[:8]}"
    )
    with storage_errors(f"{beside} could not be made"):
        target.parent.mkdir(parents=True, exist_ok=True)
    done = _Restoring(reader, beside, below, advanced).run(snapshot)
    with storage_errors(f"{target} could not be made"):
        _sync_all(beside.parent)
        if target.is_dir() and not beside.is_dir():
            target.rmdir()
        os.rename(beside, target)
        sync_folder(target.parent)
    return done


def restore_over(
    reader: Reader,
    snapshot: str,
    target: Path,
    below: str = "",
    advanced: Callable[[int, int], None] = lambda files, count: None,
) -> Restored:
    """The same into a folder that may have files: those of the same name are replaced, one by one, the others stay."""
    with storage_errors(f"{target} could not be made"):
        target.parent.mkdir(parents=True, exist_ok=True)
    done = _Restoring(reader, target, below, advanced).run(snapshot)
    with storage_errors(f"{target} could not be made durable"):
        _sync_all(target.parent)
    return done


class _Restoring:
    """One restore below ``top``, which stands for the path ``below`` of the snapshot."""

    def __init__(self, reader: Reader, top: Path, below: str, advanced: Callable[[int, int], None]) -> None:
        self._reader, self._top, self._below, self._advanced = reader, os.fsencode(top), below, advanced
        self._deferred = _Deferred([], [], [])
        self._counting = threading.Lock()
        self._files = self._bytes = self._kept = 0
        self._met = False
        self._self = (os.geteuid(), os.getegid())

    def run(self, snapshot: str) -> Restored:
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores, thread_name_prefix="restore") as threads, _Flushing(self._top) as flushing:
            for batch in self._batches(snapshot):
                # For small files the interpreter, and not the disk or the cores, is what threads would wait for.
                shares = cores if sum(entry.size for _, entry in batch) > len(batch) * _SMALL else 1
                for task in [threads.submit(self._some, batch[place::shares]) for place in range(shares)]:
                    task.result()
                flushing.written(self._bytes)
                self._advanced(self._files, self._bytes)
        if not self._met:
            raise UnknownName(f"The snapshot has nothing at {self._below!r}.")
        with storage_errors(f"{os.fsdecode(self._top)} could not be completed"):
            self._complete()
        return Restored(self._files, self._bytes, self._kept)

    def _batches(self, snapshot: str) -> Iterator[list[tuple[Page, FileEntry]]]:
        """Files to restore, some at a time; folders are made and the rest is put off on the way."""
        batch: list[tuple[Page, FileEntry]] = []
        root = self._reader.root(snapshot)
        for page in self._reader.pages(root, self._below):
            for entry in page.entries:
                if not is_below(entry.path, self._below):
                    continue
                self._met = True
                match entry.kind:
                    case EntryKind.FILE:
                        batch.append((page, entry))
                    case EntryKind.FOLDER:
                        self._folder(entry)
                        self._deferred.folders.append(entry)
                    case EntryKind.SAME if is_below(entry.target, self._below):
                        self._deferred.names.append(entry)
                    case EntryKind.SAME:
                        first, file = self._reader.find(root, entry.target)
                        batch.append((first, msgspec.structs.replace(file, path=entry.path)))
                    case EntryKind.LINK | EntryKind.PIPE:
                        self._deferred.links.append(entry)
                if len(batch) >= _AT_ONCE:
                    yield batch
                    batch = []
        yield batch

    def _some(self, files: Iterable[tuple[Page, FileEntry]]) -> None:
        parent, folder = None, -1
        try:
            for page, entry in files:
                above, name = self._split(entry.path)
                if above != parent:
                    if folder >= 0:
                        os.close(folder)
                        folder = -1
                    parent, folder = above, self._open_folder(above)
                with storage_errors(f"{entry.path or os.fsdecode(self._top)} could not be restored"):
                    kept = self._file(folder, name, page, entry)
                with self._counting:
                    self._files += 1
                    self._bytes += entry.size
                    self._kept += kept
        finally:
            if folder >= 0:
                os.close(folder)

    def _file(self, folder: int, name: bytes, page: Page, entry: FileEntry) -> bool:
        """Restore one file; returns whether it was there already."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        except FileExistsError:
            if self._is_there(folder, name, entry):
                return True
        else:
            self._fill(descriptor, folder, name, page, entry)
            return False
        # Something else, or the torn file of an earlier try: replaced in one step.
        half = _half_name()
        self._fill(os.open(half, flags, 0o600, dir_fd=folder), folder, half, page, entry)
        _replace(folder, half, name)
        return False

    def _fill(self, descriptor: int, folder: int, name: bytes, page: Page, entry: FileEntry) -> None:
        """Write a new file and compare it; where that fails, there is none."""
        try:
            try:
                hasher, written, is_hole = blake3(), 0, False
                for piece, is_hole in self._reader.data(page, entry):
                    hasher.update(piece)
                    if is_hole:
                        os.lseek(descriptor, len(piece), os.SEEK_CUR)
                    else:
                        _write(descriptor, piece)
                    written += len(piece)
                if hasher.digest() != entry.digest or written != entry.size:
                    raise CorruptObject(f"{entry.path} is not what was stored.")
                if is_hole:
                    os.ftruncate(descriptor, written)
                _dress(descriptor, entry, self._self)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise

    def _is_there(self, folder: int, name: bytes, entry: FileEntry) -> bool:
        """Is the file there, from an earlier try? Its bytes are read and compared, as if it had been restored now."""
        try:
            inode = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(inode.st_mode) or inode.st_size != entry.size or inode.st_nlink > 1:
            return False
        hasher = blake3()
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        with open(descriptor, "rb", buffering=0) as file:
            while piece := file.read(1 << 22):
                hasher.update(piece)
            if hasher.digest() != entry.digest:
                return False
            _dress(descriptor, entry, None)
        return True

    def _complete(self) -> None:
        for entry in self._deferred.names:
            above, name = self._split(entry.path)
            first_above, first = self._split(entry.target)
            with self._folder_of(above) as folder, self._folder_of(first_above) as other:
                half = _half_name()
                os.link(first, half, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
                _replace(folder, half, name)
                _make_room(folder, half)  # renaming one name of a file to another of its names does nothing
            self._files += 1
        for entry in self._deferred.links:
            above, name = self._split(entry.path)
            with self._folder_of(above) as folder:
                half = _half_name()
                if entry.kind is EntryKind.PIPE:
                    os.mkfifo(half, entry.mode, dir_fd=folder)
                else:
                    os.symlink(unescape(entry.target), half, dir_fd=folder)
                _replace(folder, half, name)
                if self._self[0] == 0:
                    os.chown(name, entry.owner, entry.group, dir_fd=folder, follow_symlinks=False)
                if entry.kind is EntryKind.PIPE:  # the mode of a new one depends on the process's mask
                    os.chmod(name, entry.mode, dir_fd=folder)
                moment = modified_of(entry)
                os.utime(name, ns=(moment, moment), dir_fd=folder, follow_symlinks=False)
        for entry in reversed(self._deferred.folders):  # the innermost first: what is made in a folder changes its time
            with self._folder_of(self._relative(entry.path)) as folder:
                _dress(folder, entry, None)

    # Names, always below the top, never through a link.

    def _relative(self, path: str) -> str:
        return path[len(self._below) :].lstrip("/") if self._below else path

    def _split(self, path: str) -> tuple[str, bytes]:
        """(the folder below the top, the name in it); the top's own name in its parent is told by a folder of ``..``."""
        relative = self._relative(path)
        if not relative:
            return "..", os.path.basename(self._top)
        above, _, name = relative.rpartition("/")
        return above, unescape(name)

    def _folder(self, entry: FileEntry) -> None:
        above, name = self._split(entry.path)
        with (
            storage_errors(f"{entry.path or os.fsdecode(self._top)} could not be made"),
            self._folder_of(above) as folder,
        ):
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
                return
            except FileExistsError:
                pass
        with self._folder_of(self._relative(entry.path)) as folder:
            for left in os.listdir(folder):  # of an earlier try
                if os.fsencode(left).startswith(_HALF):
                    _make_room(folder, os.fsencode(left))

    def _open_folder(self, path: str) -> int:
        """A folder below the top, entered name by name. Raises CorruptObject where the snapshot never made it, StorageError."""
        try:
            with storage_errors(f"{path or os.fsdecode(self._top)} could not be entered as a folder"):
                return self._enter(path)
        except FileNotFoundError:
            raise CorruptObject(f"the snapshot has something in {path!r}, and no such folder.") from None
        except StorageError as failure:
            if isinstance(failure.__cause__, OSError) and failure.__cause__.errno in (errno.ENOTDIR, errno.ELOOP):
                raise TargetExists(f"({path or os.fsdecode(self._top)} is no folder)", next_step=_OTHER) from failure
            raise

    def _enter(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if path == "..":
            return os.open(os.path.dirname(self._top) or b".", flags)
        folder = os.open(self._top, flags | os.O_NOFOLLOW)
        for name in path.split("/") if path else ():
            try:
                inner = os.open(unescape(name), flags | os.O_NOFOLLOW, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder

    @contextlib.contextmanager
    def _folder_of(self, path: str) -> Iterator[int]:
        folder = self._open_folder(path)
        try:
            yield folder
        finally:
            os.close(folder)


def _write(descriptor: int, piece: bytes | memoryview) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


class _Flushing:
    """Lets the disk write while more is restored, so that the last sync is short. A disk tells of a failure once: it is kept."""

    def __init__(self, top: bytes) -> None:
        self._folder = Path(os.fsdecode(os.path.dirname(top) or b"."))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._going: Future[None] | None = None
        self._flushed = 0

    def __enter__(self) -> "_Flushing":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            self._check()

    def written(self, size: int) -> None:
        """So many bytes were written in all. Raises StorageError where what was written before did not reach the disk."""
        if size - self._flushed >= _FLUSH_BYTES and (self._going is None or self._going.done()):
            self._check()
            self._flushed = size
            self._going = self._thread.submit(_sync_all, self._folder)

    def _check(self) -> None:
        if self._going is not None:
            with storage_errors(f"{self._folder} could not be made durable"):
                self._going.result()


def _half_name() -> bytes:
    return _HALF + secrets.token_hex(8).encode()


def _replace(folder: int, half: bytes, name: bytes) -> None:
    """Give what was made its name, in place of what has it. Raises TargetExists where that is a folder."""
    try:
        os.rename(half, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as failure:
        _make_room(folder, half)
        if failure.errno in (errno.EISDIR, errno.ENOTEMPTY):
            raise TargetExists(f"({os.fsdecode(name)} is a folder)", next_step=_OTHER) from failure
        raise


def _make_room(folder: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _dress(descriptor: int, entry: FileEntry, has: tuple[int, int] | None) -> None:
    """Owner (where this process may), mode, attributes and time. ``has`` is the owner that it is known to have."""
    if os.geteuid() == 0 and has != (entry.owner, entry.group):
        os.fchown(descriptor, entry.owner, entry.group)
    for name, value in attributes_of(entry).items():  # before the mode, which may forbid it
        with contextlib.suppress(OSError):  # another file system may not have them
            os.setxattr(descriptor, unescape(name), value)
    os.fchmod(descriptor, entry.mode)
    moment = modified_of(entry)
    os.utime(descriptor, ns=(moment, moment))


def _sync_all(folder: Path) -> None:
    """Make a whole file system durable: one call for all files that were written (syncfs)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
