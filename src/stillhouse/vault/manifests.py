"""Manifests: what a snapshot holds, as values; FORMAT.md has the bytes. Pure.

A snapshot is a root, which names pages, which list entries in order and name the packs that hold their bytes. All three are
objects, named by the digest of their bytes; so the digest of the root stands for everything below it, and is the snapshot's name.
Nothing in them says when or where a snapshot was taken: the same content is the same snapshot. The log says that.
"""

import zlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec
import zstandard

from stillhouse.canon import canonical
from stillhouse.errors import CorruptObject

ROOT_MAGIC, PAGE_MAGIC, ENVELOPE_MAGIC = b"SHROOT1\n", b"SHPAGE1\n", b"SHSEAL1\n"
# About one path in this many ends a page, by the path alone: a new file changes one page and not all that follow.
_PATHS_PER_PAGE = 1024
_MOST_PER_PAGE = 8 * _PATHS_PER_PAGE
# A page decompresses to no more than this: what is larger was not written by us.
_LARGEST_PAGE = 1 << 28
# A range of zeros that is not stored stands in no pack.
HOLE = -1


class EntryKind(StrEnum):
    """What an entry is."""

    FILE = "f"
    FOLDER = "d"
    LINK = "l"
    SAME = "h"  # a further name of an earlier file (a hard link in the source)
    PIPE = "p"


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """A file, folder or link. ``path`` is relative, escaped (see ``escape``), "" for the root itself.

    ``extents`` are (pack, start, length) behind each other: a pack of the page by its place there, or HOLE. ``target`` is of a
    link or of a further name. ``modified`` counts nanoseconds since 1970.
    """

    path: str
    kind: EntryKind
    mode: int
    modified: int
    owner: int
    group: int
    size: int = 0
    digest: bytes = b""
    extents: tuple[int, ...] = ()
    target: str = ""
    attributes: dict[str, bytes] = {}
    sparse: bool = False

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """(pack, start, length) of each extent."""
        it = iter(self.extents)
        yield from zip(it, it, it, strict=True)


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Some entries in order, and the digests of the packs that their extents count by."""

    packs: tuple[bytes, ...]
    entries: tuple[FileEntry, ...]


class _Listing(msgspec.Struct, frozen=True, array_like=True):
    packs: tuple[bytes, ...]
    entries: msgspec.Raw


class PageRef(msgspec.Struct, frozen=True):
    """A page as its root names it. ``first`` and ``last`` are the paths between which its entries lie."""

    digest: str
    first: str
    last: str
    entries: int


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. ``bytes`` are those of its files, holes included; ``files`` counts files and further names of them."""

    format: int
    pages: tuple[PageRef, ...]
    files: int
    bytes: int


class Envelope(msgspec.Struct, frozen=True):
    """A snapshot whose objects are encrypted: which key, which object is its root, and which are all that it needs."""

    format: int
    key: str
    root: str
    objects: tuple[str, ...]


# Nanoseconds since 1970 that MessagePack holds: the years 1677 to 2554. What lies beyond stands in full in an attribute.
_EARLIEST, _LATEST = -(2**63), 2**64 - 1
_FAR_OFF = "stillhouse.modified"


def fits(modified: int) -> int:
    """A moment, or the nearest one that an entry can hold."""
    return max(_EARLIEST, min(_LATEST, modified))


def far_off(modified: int) -> dict[str, bytes]:
    """The attribute that has a moment which an entry cannot hold; none for all others."""
    return {} if fits(modified) == modified else {_FAR_OFF: str(modified).encode()}


def modified_of(entry: FileEntry) -> int:
    """When an entry was modified, in nanoseconds since 1970. Raises CorruptObject."""
    text = entry.attributes.get(_FAR_OFF)
    if text is None:
        return entry.modified
    try:
        return int(text)
    except ValueError as failure:
        raise CorruptObject(f"a manifest gives {entry.path!r} the time {text!r}, which is none.") from failure


def attributes_of(entry: FileEntry) -> dict[str, bytes]:
    """The attributes that a file system has."""
    return {name: value for name, value in entry.attributes.items() if name != _FAR_OFF}


def escape(name: bytes) -> str:
    r"""A name as text that JSON can hold and people can read: what is not UTF-8, and the backslash, stand as ``\xNN``."""
    text = name.replace(b"\\", b"\\x5c").decode("utf-8", "backslashreplace")
    return text.replace("\x00", "\\x00")


def unescape(text: str) -> bytes:
    """The bytes of an escaped name. Raises CorruptObject."""
    if "\\x" not in text:
        return text.encode()
    pieces = text.split("\\x")
    try:
        return pieces[0].encode() + b"".join(bytes.fromhex(piece[:2]) + piece[2:].encode() for piece in pieces[1:])
    except ValueError as failure:
        raise CorruptObject(f"a manifest has the name {text!r}, which is none.") from failure


def order(path: str) -> tuple[bytes, ...]:
    """By which paths are sorted: a folder before what is in it, and that before what follows the folder."""
    return tuple(unescape(part) for part in path.split("/")) if path else ()


def check_path(path: str) -> str:
    """The path, if it stays below where it is restored to. Raises CorruptObject."""
    # Escaped dots are dots all the same.
    parts = order(path)
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in parts):
        raise CorruptObject(f"a manifest names the path {path!r}, which leads elsewhere.")
    return path


def ends_page(path: str, entries: int) -> bool:
    """Does a page end behind this path?"""
    return zlib.crc32(path.encode()) % _PATHS_PER_PAGE == 0 or entries >= _MOST_PER_PAGE


def encode_page(page: Page) -> bytes:
    """The bytes of a page's object."""
    packed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(msgspec.msgpack.encode(page))
    return PAGE_MAGIC + packed


def decode_page(data: bytes, name: str) -> Page:
    """The page of an object, its paths checked. Raises CorruptObject."""
    page: Page = _decode(data, PAGE_MAGIC, Page, name)
    for entry in page.entries:
        check_path(entry.path)
        if entry.kind is EntryKind.SAME:
            check_path(entry.target)
        if len(entry.extents) % 3 or any(not HOLE <= pack < len(page.packs) for pack in entry.extents[::3]):
            raise CorruptObject(f"{name} names a pack that it does not list.")
    return page


def packs_of(data: bytes, name: str) -> tuple[bytes, ...]:
    """The packs that the page of an object names; its entries are not looked at. Raises CorruptObject."""
    listing: _Listing = _decode(data, PAGE_MAGIC, _Listing, name)
    return listing.packs


def encode_root(root: Root) -> bytes:
    """The bytes of a root's object."""
    return ROOT_MAGIC + canonical(root)


def decode_root(data: bytes, name: str) -> Root:
    """The root of an object. Raises CorruptObject."""
    if not data.startswith(ROOT_MAGIC):
        raise CorruptObject(f"{name} is not a snapshot of this version.")
    try:
        return msgspec.json.decode(data[len(ROOT_MAGIC) :], type=Root)
    except msgspec.MsgspecError as failure:
        raise CorruptObject(f"{name} cannot be read: {failure}.") from failure


def decode_envelope(data: bytes, name: str) -> Envelope:
    """The envelope of an encrypted snapshot. Raises CorruptObject."""
    try:
        return msgspec.json.decode(data.removeprefix(ENVELOPE_MAGIC), type=Envelope)
    except msgspec.MsgspecError as failure:
        raise CorruptObject(f"{name} cannot be read: {failure}.") from failure


def make_page(entries: Iterable[FileEntry], packs: list[bytes]) -> Page:
    """A page of entries whose extents count by ``packs``; it lists only those that it needs, in the order of their first use."""
    places: dict[int, int] = {HOLE: HOLE}
    listed: list[bytes] = []
    kept = []
    for entry in entries:
        extents = list(entry.extents)
        for place in range(0, len(extents), 3):
            pack = extents[place]
            if pack not in places:
                places[pack] = len(listed)
                listed.append(packs[pack])
            extents[place] = places[pack]
        kept.append(msgspec.structs.replace(entry, extents=tuple(extents)) if extents else entry)
    return Page(tuple(listed), tuple(kept))


def _decode(data: bytes, magic: bytes, kind: Any, name: str) -> Any:
    if not data.startswith(magic):
        raise CorruptObject(f"{name} is not a page of this version.")
    try:
        plain = zstandard.ZstdDecompressor().decompress(data[len(magic) :], max_output_size=_LARGEST_PAGE)
        return msgspec.msgpack.decode(plain, type=kind)
    except (msgspec.MsgspecError, zstandard.ZstdError) as failure:
        raise CorruptObject(f"{name} cannot be read: {failure}.") from failure
