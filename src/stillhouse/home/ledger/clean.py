"""What every value goes through before a database gets it: nothing that a server, a file or a person says may shut a home.

Covered: NUL and half surrogates in texts, numbers of any size, NaN and infinity, texts that no column or index can hold. The
log keeps every value as it was; only the view has the cleaned one, the same on every database. Not covered: a fact whose rows
a database refuses all the same is kept in ``unviewed``, by ``store``.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import Float, Integer, String, Table

from stillhouse.canon import digest_bytes

# Every whole number of JSON up to here is the same in every language (RFC 8259, section 6).
_LARGEST = 2**53
_LARGEST_32 = 2**31 - 1
# PostgreSQL holds 1 GB in a text, and SQLite as much; no column that is read as a whole may cost that.
_LONGEST = 256 << 20
# A B-tree entry of PostgreSQL holds 2,704 bytes, all columns of the index together.
_LONGEST_INDEXED = 2560

Clean = Callable[[Any], Any]


def clean(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a row as a database can hold them."""
    cleaners = _cleaners(table)
    return {name: cleaners[name](value) for name, value in values.items()}


@functools.cache
def _cleaners(table: Table) -> dict[str, Clean]:
    return {
        column.name: _whole_of_64_bits
        if column.info.get("identity")
        else _cleaner(column.type, _room(table, column.name))
        for column in table.columns
    }


def _room(table: Table, column: str) -> int:
    """The most bytes of a text in a column: its share of the narrowest index that it stands in."""
    shares = [
        _LONGEST_INDEXED // len(texts)
        for index in table.indexes
        if column in (texts := [one.name for one in index.columns if isinstance(one.type, String)])
    ]
    return min(shares, default=_LONGEST)


def _cleaner(kind: Any, room: int) -> Clean:
    if isinstance(kind, String) and kind.length:
        return functools.partial(_cut, most=kind.length)
    if isinstance(kind, String):
        return functools.partial(_text, most=room)
    if isinstance(kind, Integer):  # BigInteger is one, too
        return functools.partial(_whole, most=_LARGEST if kind.__visit_name__ == "big_integer" else _LARGEST_32)
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
