"""Whatever stands in any field of any fact: the view of it is built, on both databases, and the same on both."""

import enum
import types
import typing
from decimal import Decimal

import msgspec
import pytest

from stillhouse.home import facts
from stillhouse.home.ledger import view_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.vault.durability import Durability
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects

WHEN = {"at": "2026-01-01T00:00:00.000Z", "by": "test"}
TEXTS = {
    "NUL": "a\x00b",
    "controls": "\x01\x1b[31m\r\n\t\x7f",
    "beyond the plane": "\U0010ffff \ufffe naïve 日本語",
    "quotes": "'; DROP TABLE answers; -- \" \\ %s $1 :name",
    "long": "\u00e4" * 9_000,
    "incompressible": "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(9_000)),
    "empty": "",
}
NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -(2**63))


def made(kind: typing.Any, text: str, number: int, real: float) -> typing.Any:
    """A value of a type, with this in every text and this in every number of it."""
    kind = kind.__origin__ if typing.get_origin(kind) is typing.Annotated else kind
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return made(next(one for one in typing.get_args(kind) if one is not type(None)), text, number, real)
    if origin in (tuple, list, frozenset, set):
        inner = [made(one, text, number, real) for one in typing.get_args(kind) if one is not Ellipsis]
        return tuple(inner) if origin is tuple else origin(inner)
    if origin is dict:
        key, value = typing.get_args(kind)
        return {made(key, text, number, real): made(value, text, number, real)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.name: made(field.type, text, number, real) for field in msgspec.structs.fields(kind)}
        return kind(**{**fields, **{name: value for name, value in WHEN.items() if name in fields}})
    plain = {
        str: text,
        int: number,
        float: real,
        bool: True,
        Decimal: Decimal(1),
        typing.Any: text,
        bytes: text.encode(),
    }
    return plain[kind]


def every_fact(text: str = "x", number: int = 1, real: float = 1.0) -> list[typing.Any]:
    return [made(kind, text, number, real) for kind in facts.KINDS]


def view_of(tmp_path, url, written):
    log = Log(tmp_path / "log", Objects(MemoryBackend()))
    writer = log.writer(Durability.KILL)
    writer.append_many([facts.encode(fact) for fact in written])
    writer.close()
    ledger = Ledger(url)
    try:
        assert ledger.catch_up(log) == len(written)
        assert view_queries.unviewed(ledger) == []
        assert ledger.differences(log) == [], "and the view in memory has the same"
        return ledger.counts()
    finally:
        ledger.close()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_every_field_of_every_fact(tmp_path, url, name):
    plain = {table: rows for table, rows in view_of(tmp_path / "plain", "sqlite://", every_fact()).items() if rows}
    hostile = view_of(tmp_path / "hostile", url, every_fact(TEXTS[name]))
    assert {table: rows for table, rows in hostile.items() if rows} == plain, "no row is missing"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_in_every_field_of_every_fact(tmp_path, url, number):
    written = []
    for fact in every_fact(number=number):
        try:
            facts.decode(facts.encode(fact))
        except (TypeError, OverflowError, msgspec.MsgspecError):
            continue  # it is refused before it is written
        written.append(fact)
    view_of(tmp_path, url, written)


@pytest.mark.parametrize("real", [float("nan"), float("inf"), -float("inf"), 1e308, -0.0])
def test_a_real_number_that_is_none(tmp_path, url, real):
    """What cannot be read again is refused when it is written; everything else is viewed."""
    written = []
    for fact in every_fact(real=real):
        try:
            facts.decode(facts.encode(fact))
        except (TypeError, msgspec.MsgspecError):
            continue
        written.append(fact)
    view_of(tmp_path, url, written)


def test_what_a_database_refuses_all_the_same_is_counted_and_stops_nothing(tmp_path, url, monkeypatch):
    """Without the cleaning: PostgreSQL refuses a NUL, and whatever was written before and after it is viewed."""
    monkeypatch.setattr("stillhouse.home.ledger.applying.clean", lambda table, values: values)
    bad = every_fact("a\x00b")
    good = every_fact("fine")
    written = [one for pair in zip(good, bad, strict=True) for one in pair]
    log = Log(tmp_path / "log", Objects(MemoryBackend()))
    writer = log.writer(Durability.KILL)
    writer.append_many([facts.encode(fact) for fact in written])
    writer.close()
    ledger = Ledger(url)
    ledger.catch_up(log)
    refused = view_queries.unviewed(ledger)
    assert all(one.number % 2 for one in refused), "no good one is among them"
    assert bool(refused) == url.startswith("postgresql")
    assert all(one.kind and one.reason for one in refused)
    assert ledger.differences(log) == []
    assert ledger.catch_up(log) == 0
    assert ledger.counts()["refusals"] >= 1
    ledger.close()
