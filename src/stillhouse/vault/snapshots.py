"""Take snapshots: a folder, or a file, becomes objects under one digest.

Where a kill can fall, and what is then true: until ``take`` returns no reader can know the snapshot, since its name is in no log;
what was stored by then is found again by the next try, which therefore resumes where this one stopped.

Covers: a file that changes while it is read is read again, and named where it does not hold still. Does not cover: files that
change one after another are each as they were at some moment of the snapshot, not all at the same one; freeze the source, or
snapshot a file system's own snapshot of it, where that matters.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_bytes, raw_digest
from stillhouse.errors import CorruptObject, SourceChanging, StorageError
from stillhouse.vault.chunks import LINE_BYTES, Cutter, cut_rolling, cutter_for
from stillhouse.vault.manifests import (
    HOLE,
    EntryKind,
    FileEntry,
    Page,
    PageRef,
    Root,
    attributes_of,
    encode_page,
    encode_root,
    ends_page,
    far_off,
    fits,
    make_page,
    order,
)
from stillhouse.vault.objects import Objects
from stillhouse.vault.packs import MAGIC
from stillhouse.vault.reading import Reader
from stillhouse.vault.seen import Mark, Seen
from stillhouse.vault.storing import Storing
from stillhouse.vault.walking import Met, Walk, read_still

if TYPE_CHECKING:
    from stillhouse.vault.index import ChunkIndex

# Read at once: enough for the disk and the cutters, little beside a pack.
_READ_BYTES = 1 << 23
# A file of this size is one chunk.
_SMALL_BYTES = 2 * LINE_BYTES
FORMAT = 1
_ZEROS = bytes(_READ_BYTES)


class Taken(NamedTuple):
    """A snapshot that was taken: its name, what is in it, what it cost, and what was left out."""

    snapshot: str
    files: int
    bytes: int
    bytes_added: int
    unchanged: int
    skipped: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


class _Pending(NamedTuple):
    entries: list[FileEntry]
    marks: list[Mark]
    packs: frozenset[int]


def take(
    objects: Objects,
    open_index: Callable[[], "ChunkIndex"],
    seen: Seen,
    walk: Walk,
    advanced: Callable[[int, int], None] = lambda files, count: None,
    damaged: frozenset[str] = frozenset(),
) -> Taken:
    """Store everything that the walk meets. ``advanced`` is called with files and bytes; ``damaged`` objects count as
    not there.

    Raises SourceChanging where a file is never the same for long enough to be read, StorageError where the disk refuses.
    """
    with Storing(objects, open_index, damaged) as storing:
        snapshot = _Snapshot(objects, storing, seen, walk, advanced)
        for met in walk:
            snapshot.add(met)
        taken = snapshot.finish()
    check_manifest(Reader(objects), taken.snapshot)
    return taken


class _Snapshot:
    def __init__(
        self, objects: Objects, storing: Storing, seen: Seen, walk: Walk, advanced: Callable[[int, int], None]
    ) -> None:
        self._objects, self._storing, self._seen, self._walk, self._advanced = objects, storing, seen, walk, advanced
        self._gone: dict[str, str] = {}  # first names that went away, and the name that stands for each since
        self._entries: list[FileEntry] = []
        self._marks: list[Mark] = []
        self._waiting: deque[_Pending] = deque()
        self._pages: list[PageRef] = []
        self._files = self._bytes = self._unchanged = self._added = 0

    def add(self, met: Met) -> None:
        entry = met.entry
        if entry.kind is EntryKind.SAME and entry.target in self._gone:
            instead = self._gone[entry.target]
            if instead:
                entry = msgspec.structs.replace(entry, target=instead)
            else:  # nobody has read this file yet
                self._gone[entry.target] = met.path
                met = self._walk.as_first(met, met.inode)
                entry = met.entry
        if entry.kind is EntryKind.FILE:
            try:
                entry, inode = self._file(met)
            except FileNotFoundError:
                self._went(met)  # since it was met: as if it had gone before
                return
            except (StorageError, SourceChanging):
                if not self._walk.skip_unreadable:
                    raise
                self._walk.unreadable.append(met.path)
                self._went(met)
                return
            if (inode.st_dev, inode.st_ino) != (met.inode.st_dev, met.inode.st_ino):
                self._went(met)  # another file stands in its place: its further names are those of the one before
            self._marks.append(Mark(inode.st_ino, inode.st_ctime_ns))
            self._bytes += entry.size
        if entry.kind in (EntryKind.FILE, EntryKind.SAME):
            self._files += 1
            self._advanced(self._files, self._bytes)
        self._entries.append(entry)
        if ends_page(entry.path, len(self._entries)):
            self._end_page()

    def _went(self, met: Met) -> None:
        """A file is not in the snapshot by this name; by a later one of the same file it still can be."""
        standing_for = next((first for first, name in self._gone.items() if name == met.path), met.path)
        self._gone[standing_for] = self._gone[met.path] = ""

    def finish(self) -> Taken:
        if self._entries:
            self._end_page()
        self._storing.finish()
        self._flush()
        root = Root(format=FORMAT, pages=tuple(self._pages), files=self._files, bytes=self._bytes)
        name = self._put(encode_root(root))
        self._seen.finish()
        added = self._storing.bytes_added + self._added
        skipped, unreadable = tuple(self._walk.skipped), tuple(self._walk.unreadable)
        return Taken(name, self._files, self._bytes, added, self._unchanged, skipped, unreadable)

    def _file(self, met: Met) -> tuple[FileEntry, os.stat_result]:
        before = self._seen.unchanged(met.entry, met.inode)
        if before is not None:
            places = [self._storing.known(pack) for pack in before.packs]
            extents = list(before.entry.extents)
            used = [places[pack] if pack != HOLE else HOLE for pack in extents[::3]]
            if None not in used:
                extents[::3] = used  # type: ignore[assignment]
                self._unchanged += 1
                return msgspec.structs.replace(
                    met.entry, digest=before.entry.digest, extents=tuple(extents), sparse=before.entry.sparse
                ), met.inode
        return self._read(met)

    def _read(self, met: Met) -> tuple[FileEntry, os.stat_result]:
        (digest, extents), inode = read_still(met, self._store)
        entry = msgspec.structs.replace(
            met.entry,
            size=inode.st_size,
            modified=fits(inode.st_mtime_ns),
            digest=digest,
            extents=tuple(extents),
            attributes={**attributes_of(met.entry), **far_off(inode.st_mtime_ns)},
        )
        return entry, inode

    def _store(self, descriptor: int, inode: os.stat_result) -> tuple[tuple[bytes, Sequence[int]], int]:
        """Store what a file holds; returns its digest, its extents, and how many bytes those are."""
        if inode.st_size <= _SMALL_BYTES and inode.st_blocks * 512 >= inode.st_size:  # and no hole: one chunk
            data = os.read(descriptor, _SMALL_BYTES)
            digest = blake3(data).digest()
            return (digest, self._storing.put_one(data, digest) if data else ()), len(data)
        hasher = blake3()
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            extents = self._contents(file, inode, hasher)
        return (hasher.digest(), extents), sum(extents[2::3])

    def _contents(self, file: BinaryIO, inode: os.stat_result, hasher: blake3) -> list[int]:
        """Store what a file holds; returns its extents."""
        extents: list[int] = []
        if inode.st_blocks * 512 >= inode.st_size:
            self._stretch(file, inode.st_size, cutter_for(file, inode.st_size), hasher, extents)
            return extents
        for start, length, is_hole in _stretches(file.fileno(), inode.st_size):
            if is_hole:
                _extend(extents, HOLE, 0, length)
                for left in range(length, 0, -_READ_BYTES):
                    hasher.update(_ZEROS[: min(left, _READ_BYTES)])
            else:
                file.seek(start)
                self._stretch(file, length, cut_rolling, hasher, extents)
        return extents

    def _stretch(self, file: BinaryIO, length: int, cutter: Cutter, hasher: blake3, extents: list[int]) -> None:
        """Store the next ``length`` bytes of a file, or what there is of them."""
        carried = b""
        while True:
            data = file.read(min(length, _READ_BYTES))
            length -= len(data)
            hasher.update(data)
            last = not data or not length
            buffer = memoryview(carried + data if carried else data)
            cuts = cutter(buffer, last)
            for extent in self._storing.put(buffer, cuts):
                _extend(extents, *extent)
            if last:
                return
            carried = bytes(buffer[cuts[-1] :]) if cuts else bytes(buffer)

    def _end_page(self) -> None:
        packs = {pack for entry in self._entries for pack in entry.extents[::3]}
        self._waiting.append(_Pending(self._entries, self._marks, frozenset(packs)))
        self._entries, self._marks = [], []
        self._flush()

    def _flush(self) -> None:
        """Store the pages whose packs all have their names, in order."""
        while self._waiting and all(map(self._storing.is_stored, self._waiting[0].packs)):
            entries, marks, _ = self._waiting.popleft()
            page: Page = make_page(entries, self._storing.packs)
            digest = self._put(encode_page(page))
            self._pages.append(PageRef(digest, entries[0].path, entries[-1].path, len(entries)))
            self._seen.keep(page, marks)

    def _put(self, data: bytes) -> str:
        name = digest_bytes(data)
        before = self._objects.exists(name)
        digest = self._storing.store(data)
        self._added += 0 if before else len(data)
        return digest


def check_manifest(reader: Reader, snapshot: str) -> None:
    """Does a snapshot name nothing that it does not hold? Walks its pages once, and reads no data. Raises CorruptObject.

    Every path stands once, in order, below a folder that is there; a further name has its file before it; the ranges of a file
    add up to its size.
    """
    root = reader.root(snapshot)
    wanted: set[str] = (
        set()
    )  # the files that further names are of: few, so that the memory of a walk does not grow with it
    above = [""]
    last: tuple[bytes, ...] | None = None
    for page in reader.pages(root):
        for entry in page.entries:
            place = order(entry.path)
            if last is not None and place <= last:
                raise CorruptObject(f"the snapshot names {entry.path!r} out of order.")
            last, folder = place, entry.path.rpartition("/")[0]
            while above and above[-1] != folder:
                above.pop()
            if not above:
                raise CorruptObject(f"the snapshot names {entry.path!r}, and not the folder that it is in.")
            if entry.kind is EntryKind.FOLDER and entry.path:
                above.append(entry.path)
            elif entry.kind is EntryKind.SAME:
                if order(entry.target) >= place:
                    raise CorruptObject(f"the snapshot names {entry.path!r} before the file that it is.")
                wanted.add(entry.target)
            elif entry.kind is EntryKind.FILE and sum(length for _, _, length in entry.ranges()) != entry.size:
                raise CorruptObject(f"the snapshot does not hold all of {entry.path!r}.")
    if wanted:
        for page in reader.pages(root):
            wanted -= {entry.path for entry in page.entries if entry.kind is EntryKind.FILE}
    for target in sorted(wanted):
        raise CorruptObject(f"the snapshot holds further names of {target!r}, and not that file.")


def _extend(extents: list[int], pack: int, start: int, length: int) -> None:
    """Add a range behind the others, or to the last where it goes on there."""
    if extents and extents[-3] == pack and (pack == HOLE or extents[-2] + extents[-1] == start):
        extents[-1] += length
    else:
        extents += (pack, start, length)


def _stretches(descriptor: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """(start, length, is it a hole) of a sparse file, in order."""
    place = 0
    while place < size:
        try:
            data = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError as failure:
            if failure.errno != errno.ENXIO:  # which says that there is nothing but a hole up to the end
                raise
            data = size
        if data > place:
            yield place, data - place, True
        if data < size:
            hole = os.lseek(descriptor, data, os.SEEK_HOLE)
            yield data, hole - data, False
            place = hole
        else:
            place = size


def known_packs(objects: Objects, index: "ChunkIndex") -> int:
    """Make every pack of the vault known to the index; returns how many were not. For when the cache was lost."""
    found = 0
    known = index.packs
    for digest in objects.list():
        if raw_digest(digest) not in known and objects.begins(digest, MAGIC):
            index.add(raw_digest(digest), objects.pack(digest).chunks())
            found += 1
    return found
