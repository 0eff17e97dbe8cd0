"""Plain values as JSON, with their types kept apart: what goes into a program and what comes out of it.

Used on both sides of the sandbox. Inside, ``build`` makes real values of arguments, which are trusted. Outside, ``outline``
makes of a program's answer what can be compared without hashing anything of it: a program can choose values that all collide.
"""

import collections
import datetime
import decimal
import fractions
import sys
from typing import Any

DEEPEST = 40
# Whole numbers beyond this are written in hexadecimal, which is read in linear time.
_LARGEST = 2**63
# A fraction is brought to lowest terms, which takes the square of its length.
_FRACTION_BITS = 40_000
_PLAIN_DATES = (datetime.datetime, datetime.date, datetime.time)


class NotPlain(Exception):
    """A value that is not built from the types that are compared."""


class Items:
    """A set or a dict from outside: its items in their order, hashed by nobody. ``kind`` is ``set`` or ``dict``."""

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind, self.items = kind, items

    def __repr__(self) -> str:
        return f"<{self.kind} of {len(self.items)}>"


def encode(value: Any, depth: int = 0) -> Any:
    """A JSON form; whatever is no JSON value of its own is ``[tag, content]``. Raises NotPlain.

    Subclasses count as what they are compared as: a Counter is a dict, a namedtuple a tuple, an IntEnum an int.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int(value)
        return number if -_LARGEST < number < _LARGEST else ["int", hex(number)]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        number_ = float(value)
        return number_ if number_ - number_ == 0 else ["float", repr(number_)]
    if depth > DEEPEST:
        raise NotPlain("it is nested too deeply")
    for kind, tag in ((list, "list"), (tuple, "tuple"), (frozenset, "set"), (set, "set"), (collections.deque, "deque")):
        if isinstance(value, kind):
            return [tag, [encode(item, depth + 1) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in value.items()]]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, complex):
        return ["complex", [encode(value.real), encode(value.imag)]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, range):
        return ["range", [encode(value.start), encode(value.stop), encode(value.step)]]
    if isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    if isinstance(value, fractions.Fraction):
        return ["fraction", [encode(value.numerator), encode(value.denominator)]]
    if isinstance(value, _PLAIN_DATES):
        return [type(value).__name__, value.isoformat()]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return encode(value.item())
    raise NotPlain(f"a {type(value).__name__} is not a plain value")


def build(form: Any) -> Any:
    """The value of a form that the host wrote. Raises ValueError, TypeError for any other shape."""
    return _value(form, lambda kind, items: set(items) if kind == "set" else dict(items))


def outline(form: Any) -> Any:
    """The value of a form that a program wrote: sets and dicts as ``Items``. Raises ValueError, TypeError for any other shape."""
    return _value(form, Items)


def _value(form: Any, hashed: Any) -> Any:
    if form is None or type(form) in (bool, int, float, str):
        return form
    if type(form) is list and (len(form) != 2 or type(form[0]) is not str):
        raise ValueError("unknown form")
    tag, content = form
    match tag:
        case "int":
            return int(content, 16)
        case "float":
            return float(content)
        case "list":
            return [_value(item, hashed) for item in content]
        case "tuple":
            return tuple(_value(item, hashed) for item in content)
        case "deque":
            return collections.deque(_value(item, hashed) for item in content)
        case "set":
            return hashed("set", [_value(item, hashed) for item in content])
        case "dict":
            return hashed("dict", [(_value(key, hashed), _value(item, hashed)) for key, item in content])
        case "complex":
            return complex(*(_value(part, hashed) for part in content))
        case "bytes":
            return bytes.fromhex(content)
        case "range":
            return range(*(_value(part, hashed) for part in content))
        case "decimal":
            return decimal.Decimal(content)
        case "fraction":
            parts = [_value(part, hashed) for part in content]
            if any(part.bit_length() > _FRACTION_BITS for part in parts):
                raise ValueError("a fraction of that length is not compared")
            return fractions.Fraction(*parts)
        case "datetime":
            return datetime.datetime.fromisoformat(content)
        case "date":
            return datetime.date.fromisoformat(content)
        case "time":
            return datetime.time.fromisoformat(content)
    raise ValueError(f"unknown tag {tag!r}")
