"""What stands for a set of stamps: its digest, and the integer that rows carry. Pure."""

import functools
from collections.abc import Iterable

import msgspec

from stillhouse.canon import digest_value, short_integer
from stillhouse.errors import ForgedEntry
from stillhouse.nouns import Stamp, StampSet


def stamp_set(stamps: Iterable[Stamp]) -> StampSet:
    """The interned form of some stamps: the same for the same members in any order."""
    members = tuple(sorted(set(stamps)))
    digest = digest_value([_identity(stamp) for stamp in members])
    return StampSet(short_integer(digest), digest, members)


@functools.lru_cache(maxsize=65_536)
def checked(stored: StampSet) -> StampSet:
    """A set as it was stored, which stands for its members and for no others. Raises ForgedEntry."""
    made = stamp_set(stored.stamps)
    if (made.id, made.digest) != (stored.id, stored.digest):
        raise ForgedEntry(
            f"(the stamps {stored.id} in the ledger are not those that this number stands for)",
            next_step="Run `stillhouse doctor --rebuild`: it makes the ledger again from the log.",
        )
    return stored


def _identity(stamp: Stamp) -> dict[str, object]:
    """A stamp as its digest has it: what was added to stamps later is left out where it is empty."""
    fields: dict[str, object] = msgspec.to_builtins(stamp)
    return fields if stamp.provider else {name: value for name, value in fields.items() if name != "provider"}
