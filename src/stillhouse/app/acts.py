"""Acts that need a signature, and some of them a second one: propose, approve, execute.

A proposal is a plan in the log. What needs nobody else's yes is executed at once; the rest waits for `plan approve` by others and
`plan execute`. Every approval is over the plan's digest, or for the roster over the roster itself, so that it is worth nothing
for another plan; executing checks signatures, facts and expiry anew, and happens once.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.app.permission import (
    CHANGE,
    PLAN,
    WAIVER,
    approved,
    current_roster,
    governor,
    own_signatory,
    personal_signer,
    publish_keys,
)
from stillhouse.canon import digest_value
from stillhouse.errors import ApprovalMissing, PlanRefused, SignatureRefused, UnknownName
from stillhouse.identity.keys import public_key
from stillhouse.identity.roster import KIND, accept, holders, lacking, member
from stillhouse.identity.signatures import Signatory, is_signed
from stillhouse.ledger import permission, queries
from stillhouse.ledger.queries import StoredPlan
from stillhouse.nouns import AccessChange, Plan, Role, Roster, Signature, Waiver
from stillhouse.plans.plan import executing, make_plan, plan_digest
from stillhouse.recorder import now

ROSTER, GRANT, REVOKE, WAIVE = "change-roster", "grant", "revoke", "waive"
_LOCK = "permission"


class Proposed(NamedTuple):
    """What came of a proposal: its plan, whether it was executed, and who could still say yes."""

    plan: Plan
    digest: str
    done: bool
    waits_for: tuple[str, ...]


def facts_now(app: App) -> str:
    """What every act of permission rests on: who is on the roster, and all that was granted, revoked and waived before."""
    roster = current_roster(app.ledger)
    changes = [stored.change.id for stored in permission.access_changes(app.ledger)]
    waivers = [stored.waiver.id for stored in permission.waivers(app.ledger)]
    return digest_value([roster, changes, waivers])


def plan_act(app: App, kind: str, subject: str, does: dict[str, Any], impact: dict[str, Any] | None = None) -> Plan:
    """An act as a plan; nothing is done. Grants and waivers need a second person where there is one."""
    roster = current_roster(app.ledger)
    needed = 0
    if kind in (GRANT, WAIVE) and roster is not None:
        signatory = own_signatory(app.ledger, app.settings)
        needed = int(any(known.name != signatory.name for known in holders(roster, Role.APPROVER)))
    return make_plan(kind, subject, does, (), Decimal(0), facts_now(app), approvals=needed, impact=impact)


def propose(app: App, plan: Plan, *sign_as: Signatory) -> Proposed:
    """Write a plan down with its author's signature, and execute it where nobody else must say yes. Raises SignatureRefused."""
    authors = sign_as or (governor(app.ledger, app.settings),)
    digest = plan_digest(plan)
    with app.alone(_LOCK):
        at, by = now(), app.recorder.by
        signed = [
            facts.PlanApproved(at=at, by=by, plan=digest, signature=_sign(author, plan, digest)) for author in authors
        ]
        app.recorder.record(facts.PlanMade(at=at, by=by, digest=digest, plan=plan), *signed)
        app.recorder.refresh()
        waits_for = _waits_for(app, plan, digest)
        if waits_for:
            return Proposed(plan, digest, False, waits_for)
        _carry_out(app, plan, digest)
    return Proposed(plan, digest, True, ())


def approve(app: App, start: str) -> Proposed:
    """Say yes to a plan, as whoever signs now. Raises SignatureRefused, PlanRefused, UnknownName."""
    stored = find(app, start)
    _check_open(stored)
    signatory = own_signatory(app.ledger, app.settings)
    roster = current_roster(app.ledger)
    who = member(roster, signatory.name) if roster else None
    if stored.plan.kind == ROSTER:
        signatory = _for_roster(app, msgspec.convert(stored.plan.does["roster"], Roster), signatory)
    elif who is None or Role.APPROVER not in who.roles:
        raise SignatureRefused(f"{signatory.name} has not the role {Role.APPROVER}.")
    signature = _sign(signatory, stored.plan, stored.digest)
    entry = facts.PlanApproved(at=now(), by=app.recorder.by, plan=stored.digest, signature=signature)
    app.recorder.record(entry)
    app.recorder.refresh()
    return Proposed(stored.plan, stored.digest, False, _waits_for(app, stored.plan, stored.digest))


def _for_roster(app: App, candidate: Roster, present: Signatory) -> Signatory:
    """Who says yes to another roster: a member of the present one, or whoever holds a key of the one to come."""
    roster = current_roster(app.ledger)
    if roster is not None and member(roster, present.name) is not None:
        return present
    coming = personal_signer(app.settings, candidate)
    if coming is None:
        raise SignatureRefused(f"{present.name} is on neither roster.")
    return Signatory(coming[0], coming[1], roster.version if roster else 0)


def execute(app: App, start: str) -> Proposed:
    """Carry a plan out that waited for approvals. Raises ApprovalMissing, PlanRefused, UnknownName."""
    stored = find(app, start)
    _check_open(stored)
    with app.alone(_LOCK):
        waits_for = _waits_for(app, stored.plan, stored.digest)
        if waits_for:
            raise ApprovalMissing(f"(one of {', '.join(waits_for)})")
        _carry_out(app, stored.plan, stored.digest)
    return Proposed(stored.plan, stored.digest, True, ())


def find(app: App, start: str) -> StoredPlan:
    """A plan by its digest or the first characters of it. Raises UnknownName."""
    wanted = start if start.startswith("blake3:") else f"blake3:{start}"
    found = [stored for stored in queries.plans(app.ledger) if stored.digest.startswith(wanted)]
    if len(found) != 1:
        raise UnknownName(f"{'Several plans begin' if found else 'No plan begins'} with {start!r}.")
    return found[0]


def _check_open(stored: StoredPlan) -> None:
    if stored.plan.kind not in _CARRY:
        raise PlanRefused(f"A plan to {stored.plan.kind} is executed by the command that made it.")
    if any(receipt.outcome == "done" for receipt in stored.receipts):
        raise PlanRefused("It was executed already, and a plan is executed once.")
    if stored.plan.expires < now():
        raise PlanRefused(f"It expired at {stored.plan.expires}.")


def _sign(signatory: Signatory, plan: Plan, digest: str) -> Signature:
    if plan.kind == ROSTER:
        return signatory.sign(KIND, msgspec.convert(plan.does["roster"], Roster))
    return signatory.sign(PLAN, approved(digest, _content(plan)))


def _content(plan: Plan) -> Any:
    return plan.does.get("change") or plan.does.get("waiver")


def _approvals(app: App, plan: Plan, digest: str) -> tuple[Signature, ...]:
    """The approvals of a plan that hold: by members of the roster in force, over this plan."""
    roster = current_roster(app.ledger)
    signatures = [signature for _, signature in permission.approvals(app.ledger, digest)]
    if plan.kind == ROSTER or roster is None:
        return tuple(signatures)
    keys = {known.name: public_key(known.key) for known in roster.members}
    return tuple(
        signature
        for signature in signatures
        if signature.by in keys and is_signed(keys[signature.by], PLAN, approved(digest, _content(plan)), signature)
    )


def _waits_for(app: App, plan: Plan, digest: str) -> tuple[str, ...]:
    """Who could say yes where somebody still must."""
    roster = current_roster(app.ledger)
    signatures = _approvals(app, plan, digest)
    if plan.kind == ROSTER:
        return lacking(roster, msgspec.convert(plan.does["roster"], Roster), signatures)
    if roster is None or not plan.approvals_needed:
        return ()
    author = signatures[0].by if signatures else ""
    approvers = {known.name for known in holders(roster, Role.APPROVER)} - {author}
    given = approvers & {signature.by for signature in signatures}
    return () if len(given) >= plan.approvals_needed else tuple(sorted(approvers - given))


def _carry_out(app: App, plan: Plan, digest: str) -> None:
    with executing(app.recorder, plan, facts_now(app)) as result:
        result.update(_CARRY[plan.kind](app, plan, digest))
        app.recorder.refresh()
    app.reload_policy()


def _carry_roster(app: App, plan: Plan, digest: str) -> dict[str, Any]:
    candidate = msgspec.convert(plan.does["roster"], Roster)
    signatures = _approvals(app, plan, digest)
    accept(current_roster(app.ledger), candidate, signatures)
    change = str(plan.does["what"])
    app.recorder.record(
        facts.RosterChanged(at=now(), by=app.recorder.by, roster=candidate, change=change, signatures=signatures)
    )
    publish_keys(app.settings, candidate)
    return {"version": candidate.version, "change": change}


def _carry_change(app: App, plan: Plan, digest: str) -> dict[str, Any]:
    change = msgspec.convert(plan.does["change"], AccessChange)
    signatory = governor(app.ledger, app.settings)
    known = permission.access_changes(app.ledger)
    entry = facts.AccessChanged(
        at=now(),
        by=app.recorder.by,
        change=change,
        plan=digest,
        previous=permission.chain_digest(known[-1]) if known else "",
        signature=signatory.sign(CHANGE, [change, digest]),
    )
    app.recorder.record(entry)
    return {"change": change.id, "signed by": signatory.name}


def _carry_waiver(app: App, plan: Plan, digest: str) -> dict[str, Any]:
    waiver = msgspec.convert(plan.does["waiver"], Waiver)
    signatory = governor(app.ledger, app.settings)
    signature = signatory.sign(WAIVER, [waiver, digest])
    app.recorder.record(
        facts.WaiverGiven(at=now(), by=app.recorder.by, waiver=waiver, plan=digest, signature=signature)
    )
    return {"waiver": waiver.id, "signed by": signatory.name}


_CARRY: dict[str, Callable[[App, Plan, str], dict[str, Any]]] = {
    ROSTER: _carry_roster,
    GRANT: _carry_change,
    REVOKE: _carry_change,
    WAIVE: _carry_waiver,
}
