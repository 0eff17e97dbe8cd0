"""Data that is too large to copy, kept track of where it is: a manifest says what is there, and is compared with it later.

The manifest is that of a snapshot whose files have no extents: pages and a root, each named by its digest, so that one digest
stands for all of it (a Merkle tree). Two kinds of places: a folder, whose files are read and hashed; and the prefix of a bucket
that keeps versions, whose objects are known by version, size and ETag, and by their bytes where those were read.

Covers: what is missing, hidden, other than it was, or new. Does not cover: keeping it; nothing here stops anybody, and what is
lost cannot be had from here. Not supported, and registered as the plain files that they are: tables that are still written
(Lance, Iceberg, Delta, Hudi), DVC and git-annex stores.
"""

import os
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from blake3 import blake3

from stillhouse.errors import UsageError
from stillhouse.vault.manifests import (
    EntryKind,
    FileEntry,
    Page,
    PageRef,
    Root,
    encode_page,
    encode_root,
    ends_page,
    fits,
    order,
)
from stillhouse.vault.objects import Objects
from stillhouse.vault.s3 import S3Backend
from stillhouse.vault.seen import Mark, Seen
from stillhouse.vault.snapshots import FORMAT
from stillhouse.vault.walking import Met, Walk, read_still

_PIECE = 1 << 23
# So that a key of a bucket is one part of a path, whatever is in it.
_KEY = "key="
_ETAG = "etag"


class FoundFile(NamedTuple):
    """A thing that is in a place now: its entry, without a digest where that costs reading it, and that reading."""

    entry: FileEntry
    read: Callable[[], bytes]


class RegisteredPlace(Protocol):
    """Where data lies. ``found`` yields in one order, which ``before`` compares by."""

    def found(self) -> Iterator[FoundFile]:
        """Everything that is there now. Raises StorageError."""

    def registering(self) -> Iterator[FileEntry]:
        """The same with all that is to be remembered of it. Raises SourceChanging, StorageError."""

    def before(self, entry: FileEntry) -> tuple[bytes, ...]:
        """By which entries are in order."""

    def differs(self, known: FileEntry, present: FileEntry) -> str:
        """Why a thing cannot be the same, by what costs nothing to look at; "" where it can."""

    def must_read(self, known: FileEntry, present: FileEntry) -> bool:
        """Does only reading tell whether it is the same?"""

    def keep(self, page: Page) -> None:
        """Remember a page of what was registered, where that saves reading it the next time."""


class Folder:
    """Data in a folder. What did not change since it was last registered (inode, size, times) is not read again."""

    def __init__(self, source: Path, seen: Seen, walk: Walk) -> None:
        self._source, self._seen, self._walk = source, seen, walk
        self._marks: list[Mark] = []

    def found(self) -> Iterator[FoundFile]:
        """Everything that is there now."""
        for met in self._walk:
            yield FoundFile(met.entry, partial(_digest_of, met))

    def registering(self) -> Iterator[FileEntry]:
        """The same, each file with the digest of its bytes."""
        for met in self._walk:
            if met.entry.kind is not EntryKind.FILE:
                yield met.entry
                continue
            before = self._seen.unchanged(met.entry, met.inode)
            try:
                digest, inode = (before.entry.digest, met.inode) if before else read_still(met, _hash)
            except FileNotFoundError:
                continue  # it went away since it was met: as if it had gone before
            self._marks.append(Mark(inode.st_ino, inode.st_ctime_ns))
            yield msgspec.structs.replace(
                met.entry, size=inode.st_size, modified=fits(inode.st_mtime_ns), digest=digest
            )

    def keep(self, page: Page) -> None:
        """Remember a page of what was registered, for the next time."""
        files = sum(entry.kind is EntryKind.FILE for entry in page.entries)
        self._seen.keep(page, self._marks[:files])
        del self._marks[:files]

    def before(self, entry: FileEntry) -> tuple[bytes, ...]:
        """Folders before what is in them."""
        return order(entry.path)

    def differs(self, known: FileEntry, present: FileEntry) -> str:
        """Another kind, size or target."""
        if known.kind is not present.kind:
            return f"is another kind of thing ({known.kind} was registered, {present.kind} is there)"
        if known.size != present.size:
            return f"has {present.size:,} bytes, and {known.size:,} were registered"
        return "leads elsewhere" if known.target != present.target else ""

    def must_read(self, known: FileEntry, present: FileEntry) -> bool:
        """A file whose time is another."""
        return known.kind is EntryKind.FILE and known.modified != present.modified


class Bucket:
    """Data below a prefix of a bucket that keeps versions."""

    def __init__(self, store: S3Backend, *, read: bool) -> None:
        """``read``: read every object when registering, so that its bytes are known, and not its version and ETag alone."""
        self._store, self._read = store, read

    def found(self) -> Iterator[FoundFile]:
        """The newest version of everything that is not hidden."""
        for one in self._store.newest_versions():
            entry = FileEntry(
                path=_KEY + urllib.parse.quote(one.key, safe=""), kind=EntryKind.FILE, mode=0, modified=0, owner=0, group=0,
                size=one.size, target=one.version, attributes={_ETAG: one.etag.encode()},
            )  # fmt: skip
            yield FoundFile(entry, partial(_digest_of_version, self._store, one.key, one.version))

    def registering(self) -> Iterator[FileEntry]:
        """The same, with digests where they were asked for."""
        for entry, read in self.found():
            yield msgspec.structs.replace(entry, digest=read()) if self._read else entry

    def keep(self, page: Page) -> None:
        """Versions are known by their names: nothing needs remembering."""

    def before(self, entry: FileEntry) -> tuple[bytes, ...]:
        """As buckets list: by the bytes of keys."""
        return (name_of(entry).encode(),)

    def differs(self, known: FileEntry, present: FileEntry) -> str:
        """Another version is a change, even with the same bytes: somebody wrote."""
        if known.target != present.target:
            return "has a newer version than was registered"
        same = (known.size, known.attributes) == (present.size, present.attributes)
        return "" if same else "has another size or ETag under the same version"

    def must_read(self, known: FileEntry, present: FileEntry) -> bool:
        """A version does not change."""
        return False


class Change(NamedTuple):
    """One thing that is not as it was registered."""

    path: str
    what: str


class Comparison(NamedTuple):
    """What a comparison found. ``read`` files were compared by their bytes; of ``unknown`` ones no bytes were ever read, so that
    size, version and ETag are all that was compared; ``new`` are there, and were not registered.

    ``at_most`` is the share of files with other bytes that the sample rules out with 99 % confidence, 0 where all were read.
    """

    files: int
    read: int
    unknown: int
    changes: tuple[Change, ...]
    new: tuple[str, ...]
    at_most: float


class Registration(NamedTuple):
    """A manifest that was stored: its name, and what it is of."""

    manifest: str
    files: int
    bytes: int


def register(
    objects: Objects, place: RegisteredPlace, advanced: Callable[[int, int], None] = lambda files, count: None
) -> Registration:
    """Store a manifest of everything in a place. Raises SourceChanging, StorageError."""
    refs: list[PageRef] = []
    entries: list[FileEntry] = []
    files = size = 0

    def end_page() -> None:
        page = Page((), tuple(entries))
        digest = objects.put(encode_page(page))
        refs.append(PageRef(digest, entries[0].path, entries[-1].path, len(entries)))
        place.keep(page)
        entries.clear()

    for entry in place.registering():
        entries.append(entry)
        if entry.kind in (EntryKind.FILE, EntryKind.SAME):
            files, size = files + 1, size + entry.size
            advanced(files, size)
        if ends_page(entry.path, len(entries)):
            end_page()
    if entries:
        end_page()
    root = Root(format=FORMAT, pages=tuple(refs), files=files, bytes=size)
    return Registration(objects.put(encode_root(root)), files, size)


def examine(
    place: RegisteredPlace,
    known: Iterator[FileEntry],
    chosen: Callable[[int], bool],
    advanced: Callable[[int], None] = lambda files: None,
) -> Comparison:
    """Compare a place with what was registered of it: names, sizes and versions of all; the bytes of the files ``chosen`` by
    their number, and of those whose times are others.

    Raises StorageError.
    """
    changes: list[Change] = []
    new: list[str] = []
    files = read = unknown = 0
    present = place.found()
    here = next(present, None)
    for entry in known:
        while here is not None and place.before(here.entry) < place.before(entry):
            new.append(name_of(here.entry))
            here = next(present, None)
        if here is None or place.before(here.entry) != place.before(entry):
            changes.append(Change(name_of(entry), "is not there any more"))
            files += entry.kind is EntryKind.FILE
            continue
        what = place.differs(entry, here.entry)
        if entry.kind is EntryKind.FILE:
            wanted = not what and (chosen(files) or place.must_read(entry, here.entry))
            files += 1
            advanced(files)
            if wanted and not entry.digest:
                unknown += 1
            elif wanted:
                read += 1
                what = _compared(here, entry)
        if what:
            changes.append(Change(name_of(entry), what))
        here = next(present, None)
    while here is not None:
        new.append(name_of(here.entry))
        here = next(present, None)
    at_most = 0.0 if read >= files else 1 - 0.01 ** (1 / read) if read else 1.0
    return Comparison(files, read, unknown, tuple(changes), tuple(new), at_most)


def name_of(entry: FileEntry) -> str:
    """What people call an entry: its path, or its key."""
    return urllib.parse.unquote(entry.path.removeprefix(_KEY)) if _ETAG in entry.attributes else entry.path or "."


def _compared(here: FoundFile, entry: FileEntry) -> str:
    try:
        return "" if here.read() == entry.digest else "has other bytes than were registered"
    except (FileNotFoundError, KeyError):
        return "is not there any more"


def open_folder(source: Path, seen: Seen, leave_out: frozenset[tuple[int, int]]) -> Folder:
    """A folder as a place. Raises UsageError where it is none."""
    if not source.is_dir():
        raise UsageError(f"{source} is no folder.", next_step="Name a folder, or s3://bucket/prefix.")
    return Folder(source, seen, Walk(source, leave_out))


def _digest_of(met: Met) -> bytes:
    return read_still(met, _hash)[0]


def _hash(descriptor: int, inode: os.stat_result) -> tuple[bytes, int]:
    hasher, length = blake3(), 0
    while piece := os.read(descriptor, _PIECE):
        hasher.update(piece)
        length += len(piece)
    return hasher.digest(), length


def _digest_of_version(store: S3Backend, key: str, version: str) -> bytes:
    hasher = blake3()
    for piece in store.read_version(key, version):
        hasher.update(piece)
    return hasher.digest()
