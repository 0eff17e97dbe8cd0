"""Where bytes are cut, so that an edit costs what it changed and not the file around it. Pure.

A cutter looks at a buffer and says where chunks end; what follows the last end is given to it again with what comes next. Each
decides by the bytes near a cut alone, so that equal runs of two files are cut alike wherever they stand:

- *lines* (JSONL, text): only behind a newline, behind long lines always and behind short ones now and then, by their content;
- *bounds*: where the file itself says that a part begins: the tensors of safetensors and GGUF, the column chunks of Parquet;
- *rolling*: anywhere, by a rolling hash (FastCDC, Xia et al., USENIX ATC 2016).
"""

import functools
import io
import json
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, cast

from stillhouse.vault.parquet import column_bounds

# A record of training data is about 2 kB. Twice that would store the neighbours of every edited record again (2.6 % for 1 %
# of edits, where this is 1.1 %); half of it doubles the digests that are kept per chunk.
LINE_BYTES = 2048
# A line without an end in sight, and a run of lines of one content, are cut here, so that a chunk fits into memory.
LARGEST = 1 << 22
# What Hugging Face's Xet chose for weights and archives: smaller finds little more there and costs index.
ROLLING_BYTES = 1 << 16
# Larger parts than this are cut further: a column chunk of Parquet holds many pages.
_PART_BYTES = 1 << 20
# Smaller ones (biases, scales) are kept with what follows.
_SMALLEST_PART = 1 << 12
_LOOK = 1 << 16
# A header larger than this is not one that a tool wrote.
_LARGEST_HEADER = 100_000_000
# The kinds of values in a header of GGUF: how many bytes, where that is fixed.
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_VERSIONS = (2, 3)  # the first had shorter counts, and big-endian files read as none of these
_GGUF_UINT32, _GGUF_STRING, _GGUF_ARRAY = 4, 8, 9
_MULTIPLIER = 0x9E3779B97F4A7C15  # of Fibonacci hashing: the high bits depend on all bits

Cutter = Callable[[memoryview, bool], list[int]]
"""(buffer, is the end of the file in it?) -> the ends of whole chunks, ascending; the last is the buffer's end if it is."""


def cut_lines(buffer: memoryview, last: bool) -> list[int]:
    """Cut behind newlines. A line of LINE_BYTES or more is a chunk; shorter ones gather to about that much."""
    import numpy  # where nothing changed nothing is cut, and a twentieth of a second is a tenth of such a snapshot

    data = numpy.frombuffer(buffer, dtype=numpy.uint8)
    ends = numpy.flatnonzero(data == 10) + 1
    cuts: list[int] = []
    if len(ends) and len(data) >= 8:
        lengths = numpy.diff(ends, prepend=0)
        # Eight bytes of the middle stand for the line: its beginning and end are often those of every other.
        middle = numpy.minimum(ends - (lengths + 1) // 2, len(data) - 8)
        words = numpy.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=buffer, strides=(1,))[middle]
        chance = ((words + lengths.astype(numpy.uint64)) * numpy.uint64(_MULTIPLIER)) >> numpy.uint64(40)
        cuts = ends[chance % numpy.uint64(LINE_BYTES) < lengths.astype(numpy.uint64)].tolist()
    return _bounded(cuts, len(data), last)


def cut_rolling(buffer: memoryview, last: bool) -> list[int]:
    """Cut by content anywhere."""
    if not len(buffer):
        return []
    cuts = [chunk.offset + chunk.length for chunk in _rolling().cut_buf(buffer)]
    return cuts if last else cuts[:-1]


def cut_at(bounds: Sequence[int]) -> Cutter:
    """Cut where a file's parts begin (offsets from its start, ascending), and large parts by content."""
    place = 0

    def cut(buffer: memoryview, last: bool) -> list[int]:
        nonlocal place
        end = place + len(buffer)
        inner = [bound - place for bound in bounds[bisect_right(bounds, place) : bisect_right(bounds, end)]]
        cuts: list[int] = []
        start = 0
        for stop in [*inner, len(buffer)]:
            part = buffer[start:stop]
            whole = last or bool(inner and stop <= inner[-1])
            if len(part) <= _PART_BYTES:
                cuts += [stop] if whole and len(part) else []
            else:
                cuts += [start + cut for cut in cut_rolling(part, whole)]
            start = stop
        place += cuts[-1] if cuts else 0
        return cuts

    return cut


def cutter_for(file: BinaryIO, size: int) -> Cutter:
    """The cutter that fits a file, by its first bytes; the file's position is left at its start."""
    head = file.read(min(_LOOK, size))
    file.seek(0)
    if head[:4] == b"PAR1":
        return cut_at(_apart(column_bounds(file, size)))
    if bounds := _gguf_bounds(file, size) if head[:4] == b"GGUF" else _safetensors_bounds(head, file, size):
        return cut_at(_apart(bounds))
    if b"\x00" not in head and b"\n" in head:
        return cut_lines
    return cut_rolling


def _apart(bounds: Sequence[int]) -> list[int]:
    """The bounds of parts that are worth a chunk: a file may say that it has millions of a byte each."""
    kept: list[int] = []
    for bound in bounds:
        if not kept or bound - kept[-1] >= _SMALLEST_PART:
            kept.append(bound)
    return kept


def _bounded(cuts: list[int], length: int, last: bool) -> list[int]:
    """The cuts, and those that a chunk of at most LARGEST bytes needs besides."""
    if last and length and (not cuts or cuts[-1] != length):
        cuts.append(length)
    bounded: list[int] = []
    start = 0
    for cut in [*cuts, length]:
        while cut - start > LARGEST:
            start += LARGEST
            bounded.append(start)
        if cut > start and (cut != length or last or (cuts and cuts[-1] == length)):
            bounded.append(cut)
            start = cut
    return bounded


def _safetensors_bounds(head: bytes, file: BinaryIO, size: int) -> list[int]:
    """Where tensors begin; empty for another kind of file. The format: eight bytes of length, JSON, tensors."""
    if len(head) < 10 or head[8:9] != b"{":
        return []
    (length,) = struct.unpack("<Q", head[:8])
    if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
        return []
    file.seek(8)
    text = file.read(length)
    file.seek(0)
    try:
        tensors = json.loads(text)
        starts = {int(one["data_offsets"][0]) for name, one in tensors.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return []
    return sorted(8 + length + start for start in starts if 0 <= start < size)


def _gguf_bounds(file: BinaryIO, size: int) -> list[int]:
    """Where tensors begin; empty where the header cannot be read. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Read here and not by ``gguf``: that is an extra, and where a file is cut must not depend on what is installed.
    """
    header = io.BufferedReader(cast("io.RawIOBase", file), _PART_BYTES)

    def number(form: str) -> int:
        if header.tell() > _LARGEST_HEADER:
            raise ValueError("this is no header")
        return int(struct.unpack(form, header.read(struct.calcsize(form)))[0])

    def skip(kind: int) -> None:
        if kind in _GGUF_SIZES:
            header.seek(_GGUF_SIZES[kind], os.SEEK_CUR)
        elif kind == _GGUF_STRING:
            header.seek(number("<Q"), os.SEEK_CUR)
        elif kind == _GGUF_ARRAY:
            inner, count = number("<I"), number("<Q")
            if inner in _GGUF_SIZES:
                header.seek(_GGUF_SIZES[inner] * count, os.SEEK_CUR)
            else:
                for _ in range(count):
                    skip(inner)
        else:
            raise ValueError(kind)

    try:
        header.seek(4)
        if number("<I") not in _GGUF_VERSIONS:
            return []
        tensors, pairs = number("<Q"), number("<Q")
        alignment = 32
        for _ in range(pairs):
            name, kind = header.read(min(number("<Q"), _LARGEST_HEADER)), number("<I")
            if name == b"general.alignment" and kind == _GGUF_UINT32:
                alignment = number("<I")
            else:
                skip(kind)
        starts = []
        for _ in range(tensors):
            skip(_GGUF_STRING)
            header.seek(8 * number("<I") + 4, os.SEEK_CUR)
            starts.append(number("<Q"))
        data = header.tell() + -header.tell() % alignment
    except (struct.error, ValueError, OSError, OverflowError, RecursionError, MemoryError, ZeroDivisionError):
        return []
    finally:
        header.detach()
        file.seek(0)
    return sorted({data + start for start in starts if data + start < size})


@functools.cache
def _rolling() -> Any:
    from pyfastcdc import FastCDC

    return FastCDC(avg_size=ROLLING_BYTES, min_size=ROLLING_BYTES // 4, max_size=ROLLING_BYTES * 4, seed=0)
