"""The bytes of a log segment (FORMAT.md). Pure: no file is opened here.

A segment is a header frame and then entry frames. A frame::

    length    4 bytes, little-endian   of the payload
    inverse   4 bytes, little-endian   every bit of ``length`` flipped: a damaged length is never taken for a torn tail
    crc       4 bytes, little-endian   CRC-32 of the payload
    payload   ``length`` bytes
    chain     32 bytes                 BLAKE3 of the previous frame's chain and this payload: fixes the order of all

A killed process leaves a prefix of what it wrote; after power loss a file may also end in zeros where a write did not
arrive. Those two are a torn tail, which may be cut: an incomplete frame, or one that does not match and after which nothing
but zeros follows. Whatever else does not match is damage, and is an error.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.errors import CorruptLog

FORMAT_VERSION = 1
GENESIS = bytes(32)
LARGEST_PAYLOAD = 256 << 20
_HEAD, _CHAIN = 12, 32
# A hash that happens to end in four zero bytes comes once in four thousand million entries.
_ZEROS = 4


class SegmentHeader(msgspec.Struct, frozen=True):
    """First frame of a segment: whose it is, where it stands, and what went before."""

    writer: str
    first: int
    previous_chain: str
    previous_pack: str
    format: int = FORMAT_VERSION


class Frame(NamedTuple):
    """One frame as read: its payload, its chain value, and the offset just after it."""

    payload: bytes
    chain: bytes
    end: int


def frame(payload: bytes, previous: bytes) -> tuple[bytes, bytes]:
    """The bytes of a frame, and its chain value."""
    chain = blake3(previous + payload).digest()
    length = len(payload)
    head = length.to_bytes(4, "little") + (length ^ 0xFFFFFFFF).to_bytes(4, "little")
    return head + zlib.crc32(payload).to_bytes(4, "little") + payload + chain, chain


def read_frames(data: bytes, previous: bytes, where: str) -> Iterator[Frame]:
    """The whole frames of a segment, in order; a torn tail is left out. Raises CorruptLog for damage."""
    offset = 0
    while len(data) - offset >= _HEAD:
        length = int.from_bytes(data[offset : offset + 4], "little")
        inverse = int.from_bytes(data[offset + 4 : offset + 8], "little")
        end = offset + _HEAD + length + _CHAIN
        problem = ""
        if length ^ inverse != 0xFFFFFFFF:
            problem, end = "the length is damaged", offset + _HEAD
        elif end > len(data):
            return
        else:
            payload, chain = data[offset + _HEAD : end - _CHAIN], data[end - _CHAIN : end]
            if zlib.crc32(payload) != int.from_bytes(data[offset + 8 : offset + 12], "little"):
                problem = "the checksum does not match"
            elif blake3(previous + payload).digest() != chain:
                problem = "the hash chain is broken"
        if problem:
            if not any(data[end:]) and not any(data[-_ZEROS:]):
                return
            raise CorruptLog(f"{where}, byte {offset}: {problem}.")
        yield Frame(payload, chain, end)
        previous, offset = chain, end


def count_frames(data: bytes) -> int:
    """How many frames there are, by their lengths alone: nothing is checked."""
    offset = count = 0
    while len(data) - offset >= _HEAD:
        offset += _HEAD + int.from_bytes(data[offset : offset + 4], "little") + _CHAIN
        count += offset <= len(data)
    return count


def read_header(data: bytes, where: str) -> tuple[SegmentHeader, Frame]:
    """The header of a segment. Raises CorruptLog where it is missing or not readable."""
    first = next(read_frames(data, GENESIS, where), None)
    if first is None:
        raise CorruptLog(f"{where} has no header.")
    try:
        header = msgspec.json.decode(first.payload, type=SegmentHeader)
    except msgspec.MsgspecError as failure:
        raise CorruptLog(f"{where} has an unreadable header: {failure}") from failure
    if header.format > FORMAT_VERSION:
        raise CorruptLog(f"{where} has format {header.format}; this version reads up to {FORMAT_VERSION}.")
    return header, first
