"""Acts that need a signature, and some of them a second one: propose, approve, execute.

A proposal is a plan in the log. What needs nobody else's yes is executed at once; the rest waits for `plan approve` by others and
`plan execute`. Every signature is over the plan, what it brings about, and the place in the chain of permission that it takes
(``identity.chain``): it is worth nothing for another plan, and nothing once something else took that place. Whether signatures
suffice is asked of the same function before an act is written down and whenever it is read.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stillhouse import facts
from stillhouse.access.changes import make_change, waiver_id
from stillhouse.app.erasure import finish
from stillhouse.app.home import App
from stillhouse.app.permission import (
    governor,
    keep_head,
    load,
    own_home_key,
    own_signatory,
    personal_signer,
    publish_keys,
)
from stillhouse.app.reach import check_caps, reach_of, reach_of_source
from stillhouse.app.references import active_holds
from stillhouse.app.trash import discard, recover_named
from stillhouse.canon import digest_value
from stillhouse.errors import ApprovalMissing, ForgedEntry, PlanRefused, SignatureRefused, UnknownName
from stillhouse.identity.chain import CUSTODY_ROLES, KIND, Content, Entry, State, digest, lacking, statement
from stillhouse.identity.keys import public_key
from stillhouse.identity.roster import change_between, holders, member, roster_subject
from stillhouse.identity.signatures import Signatory, is_signed
from stillhouse.ledger import custody, permission, queries
from stillhouse.ledger.queries import StoredPlan
from stillhouse.nouns import (
    AccessChange,
    AccessKind,
    Deletion,
    Erasure,
    HoldRelease,
    Plan,
    Role,
    Roster,
    Signature,
    Waiver,
)
from stillhouse.plans.plan import executing, make_plan, plan_digest
from stillhouse.recorder import now

ROSTER, GRANT, REVOKE, WAIVE = "change-roster", "grant", "revoke", "waive"
DELETE, RELEASE, ERASE = "delete", "release-hold", "erase"
_CONTENTS: dict[str, tuple[str, type[Content]]] = {
    ROSTER: ("roster", Roster),
    GRANT: ("change", AccessChange),
    REVOKE: ("change", AccessChange),
    WAIVE: ("waiver", Waiver),
    DELETE: ("deletion", Deletion),
    RELEASE: ("release", HoldRelease),
    ERASE: ("erasure", Erasure),
}
_TWO_PERSONS = (GRANT, WAIVE, DELETE, RELEASE, ERASE)
_LOCK = "permission"


class Proposed(NamedTuple):
    """What came of a proposal: its plan, whether it was executed, and who could still say yes."""

    plan: Plan
    digest: str
    done: bool
    waits_for: tuple[str, ...]


def plan_act(app: App, kind: str, subject: str, does: dict[str, Any], impact: dict[str, Any] | None = None) -> Plan:
    """An act as a plan; nothing is done. It rests on all that was permitted before it."""
    state = load(app.ledger, app.settings).state
    needed = 0
    if kind in _TWO_PERSONS and state.roster is not None:
        author = own_signatory(app.ledger, app.settings).name
        needed = int(any(known.name != author for known in holders(state.roster, Role.APPROVER)))
    rests_on = _rests_on(app, state, kind, does)
    return make_plan(kind, subject, does, (), Decimal(0), rests_on, approvals=needed, impact=impact)


def propose(app: App, plan: Plan, *sign_as: Signatory) -> Proposed:
    """Write a plan down with its author's signature, and execute it where nobody else must say yes.

    Raises SignatureRefused, PlanRefused where something was permitted since it was made.
    """
    with app.alone(_LOCK):
        proposed, state, signed = _write_down(app, plan, sign_as or (governor(app.ledger, app.settings),))
        if proposed.waits_for:
            return proposed
        _carry_out(app, plan, proposed.digest, state, signed)
    return proposed._replace(done=True)


def submit(app: App, plan: Plan) -> Proposed:
    """Write a plan down with its author's signature, and no more: even alone one says it twice. Raises like ``propose``."""
    with app.alone(_LOCK):
        return _write_down(app, plan, (governor(app.ledger, app.settings, CUSTODY_ROLES),))[0]


def _write_down(app: App, plan: Plan, authors: Sequence[Signatory]) -> tuple[Proposed, State, tuple[Signature, ...]]:
    name = plan_digest(plan)
    app.recorder.refresh()
    state = load(app.ledger, app.settings).state
    if plan.facts != _rests_on(app, state, plan.kind, plan.does):
        raise PlanRefused("What it rests on has changed since it was made.")
    at, by = now(), app.recorder.by
    signed = tuple(_sign(author, plan, name, state) for author in authors)
    waits_for = lacking(state, _content(plan), name, signed, own_home_key(app.settings))
    yes = [facts.PlanApproved(at=at, by=by, plan=name, signature=signature) for signature in signed]
    app.recorder.record(facts.PlanMade(at=at, by=by, digest=name, plan=plan), *yes)
    app.recorder.refresh()
    return Proposed(plan, name, False, waits_for), state, signed


def differences(app: App, plan: Plan) -> list[str]:
    """Where what a plan says is not what it would do, as it is found out now: the author's numbers are nobody's evidence.

    Raises UnknownName, CorruptObject.
    """
    content = _content(plan)
    if isinstance(content, Erasure):
        known = custody.erasure_keys(app.ledger).get(content.key)
        whose = ", ".join((known.source, *known.others)) if known else "no source"
        return _unlike("key of", content.source, whose) + _unlike("subject", plan.subject, content.source)
    if isinstance(content, HoldRelease):
        held = {
            hold.subject for hold in active_holds(app) if hold.hold == content.hold
        }  # one name, however often forged
        return _unlike("subject", plan.subject, ", ".join(sorted(held)) or "no hold that is in force")
    if isinstance(content, AccessChange | Waiver | Roster):
        return _unlike_permission(app, plan, content)
    reach = reach_of(app, tuple(content.mentions))
    said = {
        "subject": (plan.subject, ", ".join(reach.subjects)),
        "mentions": (dict(content.mentions), reach.mentions),
        "objects": (content.objects, len(reach.objects)),
        "bytes": (content.bytes, reach.bytes),
        "usd": (content.usd, reach.replaceability.usd),
    }
    return [line for name, (says, found) in said.items() for line in _unlike(name, says, found)]


def _unlike_permission(app: App, plan: Plan, content: AccessChange | Waiver | Roster) -> list[str]:
    state = load(app.ledger, app.settings).state
    if isinstance(content, Roster):
        what = change_between(state.roster, content)
        return _unlike("subject", plan.subject, roster_subject(content)) + _unlike("what", plan.does.get("what"), what)
    if isinstance(content, Waiver):
        id, subject = waiver_id(content), content.id
    else:
        id, subject = make_change(msgspec.structs.replace(content, id=""), state.changes).id, content.lab
        kind = GRANT if content.kind == AccessKind.GRANT else REVOKE
        if plan.kind != kind:
            return _unlike("kind", plan.kind, kind)
    return _unlike("id", content.id, id) + _unlike("subject", plan.subject, subject)


def _unlike(name: str, says: object, found: object) -> list[str]:
    return [] if says == found else [f"{name}: it says {says}, and it is {found}"]


def _check_says(app: App, plan: Plan) -> None:
    wrong = differences(app, plan)
    if wrong:
        raise PlanRefused(
            f"It does not say what it would do ({'; '.join(wrong)}).",
            next_step="`stillhouse plan show` has what was recomputed; make the plan anew with `stillhouse delete`.",
        )


def approve(app: App, start: str) -> Proposed:
    """Say yes to a plan, as whoever signs now. Raises SignatureRefused, PlanRefused, UnknownName."""
    stored = find(app, start)
    _check_open(stored)
    state = load(app.ledger, app.settings).state
    if stored.plan.facts != _rests_on(app, state, stored.plan.kind, stored.plan.does):
        raise PlanRefused("What it rests on has changed since it was made.")
    _check_says(app, stored.plan)
    content = _content(stored.plan)
    signatory = own_signatory(app.ledger, app.settings)
    who = member(state.roster, signatory.name) if state.roster else None
    if isinstance(content, Roster):
        signatory = _for_roster(app, state.roster, content, signatory)
    elif who is None or Role.APPROVER not in who.roles:
        raise SignatureRefused(f"{signatory.name} has not the role {Role.APPROVER}.")
    signature = _sign(signatory, stored.plan, stored.digest, state)
    entry = facts.PlanApproved(at=now(), by=app.recorder.by, plan=stored.digest, signature=signature)
    app.recorder.record(entry)
    app.recorder.refresh()
    return Proposed(stored.plan, stored.digest, False, _waits_for(app, stored, state))


def execute(app: App, start: str) -> Proposed:
    """Carry a plan out that waited for approvals. Raises ApprovalMissing, PlanRefused, UnknownName."""
    stored = find(app, start)
    _check_open(stored)
    with app.alone(_LOCK):
        app.recorder.refresh()
        state = load(app.ledger, app.settings).state
        if stored.plan.facts != _rests_on(app, state, stored.plan.kind, stored.plan.does):
            raise PlanRefused("What it rests on has changed since it was made.")
        _check_says(app, stored.plan)
        waits_for = _waits_for(app, stored, state)
        if waits_for:
            raise ApprovalMissing(f"(one of {', '.join(waits_for)})")
        _carry_out(app, stored.plan, stored.digest, state, _signatures(app, stored, state))
    return Proposed(stored.plan, stored.digest, True, ())


def find(app: App, start: str) -> StoredPlan:
    """A plan by its digest or the first characters of it. Raises UnknownName, ForgedEntry."""
    wanted = start if start.startswith("blake3:") else f"blake3:{start}"
    found = [stored for stored in queries.plans(app.ledger) if stored.digest.startswith(wanted)]
    if len(found) != 1:
        raise UnknownName(f"{'Several plans begin' if found else 'No plan begins'} with {start!r}.")
    if plan_digest(found[0].plan) != found[0].digest:
        raise ForgedEntry(f"(the contents of plan {found[0].digest} do not match its digest)")
    return found[0]


def _rests_on(app: App, state: State, kind: str, does: dict[str, Any]) -> str:
    """What every act of permission rests on: the whole chain before it; and a deletion on all that it would reach, too."""
    if kind == ERASE:
        return digest_value(["permission", state.head, reach_of_source(app, str(does["erasure"]["source"])).digest])
    if kind != DELETE:
        return digest_value(["permission", state.head])
    return digest_value(["permission", state.head, reach_of(app, tuple(does["deletion"]["mentions"])).digest])


def _content(plan: Plan) -> Content:
    name, kind = _CONTENTS[plan.kind]
    return msgspec.convert(plan.does[name], kind)


def _check_open(stored: StoredPlan) -> None:
    if stored.plan.kind not in _CONTENTS:
        raise PlanRefused(f"A plan to {stored.plan.kind} is executed by the command that made it.")
    if any(receipt.outcome == "done" for receipt in stored.receipts):
        raise PlanRefused("It was executed already, and a plan is executed once.")
    if stored.plan.expires < now():
        raise PlanRefused(f"It expired at {stored.plan.expires}.")


def _for_roster(app: App, roster: Roster | None, candidate: Roster, present: Signatory) -> Signatory:
    """Who says yes to another roster: whoever holds a key of the one to come, or is a member of the present one."""
    coming = personal_signer(msgspec.structs.replace(app.settings, identity=""), candidate)
    if coming is not None:
        return Signatory(coming[0], coming[1], roster.version if roster else 0)
    if roster is None or member(roster, present.name) is None:
        raise SignatureRefused(f"{present.name} is on neither roster.")
    return present


def _sign(signatory: Signatory, plan: Plan, name: str, state: State) -> Signature:
    return signatory.sign(KIND, statement(_content(plan), name, state.head))


def _signatures(app: App, stored: StoredPlan, state: State) -> tuple[Signature, ...]:
    """The signatures of a plan that hold for the place that it would take, its author's first."""
    value = statement(_content(stored.plan), stored.digest, state.head)
    keys = _keys(app, stored.plan, state)
    given = [signature for _, signature in permission.approvals(app.ledger, stored.digest)]
    return tuple(one for one in given if any(is_signed(public_key(pem), KIND, value, one) for pem in keys))


def _keys(app: App, plan: Plan, state: State) -> list[str]:
    """The keys whose signatures can mean something for a plan."""
    content = _content(plan)
    members = list(state.roster.members if state.roster else ())
    members += content.members if isinstance(content, Roster) else ()
    recovery = [state.roster.recovery] if state.roster and state.roster.recovery else []
    return [*(known.key for known in members), *recovery, own_home_key(app.settings)]


def _waits_for(app: App, stored: StoredPlan, state: State) -> tuple[str, ...]:
    """Who could say yes where somebody still must."""
    signatures = _signatures(app, stored, state)
    return lacking(state, _content(stored.plan), stored.digest, signatures, own_home_key(app.settings))


def _carry_out(app: App, plan: Plan, name: str, state: State, signatures: Sequence[Signature]) -> None:
    content, signed = _content(plan), tuple(signatures)
    # Nothing is written that could not be read again.
    if lacking(state, content, name, signed, own_home_key(app.settings)):
        raise ApprovalMissing("(its signatures do not suffice)")
    at, by = now(), app.recorder.by
    shared: dict[str, Any] = {"at": at, "by": by, "plan": name, "previous": state.head, "signatures": signed}
    reach = reach_of(app, tuple(content.mentions)) if isinstance(content, Deletion) else None
    if reach is not None:  # and not what the plan's author says of it
        check_caps(app, reach.bytes, Decimal(reach.replaceability.usd))
    with executing(app.recorder, plan, plan.facts) as result:
        match content:
            case Roster():
                what = str(plan.does["what"])
                app.recorder.record(facts.RosterChanged(roster=content, change=what, **shared))
                publish_keys(app.settings, content)
                result.update({"version": content.version, "change": what})
            case AccessChange():
                app.recorder.record(facts.AccessChanged(change=content, **shared))
                result.update({"change": content.id, "signed by": [signature.by for signature in signed]})
            case Waiver():
                app.recorder.record(facts.WaiverGiven(waiver=content, **shared))
                result.update({"waiver": content.id, "signed by": [signature.by for signature in signed]})
            case HoldRelease():
                app.recorder.record(facts.HoldReleased(release=content, **shared))
                result.update({"released": content.hold, "signed by": [signature.by for signature in signed]})
            case Erasure():
                app.recorder.record(facts.Erased(erasure=content, **shared))
                app.recorder.refresh()
                keep_head(app.settings, digest(Entry(content, name, state.head, signed)))
                finish(app)
                result.update({"erased": content.source, "signed by": [signature.by for signature in signed]})
            case Deletion():
                assert reach is not None
                app.recorder.record(facts.Deleted(deletion=content, **shared))
                keep_head(app.settings, digest(Entry(content, name, state.head, signed)))
                discard(app, reach.objects, f"deletion {content.id}")
                recover_named(app)  # whoever named something meanwhile gets it back
                result.update({"deletion": content.id, "objects": len(reach.objects), "bytes": reach.bytes})
                result.update({"signed by": [signature.by for signature in signed]})
        app.recorder.refresh()
        keep_head(app.settings, digest(Entry(content, name, state.head, signed)))
    app.reload_policy()
