"""Packs: many chunks in one object, compressed together in blocks; FORMAT.md has the bytes.

A chunk is what is stored once, a block what is compressed as one (neighbours make each other smaller), a pack what the backend
holds (few enough to list, lock and renew). A place in a pack is a place in its *uncompressed* bytes, so a run of chunks that
stand together is one range, whatever the number of its chunks and blocks.
"""

import bisect
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

import msgspec
import zstandard

from stillhouse.errors import CorruptObject

MAGIC = b"SHPACK1\n"
# Large enough to compress about as well as the whole, small enough that one record costs little to read.
BLOCK_BYTES = 1 << 20
# Uncompressed. 100 TB are two million objects; a writer holds two of them in memory.
PACK_BYTES = 1 << 26
# By measurement on JSONL, in blocks of this size: 4 % larger than 2 and 3, and 15 to 45 % faster; compressing is what a
# snapshot waits for.
_LEVEL = 1
_RAW, _ZSTD = 0, 1
# A block that shrinks by less than this stays as it is: reading it back then costs nothing.
_WORTH = 0.97
_END = struct.Struct("<Q8s")


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A block as it is stored: its bytes there, its bytes uncompressed, and how it is compressed."""

    stored: int
    length: int
    codec: int


class ChunkTable(msgspec.Struct, frozen=True, array_like=True):
    """What a pack holds: its blocks, and the chunks in them by length (four bytes each) and digest (32 bytes each)."""

    blocks: tuple[Block, ...]
    lengths: bytes
    digests: bytes


def compress(data: bytes | bytearray) -> tuple[Block, bytes]:
    """A block, and its bytes as stored. They carry a checksum of the uncompressed bytes."""
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)
    if len(packed) > len(data) * _WORTH:
        return Block(len(data), len(data), _RAW), bytes(data)
    return Block(len(packed), len(data), _ZSTD), packed


def assemble(blocks: Sequence[tuple[Block, bytes]], chunks: Mapping[bytes, int], length: int) -> bytes:
    """The bytes of a pack of so many uncompressed ones: its blocks, and where in them each chunk starts, in order."""
    starts = list(chunks.values())
    lengths = struct.pack(f"<{len(chunks)}I", *(stop - start for start, stop in pairwise([*starts, length])))
    table = ChunkTable(tuple(block for block, _ in blocks), lengths, b"".join(chunks))
    packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(msgspec.msgpack.encode(table))
    return b"".join([MAGIC, *(stored for _, stored in blocks), packed, _END.pack(len(packed), MAGIC)])


class Pack:
    """A pack of a backend, read in ranges. Its table is read at once, its blocks when they are asked for."""

    def __init__(self, name: str, size: int, read: Callable[[int, int], bytes]) -> None:
        """``read`` gives bytes of the object by start and length. Raises CorruptObject."""
        self.name = name
        self._read = read
        length, magic = _END.unpack(self._exactly(size - _END.size, _END.size)) if size >= _END.size else (0, b"")
        if magic != MAGIC or not 0 < length <= size - _END.size - len(MAGIC):
            raise CorruptObject(f"{name} is not a pack of this version.")
        table = self._exactly(size - _END.size - length, length)
        try:
            self.table = msgspec.msgpack.decode(_decompress(table, 1 << 30), type=ChunkTable)
        except (msgspec.MsgspecError, zstandard.ZstdError) as failure:
            raise CorruptObject(f"the table of {name} cannot be read: {failure}.") from failure
        self._ends = list(accumulate(block.length for block in self.table.blocks))
        self._stored = list(accumulate((block.stored for block in self.table.blocks), initial=len(MAGIC)))

    def chunks(self) -> dict[bytes, int]:
        """Where each chunk starts in the uncompressed bytes, by its digest, in order."""
        lengths = struct.unpack(f"<{len(self.table.lengths) // 4}I", self.table.lengths)
        starts = accumulate(lengths, initial=0)
        return {
            self.table.digests[32 * place : 32 * place + 32]: start
            for place, start in zip(range(len(lengths)), starts, strict=False)
        }

    def blocks_of(self, start: int, length: int) -> list[tuple[int, int, int]]:
        """(block, start in it, end in it) that together hold a range. Raises CorruptObject for one that is not there."""
        if not self._ends or start < 0 or start + length > self._ends[-1]:
            raise CorruptObject(f"{self.name} has no bytes {start} to {start + length}.")
        found = []
        end = start + length
        place = bisect.bisect_right(self._ends, start)
        while start < end:
            first = self._ends[place] - self.table.blocks[place].length
            stop = min(end, self._ends[place])
            found.append((place, start - first, stop - first))
            start, place = stop, place + 1
        return found

    def block(self, place: int) -> bytes:
        """The uncompressed bytes of a block. Raises CorruptObject."""
        block = self.table.blocks[place]
        stored = self._exactly(self._stored[place], block.stored)
        if block.codec == _RAW:
            return stored
        try:
            data = _decompress(stored, block.length)
        except zstandard.ZstdError as failure:
            raise CorruptObject(f"block {place} of {self.name} cannot be read: {failure}.") from failure
        if len(data) != block.length:
            raise CorruptObject(f"block {place} of {self.name} has another length than it should.")
        return data

    def _exactly(self, start: int, length: int) -> bytes:
        data = self._read(start, length)
        if len(data) != length:
            raise CorruptObject(f"{self.name} ends too early.")
        return data


def _decompress(data: bytes, limit: int) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit)
