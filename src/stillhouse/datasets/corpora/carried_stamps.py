"""The stamps that a row says it has, in the column that an export writes. Pure."""

import functools
import re
from collections.abc import Mapping
from typing import Any

from stillhouse.conversations.content import decoded

# Below what tables put of a row that is no conversation.
_ABOVE = frozenset({"metadata", "meta", "extra", "info", "additional_kwargs"})


def own_stamps(row: Mapping[str, Any]) -> Any:
    """What a row carries of an export's own column, in the forms that tables give it: an object, its JSON as text, a list with
    it, its fields as columns, or below the row's metadata. None where there is none of it.
    """
    if _carry_no_stamps(tuple(row)):
        return None
    flat: dict[str, Any] = {}
    for name, value in row.items():
        *above, last = re.split(r"__|[._/]", str(name).casefold())
        if last == "stillhouse" and set(above) <= _ABOVE:
            read = _read_own(value)
            if read is not None:
                return read
        elif last in ("stamps", "origins") and above[-1:] == ["stillhouse"] and set(above[:-1]) <= _ABOVE:
            read = _parsed(value)
            if read is not None:
                flat[last] = read
        elif not above and last in _ABOVE and isinstance(below := _parsed(value), Mapping):
            read = own_stamps({name: given for name, given in below.items() if str(name).casefold() not in _ABOVE})
            if read is not None:
                return read
    return flat or None


@functools.lru_cache(maxsize=4096)
def _carry_no_stamps(names: tuple[Any, ...]) -> bool:
    """Can none of these columns be an export's own, or hold it? Told once for all rows with these columns."""
    plain = [str(name).casefold() for name in names]
    return not any("stillhouse" in name or name in _ABOVE for name in plain)


def _read_own(value: Any) -> Any:
    read = _parsed(value)
    while isinstance(read, list | tuple) and len(read) == 1:
        read = _parsed(read[0])
    return read if read not in ("", [], {}) else None


def _parsed(value: Any) -> Any:
    """What text holds as JSON, which tables make of an object; else the value as it is."""
    if not isinstance(value, str) or not value.strip().startswith(("{", "[")):
        return value
    try:
        return decoded(value)
    except (ValueError, RecursionError):
        return value
