"""Read snapshots: their pages, and the bytes of their files.

Blocks are decompressed once for all files that share them, as long as they are asked for in about the order in which they stand.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from stillhouse.canon import tagged_digest
from stillhouse.errors import CorruptObject
from stillhouse.vault.manifests import (
    ENVELOPE_MAGIC,
    HOLE,
    FileEntry,
    Page,
    PageRef,
    Root,
    decode_envelope,
    decode_page,
    decode_root,
    order,
    packs_of,
)
from stillhouse.vault.objects import Objects
from stillhouse.vault.packs import Pack

# Blocks that are kept: 16 MiB. Files that stand together share one or two.
_BLOCKS = 16
# Tables of packs that are kept: about a megabyte each.
_PACKS = 32
_ZEROS = bytes(1 << 20)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Recent(Generic[_Key, _Value]):
    """The last few values, each made once though several threads ask for it."""

    def __init__(self, most: int, make: Callable[[_Key], _Value]) -> None:
        self._most, self._make = most, make
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._making: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            value = self._make(key)
            with self._lock:
                self._values[key] = value
                self._making.pop(key, None)
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
        return value


class Reader:
    """Reads what snapshots of one vault name. Safe to use from several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._packs = _Recent[bytes, Pack](_PACKS, lambda pack: objects.pack(tagged_digest(pack)))
        self._blocks = _Recent[tuple[bytes, int], bytes](_BLOCKS, lambda key: self._packs.get(key[0]).block(key[1]))

    def root(self, snapshot: str) -> Root:
        """A snapshot's root. Raises CorruptObject."""
        return decode_root(self._objects.get(snapshot), snapshot)

    def needed(self, snapshot: str) -> Iterator[str]:
        """Every object that a snapshot needs, itself first; some more than once. Raises CorruptObject."""
        yield snapshot
        data = self._objects.get(snapshot)
        if data.startswith(ENVELOPE_MAGIC):
            yield from decode_envelope(data, snapshot).objects
            return
        root = decode_root(data, snapshot)
        for ref in root.pages:
            yield ref.digest
        for ref in root.pages:
            yield from map(tagged_digest, self.packs(ref))

    def pages(self, root: Root, below: str = "") -> Iterator[Page]:
        """Its pages in order; only those that can hold something at or below a path, where one is given."""
        start = order(below)
        for ref in root.pages:
            if below and (order(ref.last) < start or order(ref.first)[: len(start)] > start):
                continue
            yield self.page(ref)

    def page(self, ref: PageRef) -> Page:
        """One page. Raises CorruptObject."""
        page = decode_page(self._objects.get(ref.digest), ref.digest)
        if len(page.entries) != ref.entries:
            raise CorruptObject(f"{ref.digest} has {len(page.entries)} entries, and should have {ref.entries}.")
        return page

    def packs(self, ref: PageRef) -> tuple[bytes, ...]:
        """The packs that a page needs. Raises CorruptObject."""
        return packs_of(self._objects.get(ref.digest), ref.digest)

    def find(self, root: Root, path: str) -> tuple[Page, FileEntry]:
        """One entry. Raises CorruptObject where the snapshot has none of that path."""
        for page in self.pages(root, path):
            for entry in page.entries:
                if entry.path == path:
                    return page, entry
        raise CorruptObject(f"the snapshot names {path!r}, and does not hold it.")

    def data(self, page: Page, entry: FileEntry) -> Iterator[tuple[bytes | memoryview, bool]]:
        """The bytes of a file in pieces, each with whether it is a hole. They are not yet compared with the file's digest."""
        for pack, start, length in entry.ranges():
            if pack == HOLE:
                for left in range(length, 0, -len(_ZEROS)):
                    yield memoryview(_ZEROS)[: min(left, len(_ZEROS))], True
                continue
            name = page.packs[pack]
            for block, first, stop in self._packs.get(name).blocks_of(start, length):
                yield memoryview(self._blocks.get((name, block)))[first:stop], False


def is_below(path: str, below: str) -> bool:
    """Is a path this one, or in it?"""
    return not below or path == below or path.startswith(below + "/")
