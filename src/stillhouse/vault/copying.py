"""Copy a vault to another place, object by object; what arrives is read back there before it counts.

A copy is a store of objects, and *heads*: small records of where the log stood, each named by its time and digest, that say
which objects hold the log's unsealed ends and the home's own settings. The newest head is what a lost home is rebuilt from.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import CorruptObject
from stillhouse.vault.backend import Backend
from stillhouse.vault.objects import Objects


class Copied(NamedTuple):
    """What the far end has now, and what of it is new; ``damaged`` says what could not be copied, and why."""

    objects: int
    added: int
    bytes: int
    damaged: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises CorruptObject where something was not copied: everything else was, first."""
        if self.damaged:
            raise CorruptObject(
                f"{len(self.damaged)} objects were not copied: {self.damaged[0]} The others were.",
                next_step="`stillhouse vault scrub` names what that hits, and mends what another copy has whole.",
            )


class End(msgspec.Struct, frozen=True):
    """The unsealed end of one writer's chain: the name of its segment, and the object that has its bytes."""

    writer: str
    segment: str
    object: str


class Headed(msgspec.Struct, frozen=True):
    """Where a home stood. ``files`` are its settings and public keys, by path."""

    at: str
    entries: int
    ends: tuple[End, ...]
    files: dict[str, str]


def copy_objects(
    source: Objects, target: Objects, advanced: Callable[[int, int], None] = lambda objects, size: None
) -> Copied:
    """Bring every object of a source to a target. Each is compared with its digest where it comes from, and again where it went.

    Raises CorruptObject for one that arrives damaged.
    """
    there = set(target.list())
    added = size = 0
    damaged: list[str] = []
    for digest in source.list():
        if digest not in there:
            try:
                data = source.get(digest)
            except CorruptObject as failure:
                damaged.append(failure.detail)
                continue
            target.put(data)
            target.get(digest)
            there.add(digest)
            added, size = added + 1, size + len(data)
        advanced(len(there), size)
    return Copied(len(there), added, size, tuple(damaged))


def write_head(heads: Backend, head: Headed) -> str:
    """Store a head beside the objects; returns its name."""
    data = canonical(head)
    moment = "".join(letter for letter in head.at if letter.isdigit())
    name = f"head-{moment}-{digest_bytes(data).partition(':')[2]}"
    heads.put(name, data)
    return name


def newest_head(heads: Backend) -> Headed | None:
    """The newest head that is whole; a damaged one, or what else lies there, is passed over."""
    found: list[Headed] = []
    for name in heads.list():
        with contextlib.suppress(msgspec.MsgspecError, KeyError):
            data = heads.get(name)
            if digest_bytes(data).partition(":")[2] == name.rpartition("-")[2]:
                found.append(msgspec.json.decode(data, type=Headed))
    return max(found, key=lambda head: head.at, default=None)
