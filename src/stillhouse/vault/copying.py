"""Copy a vault to another place, object by object; what arrives is read back there before it counts.

A copy is a store of objects, and *heads*: small records of where the log stood, each named by its time and digest, that say
which objects hold the log's unsealed ends and the home's own settings. The newest head is what a lost home is rebuilt from.
"""

import contextlib
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import CorruptObject
from stillhouse.vault.backend import Backend
from stillhouse.vault.objects import Objects

# So many of the objects that are there already are read again at each backup: a copy of which a tenth is bad is found out in 29
# of 30 of them.
_SAMPLE = 32


class Copied(NamedTuple):
    """What the far end has now, and what of it is new; ``damaged`` says what could not be copied, and why; ``sampled`` counts
    what was there before and was read again.
    """

    objects: int
    added: int
    bytes: int
    damaged: tuple[str, ...] = ()
    sampled: int = 0

    def check(self) -> None:
        """Raises CorruptObject where something was not copied: everything else was, first."""
        if self.damaged:
            raise CorruptObject(
                f"{len(self.damaged)} objects were not copied: {self.damaged[0]} The others were.",
                next_step="`stillhouse vault scrub` names what that hits, and mends what another copy has whole.",
            )


class LogEnd(msgspec.Struct, frozen=True):
    """The unsealed end of one writer's chain: the name of its segment, and the object that has its bytes."""

    writer: str
    segment: str
    object: str


class Headed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a home stood. ``files`` are its settings and public keys, by path; ``after`` names the head that was the newest in
    this place when this one was written.
    """

    at: str
    entries: int
    ends: tuple[LogEnd, ...]
    files: dict[str, str]
    after: str = ""


def copy_objects(
    source: Objects, target: Objects, advanced: Callable[[int, int], None] = lambda objects, size: None
) -> Copied:
    """Bring every object of a source to a target. Each is compared with its digest where it comes from, and again where it went.

    What is there already is looked at: all of it where its size is not that of the source's, else a sample; where that finds one
    that is damaged, all of it is read, and replaced. Raises CorruptObject for one that arrives damaged.
    """
    there = set(target.list())
    added = size = 0
    damaged: list[str] = []
    before = [digest for digest in source.list() if digest in there]
    bad = {digest for digest in before if target.size(digest) != source.size(digest)}
    sample = random.SystemRandom().sample(before, min(_SAMPLE, len(before)))
    bad |= {digest for digest in sample if not target.is_whole(digest)}
    if bad:
        bad = {digest for digest in before if digest in bad or not target.is_whole(digest)}
    for digest in source.list():
        if digest not in there or digest in bad:
            try:
                data = source.get(digest)
            except CorruptObject as failure:
                damaged.append(failure.detail)
                continue
            if digest in there:
                target.discard(digest)
            target.put(data)
            target.get(digest)
            there.add(digest)
            added, size = added + 1, size + len(data)
        advanced(len(there), size)
    return Copied(len(there), added, size, tuple(damaged), len(before) if bad else len(sample))


def write_head(heads: Backend, head: Headed) -> str:
    """Store a head beside the objects; returns its name."""
    data = canonical(head)
    moment = "".join(letter for letter in head.at if letter.isdigit())
    name = f"head-{moment}-{digest_bytes(data).partition(':')[2]}"
    heads.put(name, data)
    return name


def newest_head(heads: Backend) -> Headed | None:
    """The newest head that is whole; a damaged one, or what else lies there, is passed over."""
    found = _heads(heads)
    name = _newest(found)
    return found[name] if name else None


def newest_name(heads: Backend) -> str:
    """The name of the newest head; empty where there is none."""
    return _newest(_heads(heads))


def _newest(found: Mapping[str, Headed]) -> str:
    """Each head names the one before it: the newest is one that no other follows. Where several are (two homes wrote, or earlier
    versions, which named none), the one with the most of the log; the clock decides only between equals.
    """
    followed = {head.after for head in found.values()}
    last = [name for name in found if name not in followed] or list(found)
    chained = [name for name in last if found[name].after]
    return max(chained or last, key=lambda name: (found[name].entries, found[name].at), default="")


def _heads(heads: Backend) -> dict[str, Headed]:
    found: dict[str, Headed] = {}
    for name in heads.list():
        with contextlib.suppress(msgspec.MsgspecError, KeyError):
            data = heads.get(name)
            if digest_bytes(data).partition(":")[2] == name.rpartition("-")[2]:
                found[name] = msgspec.json.decode(data, type=Headed)
    return found
