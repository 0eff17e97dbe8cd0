"""The chain of permission: rosters, and what was agreed under them, in one order that signatures fix. Pure.

An entry names the one before it, and every signature is over the plan, the content *and* that name: so an entry can neither be
played again, nor moved, nor dated back, nor approved for something else. What each kind needs stands in ``acts``.

Before there is a roster the home's own key signs. Covers: an entry altered, forged, played again, moved, taken out of the middle.
Does not cover: the last entry taken out, which a head that is kept elsewhere shows.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_value
from stillhouse.errors import ForgedEntry, SignatureRefused, UsageError
from stillhouse.nouns import Roster, Signature
from stillhouse.permission.acts import act_of
from stillhouse.permission.acts.act import CUSTODIANS, ChainState, having, second_persons
from stillhouse.permission.signatures import HOME, is_signed
from stillhouse.permission.signing_keys import public_key

KIND = "permission"


class ChainEntry(NamedTuple):
    """One act of permission as it stands in the log."""

    content: msgspec.Struct
    plan: str
    previous: str
    signatures: tuple[Signature, ...]


def statement(content: msgspec.Struct, plan: str, previous: str) -> list[object]:
    """What is signed."""
    return [act_of(content).tag, msgspec.to_builtins(content), plan, previous]


def digest(entry: ChainEntry) -> str:
    """By which the next entry names this one."""
    return digest_value(statement(entry.content, entry.plan, entry.previous))


def lacking(
    state: ChainState, content: msgspec.Struct, plan: str, signatures: Sequence[Signature], home: str
) -> tuple[str, ...]:
    """Who could still sign where something is missing; empty where it is enough. ``home`` is the home's key (PEM).

    Raises SignatureRefused where the author may not do this at all, UsageError for a roster that makes no sense.
    """
    value, act = statement(content, plan, state.head), act_of(content)

    def signed(pem: str) -> bool:
        key = public_key(pem)
        return any(is_signed(key, KIND, value, signature) for signature in signatures)

    if state.roster is None and act.needs_roster:
        if not (signatures and signatures[0].by == HOME and signed(home)):
            raise SignatureRefused("Before there is a roster, the home's own key signs.")
        return ()
    return act.lacking(state, content, signed)


def one_may_delete(roster: Roster | None) -> bool:
    """Can somebody have things deleted to whom nobody else must say yes?"""
    return roster is None or any(not second_persons(roster, author) for author in having(roster, CUSTODIANS))


def advance(state: ChainState, entry: ChainEntry, home: str) -> ChainState:
    """The state after an entry. Raises ForgedEntry."""
    content, act = entry.content, act_of(entry.content)
    try:
        if entry.previous != state.head:
            raise SignatureRefused("It does not follow the one before it.")
        missing = lacking(state, content, entry.plan, entry.signatures, home)
        if missing:
            raise SignatureRefused(f"It lacks the signature of one of {', '.join(missing)}.")
    except (SignatureRefused, UsageError) as failure:
        raise ForgedEntry(f"({act.tag} of plan {entry.plan[7:19]}: {failure})") from failure
    return ChainState(digest(entry), act.roster_after(state, content), (*state.contents, content))


def replay(entries: Iterable[ChainEntry], home: str, head: str = "") -> ChainState:
    """The state that all entries lead to, in the order that they name. ``head`` is one that the chain is known to hold.

    Raises ForgedEntry where one was altered, forged, played again or taken out.
    """
    following: dict[str, list[ChainEntry]] = {}
    count = 0
    for entry in entries:
        count += 1
        following.setdefault(entry.previous, []).append(entry)
    state, passed, seen = ChainState(), not head, 0
    while found := following.get(state.head):
        if len(found) > 1:
            raise ForgedEntry("(two acts of permission claim the same place)")
        state, seen = advance(state, found[0], home), seen + 1
        passed = passed or state.head == head
    if seen != count:
        raise ForgedEntry(
            "(an act of permission does not follow any other: one was altered, or one between was taken out)"
        )
    if not passed:
        raise ForgedEntry("(the newest act of permission that this home has seen is missing)")
    return state
