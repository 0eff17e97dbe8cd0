"""Enrol people and programs, replace their keys, take them off the roster."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillhouse.access.policy_adoption import adopt_as, check_drafts
from stillhouse.errors import NameTaken, SignatureRefused, UnknownName, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import (
    current_roster,
    enrolled_signer,
    key_path,
    next_key_path,
    own_signatory,
    personal_signer,
    publish_keys,
)
from stillhouse.home.open_home import Home
from stillhouse.home.proposals import Findings, Handling, Proposed, Written, plan_act, propose, unlike
from stillhouse.nouns import Member, Plan, Role, Roster, Signature
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.external_keys import is_address, signer_of, write_address
from stillhouse.permission.roster import advisory, change_between, check, member, roster_subject, with_member, without
from stillhouse.permission.signatures import HOME, Signatory, is_signed
from stillhouse.permission.signing_keys import Signer, make_key, public_key, read_public_keys
from stillhouse.vault.files import storage_errors, write_whole

ROSTER = "change-roster"
_REQUEST = "key-request"


class MemberRequest(msgspec.Struct, frozen=True):
    """Somebody's public key, signed with its private one: proof that they hold it. It may travel in the open."""

    name: str
    key: str
    signature: Signature


class _Rosters(Handling[Roster]):
    kinds, name, content = (ROSTER,), "roster", Roster

    def differences(self, home: Home, plan: Plan, content: Roster) -> list[str]:
        what = change_between(current_roster(home.ledger, home.settings), content)
        return unlike("subject", plan.subject, roster_subject(content)) + unlike("what", plan.does.get("what"), what)

    def found(self, home: Home, content: Roster) -> Findings:
        return Findings({"what": change_between(current_roster(home.ledger, home.settings), content)}, {})

    def carry_out(self, plan: Plan, content: Roster, written: Written, prepared: Any) -> dict[str, Any]:
        what = str(plan.does["what"])
        written.home.recorder.record(facts.RosterChanged(roster=content, change=what, **written.shared))
        publish_keys(written.home.settings, content)
        return {"version": content.version, "change": what}

    def approver(self, home: Home, state: ChainState, content: Roster, signatory: Signatory) -> Signatory:
        """Whoever holds a key of the one to come, or is a member of the present one."""
        coming = personal_signer(msgspec.structs.replace(home.settings, identity=""), content)
        if coming is not None:
            return Signatory(coming[0], coming[1], state.roster.version if state.roster else 0)
        if state.roster is None or member(state.roster, signatory.name) is None:
            raise SignatureRefused(f"{signatory.name} is on neither roster.")
        return signatory

    def keys(self, content: Roster) -> list[str]:
        return [known.key for known in content.members]


ROSTERS = _Rosters()


class RosterStanding(NamedTuple):
    """The roster, who would sign now, and which controls are not enforced with so few."""

    roster: Roster | None
    signs_as: str
    key: str
    advisory: tuple[str, ...]


def standing(home: Home) -> RosterStanding:
    """Who is on the roster. Raises ForgedEntry, SignatureRefused."""
    roster = current_roster(home.ledger, home.settings)
    signatory = own_signatory(home.ledger, home.settings)
    return RosterStanding(roster, signatory.name, signatory.signer.public.id, advisories(home, roster))


def advisories(home: Home, roster: Roster | None) -> tuple[str, ...]:
    """The controls that are not enforced here, in words: with so few people, and where one of them holds the keys of several."""
    found = advisory(roster)
    persons = [known for known in roster.members if Role.PROGRAM not in known.roles] if roster else []
    # By what lies there, and not by what can be unlocked now: a passphrase is known to whoever has set it.
    mine = [known.name for known in persons if key_path(home.settings, known.name).exists()]
    if len(mine) < 2:
        return found
    where = home.settings.keys
    return (
        *found,
        f"a second person approves: the keys of {' and '.join(mine)} are all in {where}, so one can act as both",
    )


def make_request(home: Home, name: str, to: Path) -> Path:
    """Make somebody's key, in their own keys folder, and a request to be enrolled with it. Raises UsageError, StorageError."""
    signer = _own_key(home, name)
    signatory = Signatory(name, signer, 0)
    request = MemberRequest(name, signer.public.pem, signatory.sign(_REQUEST, [name, signer.public.pem]))
    write_whole(to, msgspec.json.format(msgspec.json.encode(request), indent=2))
    return to


def connect_key(home: Home, name: str, address: str, public: Path) -> Path:
    """Let a key that is in hardware or at a service be somebody's own. Raises UsageError, KeyUnusable, MissingExtra."""
    path = _key_path(home, name)
    keys = read_public_keys(public)
    if len(keys) != 1:
        raise UsageError(f"{public} holds {len(keys)} public keys.", next_step="Give a file with the one of this key.")
    write_address(path, address, keys[0], home.settings.passphrase)
    return path


def enrol(
    home: Home, name: str, roles: tuple[Role, ...], threshold: int, request: Path | None, recovery: Path | None
) -> Proposed:
    """Propose a roster with a new member. The first one makes the roster, and adopts the documents that it begins with.

    Raises UsageError, NameTaken, SignatureRefused.
    """
    roster = current_roster(home.ledger, home.settings)
    if roster is not None and member(roster, name) is not None:
        raise NameTaken(f"{name} is on the roster already.", next_step="`stillhouse identity rotate` replaces a key.")
    key = _requested(name, request) if request else _own_key(home, name).public.pem
    recovery_pem = ""
    if recovery is not None:
        if recovery.exists():
            raise UsageError(f"{recovery} exists already.", next_step="Name a file that does not exist yet.")
        make_key(recovery)
        recovery_pem = signer_of(recovery).public.pem
    candidate = with_member(roster, Member(name, roles, key), threshold, recovery_pem)
    check(candidate)
    plan = _plan(home, roster, candidate)
    if roster is not None:
        return propose(home, ROSTERS, plan)
    check_drafts(home)  # before there is a roster: what it begins with can be adopted
    done = propose(home, ROSTERS, plan, Signatory(name, _own_key(home, name), 0))  # for itself: there is nobody else
    adopt_as(home, Signatory(name, _own_key(home, name), candidate.version))
    return done


def rotate(home: Home, name: str, request: Path | None, recovery: Path | None) -> Proposed:
    """Propose a roster with another key for a member: an old one that wore out, or one that was lost.

    One's own new key waits beside the present one, which stays good until the roster has changed. ``recovery`` is the private
    recovery key, for when too many are lost to reach the threshold. Raises UnknownName, UsageError, SignatureRefused.
    """
    roster, known = _known(home, name)
    present = enrolled_signer(home.settings, name, known.key)
    coming = None if request else _next_key(home, name, known)
    key = _requested(name, request) if request else coming.public.pem if coming else ""
    candidate = with_member(roster, Member(name, known.roles, key))
    plan = _plan(home, roster, candidate)
    signers = []
    if recovery is not None:
        signer = signer_of(recovery, home.settings.passphrase)
        if not roster.recovery or signer.public.id != public_key(roster.recovery).id:
            raise SignatureRefused(f"{recovery} is not the recovery key of this roster.")
        signers.append(Signatory("recovery", signer, roster.version))
    elif request is None and present is not None:
        signers.append(Signatory(name, present, roster.version))
    if coming is not None and signers:
        signers.append(Signatory(name, coming, roster.version))
    return propose(home, ROSTERS, plan, *signers)


def _next_key(home: Home, name: str, known: Member) -> Signer:
    """The key that is to take the present one's place: made, or waiting from an earlier try. Nothing that is enrolled moves
    but into a name of its own.
    """
    path, waiting = key_path(home.settings, name), next_key_path(home.settings, name)
    if is_address(path) or is_address(waiting):
        raise UsageError(
            f"{name}'s key is not in a file, so none is made in its place.",
            next_step="Connect the new key in another folder of keys (STILLHOUSE_KEYS), make a request there with "
            "`identity request`, and give it here: `identity rotate NAME --request FILE`.",
        )
    enrolled = public_key(known.key).id
    if waiting.exists() and signer_of(waiting, home.settings.passphrase).public.id == enrolled:
        with storage_errors(f"{path} could not be moved aside"):  # an earlier rotation has taken effect
            if path.exists():
                path.replace(path.with_suffix(f".retired-{signer_of(path, home.settings.passphrase).public.id[7:19]}"))
            waiting.replace(path)
    make_key(waiting, home.settings.passphrase)
    return signer_of(waiting, home.settings.passphrase)


def drop(home: Home, name: str) -> Proposed:
    """Propose a roster without a member. Raises UnknownName, UsageError."""
    roster, _ = _known(home, name)
    candidate = without(roster, name)
    check(candidate)
    return propose(home, ROSTERS, _plan(home, roster, candidate))


def _plan(home: Home, present: Roster | None, candidate: Roster) -> Plan:
    does = {"roster": msgspec.to_builtins(candidate), "what": change_between(present, candidate)}
    return plan_act(home, ROSTERS, ROSTER, roster_subject(candidate), does)


def _known(home: Home, name: str) -> tuple[Roster, Member]:
    roster = current_roster(home.ledger, home.settings)
    known = member(roster, name) if roster else None
    if roster is None or known is None:
        raise UnknownName(f"{name} is not on the roster.", next_step="`stillhouse identity list`")
    return roster, known


def _own_key(home: Home, name: str) -> Signer:
    """A person's private key, made in their own folder where there is none."""
    path = _key_path(home, name)
    make_key(path, home.settings.passphrase)
    return signer_of(path, home.settings.passphrase)


def _key_path(home: Home, name: str) -> Path:
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name == HOME:
        raise UsageError(f"{name!r} is no name for a member: use letters, digits, dot, dash and underscore.")
    path = key_path(home.settings, name)
    if home.folder in path.resolve().parents:
        raise UsageError(
            f"{path} lies inside the home: anyone who can read the home could sign as you.",
            next_step="Set STILLHOUSE_KEYS to a folder of your own.",
        )
    return path


def _requested(name: str, path: Path) -> str:
    try:
        data = path.read_bytes()
        if data.lstrip().startswith(b"-----BEGIN"):
            raise UsageError(
                f"{path} is a key alone.", next_step="`stillhouse identity request` makes a request with proof."
            )
        request = msgspec.json.decode(data, type=MemberRequest)
        key = public_key(request.key)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}.") from failure
    except msgspec.MsgspecError as failure:
        raise UsageError(f"{path} is no request to be enrolled: {failure}.") from failure
    if request.name != name or not is_signed(key, _REQUEST, [request.name, request.key], request.signature):
        raise SignatureRefused(f"{path} does not prove that {name} holds that key.")
    return request.key
