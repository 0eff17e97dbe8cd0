"""Single entries of the log by their position, without reading all that comes before them.

A sealed segment is decompressed as a whole, and its digest stands for every byte of it; some are kept in memory. Of the segment
that is being written, the frames that are asked for are read, and compared with their checksums; that its chain holds is what
opening the log found. Not covered: that the packs before it are those that this chain sealed. ``Log.read`` sees to that.
"""

import io
import os
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import zstandard

from stillhouse.errors import CorruptLog
from stillhouse.vault.entries import read_header
from stillhouse.vault.files import storage_errors
from stillhouse.vault.log import Log
from stillhouse.vault.writer import Position, segments

# Packs that are kept decompressed beside the one that is read, in bytes: those that several processes wrote at once.
_KEPT_BYTES = 32 << 20
_HEAD, _CHAIN = 12, 32
# A header is some 200 bytes; but a pack is compressed in blocks of 128 KiB, and its first one must be there whole.
_HEADER_BYTES, _BLOCK_BYTES = 4096, 132 << 10


class _Part(Protocol):
    """A segment, sealed or not: its payloads by their place in it."""

    def payload(self, place: int) -> bytes:
        """The payload of a frame; 0 is the first entry. Raises IndexError, CorruptLog."""


class _Writer(NamedTuple):
    """The parts of one chain: where each begins, and the pack that it is; "" for the one that is being written."""

    firsts: list[int]
    packs: list[str]
    open: "_OpenSegment"


class EntryReader:
    """Reads entries of a log. Not for use by several threads at once."""

    def __init__(self, log: Log) -> None:
        self.log, self._objects = log, log.objects
        self._writers: dict[str, _Writer] = {}
        self._packs: OrderedDict[str, _Pack] = OrderedDict()

    def payloads(self, positions: Iterable[Position]) -> Iterator[bytes]:
        """The payloads at some positions; quickest where neighbours come together.

        Raises CorruptLog, CorruptObject, StorageError.
        """
        for writer, number in positions:
            try:
                payload = self._payload(writer, number)
            except (IndexError, CorruptLog):  # written, sealed, or an append taken back, since this chain was looked at
                self._forget(writer)
                try:
                    payload = self._payload(writer, number)
                except IndexError:
                    raise CorruptLog(f"the log has no entry {number} of {writer}.") from None
            yield payload

    def close(self) -> None:
        """Let go of files and memory."""
        for writer in list(self._writers):
            self._forget(writer)
        self._packs.clear()

    def _payload(self, writer: str, number: int) -> bytes:
        known = self._writers.get(writer) or self._look_at(writer)
        index = bisect_right(known.firsts, number) - 1
        part: _Part = self._pack(known.packs[index]) if known.packs[index] else known.open
        return part.payload(number - known.firsts[index])

    def _look_at(self, writer: str) -> _Writer:
        """Find the parts of a chain: the segment that is being written names the pack before it, and so on."""
        for _ in range(3):  # a seal may replace the file between the listing and the opening
            folder = self.log.root / writer
            names = segments(folder) if folder.is_dir() else []
            if not names:
                break
            path = folder / names[-1]
            try:
                with storage_errors(f"{path} could not be opened"):
                    found = _OpenSegment(str(path))
            except FileNotFoundError:
                continue
            firsts, packs, header = [found.header.first], [""], found.header
            while header.previous_pack:
                pack = header.previous_pack
                header, _ = read_header(self._beginning(pack), f"pack {pack}")
                if header.writer != writer or header.first >= firsts[-1]:
                    raise CorruptLog(f"pack {pack} is none of {writer} before entry {firsts[-1]}.")
                firsts.append(header.first)
                packs.append(pack)
            self._writers[writer] = _Writer(firsts[::-1], packs[::-1], found)
            return self._writers[writer]
        raise CorruptLog(f"the log has no writer {writer}.")

    def _forget(self, writer: str) -> None:
        known = self._writers.pop(writer, None)
        if known is not None:
            known.open.close()

    def _beginning(self, pack: str) -> bytes:
        data = self._objects.head(pack, _BLOCK_BYTES)
        try:
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(_HEADER_BYTES)
        except zstandard.ZstdError as failure:
            raise CorruptLog(f"pack {pack} cannot be read: {failure}.") from failure

    def _pack(self, digest: str) -> "_Pack":
        found = self._packs.pop(digest, None)
        if found is None:
            while self._packs and sum(len(pack.data) for pack in self._packs.values()) > _KEPT_BYTES:
                self._packs.popitem(last=False)
            try:
                data = zstandard.ZstdDecompressor().decompress(self._objects.get(digest), max_output_size=1 << 31)
            except zstandard.ZstdError as failure:
                raise CorruptLog(f"pack {digest} cannot be read: {failure}.") from failure
            found = _Pack(data, digest)
        self._packs[digest] = found
        return found


class _Pack:
    """A sealed segment, decompressed."""

    def __init__(self, data: bytes, digest: str) -> None:
        self.data = data
        _, first = read_header(data, f"pack {digest}")
        self._ends = list(_frame_ends(data, first.end))
        self._starts = [first.end, *self._ends]

    def payload(self, place: int) -> bytes:
        """The payload of a frame."""
        return self.data[self._starts[place] + _HEAD : self._ends[place] - _CHAIN]


class _OpenSegment:
    """The segment that is being written. It stays readable when it was sealed and removed meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header, first = read_header(os.pread(self._file, _HEADER_BYTES, 0), path)
        except BaseException:
            os.close(self._file)
            raise
        self._starts = [first.end]

    def payload(self, place: int) -> bytes:
        """The payload of a frame; what was written since the last look is looked for."""
        while place >= len(self._starts) - 1:
            before = len(self._starts)
            data = os.pread(self._file, _SCANNED, self._starts[-1])
            offset = self._starts[-1]
            self._starts += [offset + end for end in _frame_ends(data, 0)]
            if len(self._starts) == before:
                length = int.from_bytes(data[:4], "little") if len(data) >= _HEAD else 0
                if len(data) < _SCANNED or not length:
                    raise IndexError(place)
                self._starts.append(offset + _HEAD + length + _CHAIN)  # one that is longer than what is read at once
        start, end = self._starts[place], self._starts[place + 1]
        whole = os.pread(self._file, end - start, start)
        payload = whole[_HEAD:-_CHAIN]
        if len(whole) < end - start:
            raise IndexError(place)
        if zlib.crc32(payload) != int.from_bytes(whole[8:_HEAD], "little"):
            raise CorruptLog(f"{self._path}, byte {start}: the checksum does not match.")
        return payload

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


_SCANNED = 4 << 20


def _frame_ends(data: bytes, offset: int) -> Iterator[int]:
    """Where each whole frame ends, by the lengths alone; up to one that is none."""
    size = len(data)
    while size - offset >= _HEAD:
        length = int.from_bytes(data[offset : offset + 4], "little")
        if length ^ int.from_bytes(data[offset + 4 : offset + 8], "little") != 0xFFFFFFFF:
            return  # zeros that a power cut left, or damage
        offset += _HEAD + length + _CHAIN
        if offset > size:
            return
        yield offset
