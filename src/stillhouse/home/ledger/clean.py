"""What every value goes through before a database gets it: nothing that a server, a file or a person says may shut a home.

Covered: NUL and half surrogates in texts, numbers of any size, NaN and infinity, texts that no column or index can hold. The
log keeps every value as it was; only the view has the cleaned one, the same on every database. Not covered: a fact whose rows
a database refuses all the same is kept in ``unviewed``, by ``store``.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Float, Integer, String, Table

from stillhouse.canon import digest_bytes

# Every whole number of JSON up to here is the same in every language (RFC 8259, section 6).
_LARGEST = 2**53
_LARGEST_32 = 2**31 - 1
# PostgreSQL holds 1 GB in a text, and SQLite as much; no column that is read as a whole may cost that.
_LONGEST = 256 << 20
# A B-tree entry of PostgreSQL holds 2,704 bytes, all columns of the index together.
_LONGEST_INDEXED = 2560

Clean = Callable[[Any], Any]


def clean(table: Table, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values of a row, in the order of its columns, as a database can hold them."""
    return tuple(cleaner(value) for cleaner, value in zip(_cleaners(table), values, strict=True))


def clean_text(text: str) -> str:
    """A text as a database, a file of Parquet and a canonical form can hold it."""
    return str(_text(text, _LONGEST))


def clean_value(table: Table, column: str, value: Any) -> Any:
    """One value as that column of a table holds it."""
    place = list(table.columns.keys()).index(column)
    return _cleaners(table)[place](value)


def may_be_odd(payload: bytes) -> bool:
    """May an entry hold a text with NUL, with half a surrogate pair, or one that no column holds? JSON escapes the first two."""
    return b"\\u" in payload or len(payload) > _LONGEST


def fits(table: Table, values: tuple[Any, ...]) -> bool:
    """Does a row of an entry that is not odd need no cleaning? Looks at numbers and at indexed texts alone, as most rows fit."""
    texts, numbers = _narrow(table)
    return all(len(values[place]) <= room for place, room in texts) and all(
        -most <= values[place] <= most for place, most in numbers
    )


@functools.cache
def _narrow(table: Table) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, float], ...]]:
    """Which columns hold little: texts with the letters that surely fit, numbers with the largest one."""
    texts: list[tuple[int, int]] = []
    numbers: list[tuple[int, float]] = []
    for place, column in enumerate(table.columns):
        kind = column.type
        if isinstance(kind, String):
            room = kind.length or _room(table, column.name) // 4  # bytes of a letter, at most
            texts += [(place, room)] if room < _LONGEST // 4 else []
        elif isinstance(kind, Integer):
            numbers.append((place, _largest(column)))
        else:
            numbers.append((place, sys.float_info.max))  # NaN is in no range
    return tuple(texts), tuple(numbers)


@functools.cache
def _cleaners(table: Table) -> tuple[Clean, ...]:
    return tuple(
        _whole_of_64_bits if column.info.get("identity") else _cleaner(column, _room(table, column.name))
        for column in table.columns
    )


def _largest(column: Column[Any]) -> int:
    if column.info.get("identity"):
        return 2**63 - 1
    return _LARGEST if column.type.__visit_name__ == "big_integer" else _LARGEST_32


def _room(table: Table, column: str) -> int:
    """The most bytes of a text in a column: its share of the narrowest index that it stands in."""
    shares = [
        _LONGEST_INDEXED // len(texts)
        for index in table.indexes
        if column in (texts := [one.name for one in index.columns if isinstance(one.type, String)])
    ]
    return min(shares, default=_LONGEST)


def _cleaner(column: Column[Any], room: int) -> Clean:
    kind = column.type
    if isinstance(kind, String) and kind.length:
        return functools.partial(_cut, most=kind.length)
    if isinstance(kind, String):
        return functools.partial(_text, most=room)
    if isinstance(kind, Integer):  # BigInteger is one, too
        return functools.partial(_whole, most=_largest(column))
    if isinstance(kind, Float):
        return _real
    raise TypeError(f"no cleaning of {kind!r}")


def _text(value: Any, most: int) -> Any:
    if not isinstance(value, str):
        return value
    if "\x00" in value:
        value = value.replace("\x00", "\ufffd")
    if value.isascii():
        return value if len(value) <= most else _shortened(value.encode(), most)
    data = value.encode("utf-8", "replace")
    if len(data) > most:
        return _shortened(data, most)
    return data.decode()


def _cut(value: Any, most: int) -> Any:
    cleaned = _text(value, _LONGEST)
    return cleaned[:most] if isinstance(cleaned, str) else cleaned


def _shortened(data: bytes, most: int) -> str:
    """The beginning of a text, and the digest of all of it, so that two stay two."""
    digest = digest_bytes(data)
    return f"{data[: most - len(digest) - 4].decode('utf-8', 'ignore')}... {digest}"


def _whole(value: Any, most: int) -> Any:
    return max(-most, min(most, value)) if isinstance(value, int) else value


def _whole_of_64_bits(value: Any) -> Any:
    return _whole(value, 2**63 - 1)


def _real(value: Any) -> Any:
    """SQLite keeps no NaN, and compares infinities as it likes: both become what no measurement is."""
    return value if not isinstance(value, float) or math.isfinite(value) else -1.0
