"""Where the column chunks of a Parquet file lie, read from its footer without a library.

Arrow's reader ends the process on some damaged and some encrypted footers (an exception in C++ that nobody catches), and a
damaged file must be kept like any other. What is read here is Thrift's compact protocol (thrift-compact-protocol.md) and four
fields of ``parquet.thrift``; whatever does not fit is no footer.
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

MAGIC = b"PAR1"
_LARGEST_FOOTER = 64 << 20
_DEEPEST = 32
# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
# Fields: FileMetaData.row_groups, RowGroup.columns, ColumnChunk.meta_data, and of that what says where it lies.
_ROW_GROUPS, _COLUMNS, _META, _SIZE, _DATA, _DICTIONARY = 4, 1, 3, 7, 9, 11


def column_bounds(file: BinaryIO, size: int) -> list[int]:
    """Where column chunks begin and end, in order. Empty where the footer cannot be read."""
    try:
        file.seek(size - 8)
        length, magic = struct.unpack("<I4s", file.read(8))
        if magic != MAGIC or not 0 < length <= min(_LARGEST_FOOTER, size - 8):
            return []
        file.seek(size - 8 - length)
        footer = _Footer(file.read(length)).struct(0)
        return sorted({bound for pair in _chunks(footer) for bound in pair if 0 < bound < size})
    except (OSError, ValueError, IndexError, struct.error):
        return []
    finally:
        file.seek(0)


def _chunks(footer: dict[int, Any]) -> Iterator[tuple[int, int]]:
    for group in _structs(footer.get(_ROW_GROUPS)):
        for column in _structs(group.get(_COLUMNS)):
            meta = column.get(_META)
            starts = [meta.get(_DATA), meta.get(_DICTIONARY)] if isinstance(meta, dict) else []
            known = [start for start in starts if isinstance(start, int) and start > 0]
            length = meta.get(_SIZE) if isinstance(meta, dict) else None
            if known and isinstance(length, int):
                yield min(known), min(known) + length


def _structs(found: Any) -> Iterator[dict[int, Any]]:
    yield from (one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


class _Footer:
    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        found, field = {}, 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in _INTEGERS:
            return self._integer()
        if kind == _DOUBLE:
            return self._skip(8)
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(self._fitting(count))]
        if kind == _MAP:
            count = self._fitting(self._varint())
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._value(kinds >> 4, depth + 1)
                self._value(kinds & 15, depth + 1)
            return None
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"there is no type {kind}")

    def _fitting(self, count: int) -> int:
        """Every element takes a byte at least."""
        if count > len(self._data) - self._place:
            raise ValueError("more elements than bytes")
        return count

    def _skip(self, length: int) -> None:
        self._place += self._fitting(length)

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
