"""The trash: what nothing names goes there, comes back from there, and leaves it for good only long after.

In this order, so that a kill between any two steps loses nothing: that objects go is written down, then they go; that they
leave for good is written down, then they do. A sweep looks again at what is named after it has moved: whoever named something
meanwhile gets it back.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from stillhouse.canon import digest_value
from stillhouse.clock import now, utc_now
from stillhouse.custody.named_objects import Naming, surely_named_objects
from stillhouse.errors import CorruptObject
from stillhouse.home import facts
from stillhouse.home.ledger import custody_queries
from stillhouse.home.ledger.projection import tables
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.nouns import Plan
from stillhouse.vault.erasable import CIPHER_MAGIC, CIPHER_MAGIC_1
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.manifests import ENVELOPE_MAGIC, PAGE_MAGIC, ROOT_MAGIC
from stillhouse.vault.objects import key_of
from stillhouse.vault.packs import MAGIC

# A month to notice, and a fortnight of days on which somebody looked after the home: a clock that jumps gives neither.
GRACE = timedelta(days=30)
GRACE_DAYS = 14
# What can be told to be ours by its first bytes. Everything else that nothing names is kept: it may be named by what this
# version does not know.
_KINDS = (ROOT_MAGIC, PAGE_MAGIC, ENVELOPE_MAGIC, CIPHER_MAGIC, CIPHER_MAGIC_1, MAGIC)
_PER_ENTRY = 10_000
COLLECT = "collect-garbage"


def lived_through(days: Sequence[str]) -> bool:
    """Is the grace over, by the days that were marked since? The first and the last of them do not count: a clock that was wrong
    once is wrong on one of those.
    """
    distinct = [date.fromisoformat(day) for day in sorted(set(days))]
    sure = distinct[1:-1]
    return len(distinct) >= GRACE_DAYS and (sure[-1] - sure[0] if sure else timedelta(0)) >= GRACE - timedelta(days=2)


class Garbage(NamedTuple):
    """What a collection would do. ``unknown`` is named by nothing and kept all the same."""

    discard: tuple[str, ...]
    discard_bytes: int
    recover: tuple[str, ...]
    reclaim: tuple[str, ...]
    waiting: int
    unknown: int


def find_garbage(home: Home) -> Garbage:
    """Look at everything. What is named comes out of the trash on the way; nothing goes there.

    Raises CorruptObject where what names things cannot be read.
    """
    naming = surely_named_objects(home)
    named, present = naming.objects, list(home.objects.list())
    unnamed = [digest for digest in present if digest not in named]
    ours = [digest for digest in unnamed if may_go(home, naming, digest)]
    there, discarded = set(present), list(home.objects.discarded())
    recover = [digest for digest in discarded if digest in named and digest not in there]
    since, days = custody_queries.trash(home.ledger), custody_queries.days_after(home.ledger, tables.trash, "object")
    # What the log does not say is in the trash is not ours to empty.
    reclaim = [
        one
        for one in discarded
        if one in since and one not in recover and _is_over(home, one, since[one].at, days[one])
    ]
    return Garbage(
        tuple(ours),
        sum(map(home.objects.size, ours)),
        tuple(recover),
        tuple(reclaim),
        len(discarded) - len(recover) - len(reclaim),
        len(unnamed) - len(ours),
    )


def plan_collection(home: Home) -> Plan:
    """A collection as a plan."""
    found = find_garbage(home)
    does = {
        "objects to the trash": len(found.discard),
        "bytes to the trash": found.discard_bytes,
        "objects out of the trash": len(found.recover),
        "objects removed for good": len(found.reclaim),
        "objects that wait in the trash": found.waiting,
        "objects that nothing names, kept": found.unknown,
    }
    return make_plan(COLLECT, "the vault", does, (), Decimal(0), _facts(found))


def collect(home: Home, plan: Plan) -> dict[str, int]:
    """Carry a collection out. Raises PlanRefused where something was named or went since it was planned."""
    with home.alone("collecting"):
        found = find_garbage(home)
        with executing(home.recorder, plan, _facts(found)) as result:
            recover(home, found.recover)
            discard(home, found.discard, "nothing names it")
            back = recover_named(home)
            reclaim(home, found.reclaim)
            gone = len(found.reclaim)
            result.update({"discarded": len(found.discard), "recovered": len(found.recover) + back, "reclaimed": gone})
    return dict(result)


def discard(home: Home, objects: Iterable[str], reason: str) -> None:
    """Write down that objects go to the trash, then move them. What is not there has nowhere to go from."""
    for batch in _batches(filter(home.objects.exists, objects)):
        size = sum(map(home.objects.size, batch))
        entry = facts.Discarded(at=now(), by=home.recorder.by, objects=batch, bytes=size, reason=reason)
        home.recorder.record(entry)
        for digest in batch:
            home.objects.discard(digest)
    home.recorder.refresh()


def recover(home: Home, objects: Iterable[str]) -> None:
    """Get objects back from the trash, then write it down. Raises CorruptObject for one that is gone."""
    for batch in _batches(objects):
        for digest in batch:
            if not home.objects.exists(digest) and not home.objects.recover(digest):
                raise CorruptObject(f"{digest} is not in the trash any more.")
        home.recorder.record(facts.Recovered(at=now(), by=home.recorder.by, objects=batch))
    home.recorder.refresh()


def recover_named(home: Home) -> int:
    """Get back whatever is in the trash, named and nowhere else; returns how many.

    What was stored again since stays in the trash as well, until its grace is over.
    """
    before = set(home.objects.discarded())
    named = surely_named_objects(home).objects
    left = set(home.objects.discarded())
    back = [
        digest
        for digest in sorted(before)
        if digest not in left or (digest in named and not home.objects.exists(digest))
    ]
    recover(home, back)
    return len(back)


def reclaim(home: Home, objects: Iterable[str]) -> None:
    """Write down that objects leave the trash for good, then remove them."""
    for batch in _batches(objects):
        home.recorder.record(facts.Reclaimed(at=now(), by=home.recorder.by, objects=batch))
        for digest in batch:
            home.objects.reclaim(digest)
    home.recorder.refresh()


def mark_day(home: Home) -> None:
    """Write down that the home was looked after today; once a day counts."""
    if not custody_queries.day_is_marked(home.ledger, home.today):
        home.recorder.record(facts.DayPassed(at=now(), by=home.recorder.by, day=home.today))
        home.recorder.refresh()


def may_go(home: Home, naming: Naming, digest: str) -> bool:
    """Is an object named by nothing, and known to be ours, or of what was deleted?"""
    if digest in naming.objects:
        return False
    return digest in naming.forgotten or any(home.objects.head(digest, len(kind)) == kind for kind in _KINDS)


def _is_over(home: Home, digest: str, since: str, days: Sequence[str]) -> bool:
    """Is the grace of what was discarded then over: by the clock, by the file itself, and by the days that were lived through?"""
    store = home.objects.backend
    moments = [datetime.fromisoformat(since)]
    if isinstance(store, LocalBackend):  # an entry that says it lay there for long does not make it so
        moments.append(datetime.fromtimestamp(store.discarded_as(key_of(digest)).st_ctime, UTC))
    return all(utc_now() - moment > GRACE for moment in moments) and lived_through(days)


def _facts(found: Garbage) -> str:
    return digest_value(["garbage", *map(list, (found.discard, found.recover, found.reclaim))])


def _batches(objects: Iterable[str]) -> Iterable[tuple[str, ...]]:
    every = tuple(objects)
    return (every[start : start + _PER_ENTRY] for start in range(0, len(every), _PER_ENTRY))
