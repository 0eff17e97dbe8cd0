"""The entries of the log: everything that can happen, as values. The ledger is a view of these and of nothing else."""

from typing import Any, Union

import msgspec

from stillhouse.errors import HomeNewer
from stillhouse.home.facts.collection_facts import *
from stillhouse.home.facts.compute_facts import *
from stillhouse.home.facts.custody_facts import *
from stillhouse.home.facts.dataset_facts import *
from stillhouse.home.facts.declarations import Fact as Fact
from stillhouse.home.facts.declarations import references as references
from stillhouse.home.facts.declarations import type_of as type_of
from stillhouse.home.facts.gateway_facts import *
from stillhouse.home.facts.money_facts import *
from stillhouse.home.facts.origin_facts import *
from stillhouse.home.facts.permission_facts import *
from stillhouse.home.facts.plan_facts import *
from stillhouse.home.facts.training_facts import *

# Every kind, in the order of the files above.
KINDS: tuple[type[Fact], ...] = tuple(Fact.__subclasses__())

_PLAIN = (str, int, bool)


def _plain_fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, type], ...]:
    types = [(field.name, getattr(field.type, "__origin__", field.type)) for field in msgspec.structs.fields(kind)]
    return tuple((name, found) for name, found in types if found in _PLAIN)


def _checked(kind: type[Fact]) -> tuple[tuple[str, tuple[tuple[str, type], ...]], ...]:
    """The plain fields of a fact, and of each struct that is flat within it."""
    flat = {name for table in kind.tables for name in table.flat}
    return (("", _plain_fields(kind)), *((name, _plain_fields(type_of(kind, name))) for name in sorted(flat)))


# What comes from outside must not be written as something that cannot be read again.
_CHECKED = {kind: _checked(kind) for kind in KINDS}
_TAGS = {kind.__struct_config__.tag for kind in KINDS}
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[KINDS])  # noqa: UP007 - of a tuple


def encode(fact: Fact) -> bytes:
    """A fact as the payload of a log entry. Raises TypeError for one that could not be read again."""
    for within, fields in _CHECKED[type(fact)]:
        holder = getattr(fact, within) if within else fact
        for name, kind in fields:
            value = getattr(holder, name)
            if type(value) is not kind and not (kind is str and isinstance(value, str)):
                raise TypeError(f"{type(holder).__name__}.{name} is {value!r:.80}, and no {kind.__name__}")
    return _encoder.encode(fact)


class _Tagged(msgspec.Struct):
    fact: str


_tag_decoder = msgspec.json.Decoder(_Tagged)


def decode(payload: bytes) -> Fact:
    """The fact of a log entry. Raises HomeNewer for a kind that this version does not know, else msgspec.MsgspecError."""
    try:
        found: Fact = _decoder.decode(payload)
    except msgspec.ValidationError:
        tag = _tag_decoder.decode(payload).fact
        if tag not in _TAGS:
            raise HomeNewer(
                f"(its log has an entry of the kind {tag!r:.80}, which this version does not know)"
            ) from None
        raise
    return found
