"""The chain of permission: rosters, grants and revocations, waivers, deletions, in one order that signatures fix. Pure.

An entry names the one before it, and every signature is over the plan, the content *and* that name: so an entry can neither be
played again, nor moved, nor dated back, nor approved for something else. What each kind needs:

- a roster: what ``roster`` asks for (a threshold of the old and of the new);
- a grant, a waiver: one who answers for permission, and the yes of an approver who is somebody else, where there is one;
- a deletion, an erasure, the release of a hold: the same, and who holds the vault may ask for it, too;
- a revocation: one who answers for permission. It waits for nobody.

Before there is a roster the home's own key signs. Covers: an entry altered, forged, played again, moved, taken out of the middle.
Does not cover: the last entry taken out, which a head that is kept elsewhere shows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_value
from stillhouse.errors import ForgedEntry, SignatureRefused, UsageError
from stillhouse.identity import roster as rosters
from stillhouse.identity.keys import public_key
from stillhouse.identity.signatures import HOME, is_signed
from stillhouse.nouns import (
    AccessChange,
    AccessKind,
    Deletion,
    Erasure,
    HoldRelease,
    Member,
    Role,
    Roster,
    Signature,
    Waiver,
)

KIND = "permission"
Content = Roster | AccessChange | Waiver | Deletion | Erasure | HoldRelease
# Who may ask for what the vault should no longer keep; an approver says yes.
CUSTODY_ROLES = (Role.GOVERNANCE, Role.CUSTODIAN)


class Entry(NamedTuple):
    """One act of permission as it stands in the log."""

    content: Content
    plan: str
    previous: str
    signatures: tuple[Signature, ...]


class State(NamedTuple):
    """What the chain says up to some entry, whose digest is ``head``."""

    head: str = ""
    roster: Roster | None = None
    rosters: tuple[Roster, ...] = ()
    changes: tuple[AccessChange, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    releases: tuple[HoldRelease, ...] = ()
    erasures: tuple[Erasure, ...] = ()


def statement(content: Content, plan: str, previous: str) -> list[object]:
    """What is signed."""
    return [type(content).__name__, msgspec.to_builtins(content), plan, previous]


def digest(entry: Entry) -> str:
    """By which the next entry names this one."""
    return digest_value(statement(entry.content, entry.plan, entry.previous))


def lacking(state: State, content: Content, plan: str, signatures: Sequence[Signature], home: str) -> tuple[str, ...]:
    """Who could still sign where something is missing; empty where it is enough. ``home`` is the home's key (PEM).

    Raises SignatureRefused where the author may not do this at all, UsageError for a roster that makes no sense.
    """
    value = statement(content, plan, state.head)

    def signed(pem: str) -> bool:
        key = public_key(pem)
        return any(is_signed(key, KIND, value, signature) for signature in signatures)

    if isinstance(content, Roster):
        rosters.check_next(state.roster, content)
        return rosters.lacking(state.roster, content, signed)
    if state.roster is None:
        if not (signatures and signatures[0].by == HOME and signed(home)):
            raise SignatureRefused("Before there is a roster, the home's own key signs.")
        return ()
    return _members(state.roster, content, signed)


def _members(roster: Roster, content: Content, signed: Callable[[str], bool]) -> tuple[str, ...]:
    """Whoever of them was first: the clocks of two machines need not agree."""
    governors = [known for known in authors(roster, content) if signed(known.key)]
    if not governors:
        names = ", ".join(known.name for known in authors(roster, content))
        raise SignatureRefused(f"Only who answers for permission, or for this, may do it: {names}.")
    if isinstance(content, AccessChange) and content.kind == AccessKind.REVOKE:
        return ()
    for author in governors:
        others = second_persons(roster, author)
        if not others or any(signed(known.key) for known in others):
            return ()
    return tuple(known.name for known in second_persons(roster, governors[0]))


def second_persons(roster: Roster, author: Member) -> tuple[Member, ...]:
    """Who can say yes to what somebody asks for. Where nobody else is there, nobody else is asked."""
    return tuple(known for known in rosters.holders(roster, Role.APPROVER) if known.name != author.name)


def authors(roster: Roster, content: Content) -> tuple[Member, ...]:
    """The members who may ask for something."""
    return _having(
        roster, CUSTODY_ROLES if isinstance(content, Deletion | Erasure | HoldRelease) else (Role.GOVERNANCE,)
    )


def one_may_delete(roster: Roster | None) -> bool:
    """Can somebody have things deleted to whom nobody else must say yes?"""
    return roster is None or any(not second_persons(roster, author) for author in _having(roster, CUSTODY_ROLES))


def _having(roster: Roster, roles: Sequence[Role]) -> tuple[Member, ...]:
    return tuple(known for known in roster.members if any(role in known.roles for role in roles))


def advance(state: State, entry: Entry, home: str) -> State:
    """The state after an entry. Raises ForgedEntry."""
    content = entry.content
    try:
        if entry.previous != state.head:
            raise SignatureRefused("It does not follow the one before it.")
        missing = lacking(state, content, entry.plan, entry.signatures, home)
        if missing:
            raise SignatureRefused(f"It lacks the signature of one of {', '.join(missing)}.")
    except (SignatureRefused, UsageError) as failure:
        raise ForgedEntry(f"({type(content).__name__} of plan {entry.plan[7:19]}: {failure})") from failure
    state = state._replace(head=digest(entry))
    match content:
        case Roster():
            return state._replace(roster=content, rosters=(*state.rosters, content))
        case AccessChange():
            return state._replace(changes=(*state.changes, content))
        case Waiver():
            return state._replace(waivers=(*state.waivers, content))
        case Deletion():
            return state._replace(deletions=(*state.deletions, content))
        case Erasure():
            return state._replace(erasures=(*state.erasures, content))
        case HoldRelease():
            return state._replace(releases=(*state.releases, content))


def replay(entries: Iterable[Entry], home: str, head: str = "") -> State:
    """The state that all entries lead to, in the order that they name. ``head`` is one that the chain is known to hold.

    Raises ForgedEntry where one was altered, forged, played again or taken out.
    """
    following: dict[str, list[Entry]] = {}
    count = 0
    for entry in entries:
        count += 1
        following.setdefault(entry.previous, []).append(entry)
    state, passed, seen = State(), not head, 0
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
        raise ForgedEntry("(the newest act of permission that this home knows of is not there)")
    return state
