"""Put chunks into packs, and packs into the vault, on the machine's other cores.

Chunks that the vault has are found, the others gather in blocks, blocks are compressed in threads, packs are stored in one more,
in order. What is held in memory is bounded: a pack that is being filled, one that is being stored, and a few blocks between.
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

from blake3 import blake3

from stillhouse.canon import raw_digest, tagged_digest
from stillhouse.vault.objects import Objects
from stillhouse.vault.packs import BLOCK_BYTES, PACK_BYTES, Block, assemble, compress

if TYPE_CHECKING:
    from stillhouse.vault.index import ChunkIndex

# Blocks that wait for a core, per core: enough that none is ever idle.
_WAITING_PER_CORE = 4


class Storing:
    """Stores chunks for one snapshot. Places of packs in ``packs`` are what extents count by; a digest is empty until stored.

    Use it as a context manager; ``finish`` before leaving it, or nothing of the last pack is kept.
    """

    def __init__(
        self, objects: Objects, open_index: Callable[[], "ChunkIndex"], damaged: frozenset[str] = frozenset()
    ) -> None:
        """The index is opened when a chunk is first looked for: where nothing changed, it is not needed. ``damaged`` objects are
        not relied on: what needs them is stored again, and they are replaced where it is the same.
        """
        self.packs: list[bytes] = []
        self.bytes_added = 0
        self._objects, self._open_index, self._damaged = objects, open_index, damaged
        self._cores = len(os.sched_getaffinity(0))
        self._compressing = ThreadPoolExecutor(self._cores, thread_name_prefix="compress")
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._known: dict[bytes, int | None] = {}  # a pack's place, by digest; None where the vault has it not
        self._stored: deque[tuple[int, Future[tuple[bytes, int]], dict[bytes, int]]] = deque()
        self._begin()

    def __enter__(self) -> "Storing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._compressing.shutdown(wait=True, cancel_futures=True)
        self._storing.shutdown(wait=True, cancel_futures=True)

    @functools.cached_property
    def _index(self) -> "ChunkIndex":
        return self._open_index()

    def put(self, buffer: memoryview, cuts: Sequence[int]) -> list[tuple[int, int, int]]:
        """Store the chunks that end at these cuts; returns (pack, start, length) for each run of them that stands together."""
        if not cuts:
            return []
        starts = [0, *cuts[:-1]]
        digests = [blake3(buffer[start:stop]).digest() for start, stop in zip(starts, cuts, strict=True)]
        extents: list[tuple[int, int, int]] = []
        pack = place = -2
        length = fresh = 0  # fresh: from where on the buffer's bytes are still to be appended
        for digest, start, stop, found in zip(digests, starts, cuts, self._index.find(digests), strict=True):
            before = self._find(digest, found)
            if before is None:
                if self._is_full(stop - start):
                    self._append(buffer[fresh:start])
                    self._seal()
                    fresh = start
                before = self._promise(digest, stop - start)
                if self._filled - self._blocked >= BLOCK_BYTES:
                    self._append(buffer[fresh:stop])
                    fresh = stop
            else:
                self._append(buffer[fresh:start])
                fresh = stop
            if before[0] == pack and place + length == before[1]:
                length += stop - start
            else:
                if length:
                    extents.append((pack, place, length))
                pack, place = before
                length = stop - start
        self._append(buffer[fresh : cuts[-1]])
        return [*extents, (pack, place, length)] if length else extents

    def put_one(self, piece: bytes, digest: bytes) -> tuple[int, int, int]:
        """Store one chunk of a known digest; returns its (pack, start, length)."""
        before = self._find(digest, self._index.find_one(digest))
        if before is None:
            if self._is_full(len(piece)):
                self._seal()
            before = self._promise(digest, len(piece))
            self._append(piece)
        return (*before, len(piece))

    def known(self, pack: bytes) -> int | None:
        """The place of a pack that the vault has; None where it has not."""
        if pack not in self._known:
            name = tagged_digest(pack)
            if name in self._damaged or not self._objects.exists(name):
                self._known[pack] = None
            else:
                self._known[pack] = len(self.packs)
                self.packs.append(pack)
        return self._known[pack]

    def store(self, data: bytes) -> str:
        """Store an object, in place of a damaged one where there is one; returns its digest."""
        digest = self._objects.put(data)
        if digest in self._damaged:
            self._objects.discard(digest)
            self._objects.put(data)
        return digest

    def is_stored(self, pack: int) -> bool:
        """Has a pack a name yet?"""
        return pack < 0 or bool(self.packs[pack])

    def finish(self) -> None:
        """Store what is left, and wait until all of it is durable."""
        self._seal()
        self._collect(wait=True)

    def _find(self, digest: bytes, found: tuple[bytes, int] | None) -> tuple[int, int] | None:
        """Where a chunk is (pack, start): in this pack, or where the index found it if that is there."""
        here = self._here.get(digest)
        if here is not None:
            return self._pack, here
        if found is not None:
            known = self.known(found[0])
            if known is not None:
                return known, found[1]
        return None

    def _is_full(self, length: int) -> bool:
        return self._filled + length > PACK_BYTES and self._filled > 0

    def _promise(self, digest: bytes, length: int) -> tuple[int, int]:
        """Give a chunk its place in this pack; its bytes are to be appended in the same order."""
        place = self._here[digest] = self._filled
        self._filled += length
        return self._pack, place

    def _append(self, data: memoryview | bytes) -> None:
        self._block += data
        if len(self._block) >= BLOCK_BYTES:
            self._compress()

    def _begin(self) -> None:
        self._pack, self._filled, self._blocked = len(self.packs), 0, 0
        self.packs.append(b"")
        self._here: dict[bytes, int] = {}  # where each chunk of this pack starts, in their order
        self._block = bytearray()
        self._blocks: list[Future[tuple[Block, bytes]]] = []

    def _compress(self) -> None:
        waiting = self._cores * _WAITING_PER_CORE
        if len(self._blocks) >= waiting:
            self._blocks[-waiting].result()
        self._blocks.append(self._compressing.submit(compress, self._block))
        self._block, self._blocked = bytearray(), self._filled

    def _seal(self) -> None:
        if not self._here:
            return
        if self._block:
            self._compress()
        self._collect(wait=len(self._stored) > 0)
        task = self._storing.submit(self._store, self._blocks, self._here, self._filled)
        self._stored.append((self._pack, task, self._here))
        self._begin()

    def _store(
        self, blocks: list[Future[tuple[Block, bytes]]], chunks: dict[bytes, int], length: int
    ) -> tuple[bytes, int]:
        made = [block.result() for block in blocks]
        blocks.clear()
        data = assemble(made, chunks, length)
        return raw_digest(self.store(data)), len(data)

    def _collect(self, *, wait: bool) -> None:
        """Take the names of packs that are stored, and let their chunks be found."""
        while self._stored and (wait or self._stored[0][1].done()):
            place, task, chunks = self._stored.popleft()
            self.packs[place], size = task.result()
            self.bytes_added += size
            if self._known.get(self.packs[place]) is None:
                self._known[self.packs[place]] = place
            self._index.add(self.packs[place], chunks)
