"""Whose signature means something. Pure.

A roster is accepted where, as in TUF (theupdateframework.io, section 5.3):

- it is the first, and a threshold of its own members who answer for permission signed it; or
- its version is that of its predecessor plus one, and a threshold of the predecessor's members and a threshold of its own
  members signed it; or the predecessor's recovery key and a threshold of its own did.

Covers: nobody below the threshold can enrol, drop or replace anybody; a roster cannot be replayed or skipped. Does not cover: the
first roster is trusted on first use, so its digest should be kept elsewhere; a threshold of members who act together can do
everything, and of one person that is one.
"""

from collections.abc import Callable

import msgspec

from stillhouse.errors import SignatureRefused, UsageError
from stillhouse.nouns import Member, Role, Roster
from stillhouse.permission.signatures import HOME
from stillhouse.permission.signing_keys import public_key

_PERSONS_ONLY = {Role.GOVERNANCE, Role.CUSTODIAN, Role.APPROVER}


def check(roster: Roster) -> None:
    """Raises UsageError where a roster makes no sense."""
    names = [member.name for member in roster.members]
    keys = [public_key(member.key).id for member in roster.members]
    if len(set(names)) != len(names) or HOME in names:
        raise UsageError(f"Names of a roster are different from each other, and none is {HOME!r}.")
    if len(set(keys)) != len(keys):
        raise UsageError("Two members of the roster have the same key.")
    for member in roster.members:
        if not member.roles:
            raise UsageError(f"{member.name} has no role.", next_step="Give one or more --role.")
        if Role.PROGRAM in member.roles and _PERSONS_ONLY & set(member.roles):
            raise UsageError(
                f"{member.name} is a program: programs request, they never approve or answer for anything."
            )
    governors = holders(roster, Role.GOVERNANCE)
    if not 1 <= roster.threshold <= len(governors):
        raise UsageError(
            f"A threshold of {roster.threshold} needs as many members with the role {Role.GOVERNANCE}; there are "
            f"{len(governors)}.",
            next_step=f"Enrol with --role {Role.GOVERNANCE}, or choose another --threshold.",
        )
    if roster.recovery:
        public_key(roster.recovery)


def holders(roster: Roster, role: Role) -> tuple[Member, ...]:
    """The members with a role."""
    return tuple(member for member in roster.members if role in member.roles)


def member(roster: Roster, name: str) -> Member | None:
    """A member by name."""
    return next((known for known in roster.members if known.name == name), None)


def lacking(previous: Roster | None, candidate: Roster, signed: Callable[[str], bool]) -> tuple[str, ...]:
    """Who could still sign where signatures are missing; empty where the candidate may be accepted.

    ``signed`` says whether the holder of a key (PEM) signed for the candidate.
    """
    missing: list[str] = []
    recovered = previous is not None and bool(previous.recovery) and signed(previous.recovery)
    for roster in (None if recovered else previous, candidate):
        if roster is None:
            continue
        governors = holders(roster, Role.GOVERNANCE)
        given = {known.name for known in governors if signed(known.key)}
        if len(given) < roster.threshold:
            missing += [known.name for known in governors if known.name not in given]
    return tuple(dict.fromkeys(missing))


def check_next(previous: Roster | None, candidate: Roster) -> None:
    """Raises UsageError, SignatureRefused where this roster may not follow that one, whoever signs."""
    check(candidate)
    expected = previous.version + 1 if previous else 1
    if candidate.version != expected:
        raise SignatureRefused(f"Version {candidate.version} of the roster does not follow version {expected - 1}.")


def advisory(roster: Roster | None) -> tuple[str, ...]:
    """The controls that are not enforced with so few people, in words."""
    if roster is None:
        return (
            "there is no roster: anyone who can use this home can grant, waive and revoke in its name, and change its policy",
        )
    found = []
    governors, approvers = holders(roster, Role.GOVERNANCE), holders(roster, Role.APPROVER)
    if len({known.name for known in (*governors, *approvers)}) < 2:
        found.append("grants and waivers need a second person's approval: there is one person, so they do not")
    if roster.threshold < 2:
        found.append("the roster is changed by a threshold: it is one, so one person can change it")
    if not roster.recovery and len(governors) == roster.threshold:
        found.append("lost keys can be replaced: with as many keys as the threshold and no recovery key, they cannot")
    return tuple(found)


def roster_subject(roster: Roster) -> str:
    """By which a plan names the roster that it proposes."""
    return f"roster {roster.version}"


def change_between(previous: Roster | None, candidate: Roster) -> str:
    """What a roster changes, in words; every difference is said."""
    before = {known.name: known for known in previous.members} if previous else {}
    after = {known.name: known for known in candidate.members}
    found = [f"drop {name}" for name in before if name not in after]
    for name, known in after.items():
        was = before.get(name)
        if was is None:
            found.append(f"enrol {name} as {', '.join(known.roles)}")
            continue
        if was.key != known.key:
            found.append(f"another key for {name}")
        if was.roles != known.roles:
            found.append(f"{name} becomes {', '.join(known.roles)} instead of {', '.join(was.roles)}")
    threshold, recovery = (previous.threshold, previous.recovery) if previous else (1, "")
    if candidate.threshold != threshold:
        found.append(f"a threshold of {candidate.threshold} instead of {threshold}")
    if candidate.recovery != recovery:
        kind = "another" if candidate.recovery and recovery else "a" if candidate.recovery else "no"
        found.append(f"{kind} recovery key")
    return "; ".join(found) or "nothing"


def with_member(roster: Roster | None, new: Member, threshold: int = 0, recovery: str = "") -> Roster:
    """The next roster, with a member added or replaced. Where nothing is said, the second who answers for permission makes the
    threshold two; one that was lowered on purpose stays.
    """
    members = tuple(known for known in (roster.members if roster else ()) if known.name != new.name)
    candidate = Roster(
        version=roster.version + 1 if roster else 1,
        members=tuple(sorted((*members, new), key=lambda known: known.name)),
        threshold=threshold or (roster.threshold if roster else 1),
        recovery=recovery or (roster.recovery if roster else ""),
    )
    before = len(holders(roster, Role.GOVERNANCE)) if roster else 0
    if threshold or before >= 2 or len(holders(candidate, Role.GOVERNANCE)) < 2:
        return candidate
    return msgspec.structs.replace(candidate, threshold=2)


def without(roster: Roster, name: str) -> Roster:
    """The next roster, without a member."""
    members = tuple(known for known in roster.members if known.name != name)
    governors = sum(Role.GOVERNANCE in known.roles for known in members)
    return msgspec.structs.replace(
        roster, version=roster.version + 1, members=members, threshold=max(1, min(roster.threshold, governors))
    )
