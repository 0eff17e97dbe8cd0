"""Say yes to plans of others, look at what they would do, and execute them: for every kind of act there is."""

from typing import Any

import msgspec

from stillhouse import facts
from stillhouse.app import acts
from stillhouse.app.access import ACCESS
from stillhouse.app.acts import Handling, Proposed
from stillhouse.app.deletion import DELETIONS, ERASURES, RELEASES
from stillhouse.app.home import App
from stillhouse.app.people import ROSTERS
from stillhouse.app.permission import load, own_home_key, own_signatory
from stillhouse.app.policy import WAIVERS
from stillhouse.errors import ApprovalMissing, ForgedEntry, PlanRefused, UnknownName
from stillhouse.identity.acts.base import State
from stillhouse.identity.chain import KIND, lacking, statement
from stillhouse.identity.keys import public_key
from stillhouse.identity.signatures import is_signed
from stillhouse.ledger import permission, queries
from stillhouse.ledger.queries import StoredPlan
from stillhouse.nouns import Plan, Signature
from stillhouse.plans.plan import plan_digest
from stillhouse.recorder import now

_ALL: tuple[Handling[Any], ...] = (ROSTERS, ACCESS, WAIVERS, DELETIONS, ERASURES, RELEASES)
HANDLINGS = {kind: handling for handling in _ALL for kind in handling.kinds}


def propose(app: App, plan: Plan) -> Proposed:
    """Write a plan down, and execute it where nobody else must say yes. Raises like ``acts.propose``."""
    return acts.propose(app, HANDLINGS[plan.kind], plan)


def submit(app: App, plan: Plan) -> Proposed:
    """Write a plan down, and no more. Raises like ``acts.propose``."""
    return acts.submit(app, HANDLINGS[plan.kind], plan)


def approve(app: App, start: str) -> Proposed:
    """Say yes to a plan, as whoever signs now. Raises SignatureRefused, PlanRefused, UnknownName."""
    stored = find(app, start)
    handling = _open(stored)
    state = load(app.ledger, app.settings).state
    acts.check_rests_on(app, handling, stored.plan, state)
    _check_says(app, handling, stored.plan)
    content = handling.read(stored.plan)
    signatory = handling.approver(app, state, content, own_signatory(app.ledger, app.settings))
    signature = acts.sign(signatory, content, stored.digest, state)
    app.recorder.record(facts.PlanApproved(at=now(), by=app.recorder.by, plan=stored.digest, signature=signature))
    app.recorder.refresh()
    return Proposed(stored.plan, stored.digest, False, _waits_for(app, handling, stored, state))


def execute(app: App, start: str) -> Proposed:
    """Carry a plan out that waited for approvals. Raises ApprovalMissing, PlanRefused, UnknownName."""
    stored = find(app, start)
    handling = _open(stored)
    with acts.locked(app):
        app.recorder.refresh()
        state = load(app.ledger, app.settings).state
        acts.check_rests_on(app, handling, stored.plan, state)
        _check_says(app, handling, stored.plan)
        waits_for = _waits_for(app, handling, stored, state)
        if waits_for:
            raise ApprovalMissing(f"(one of {', '.join(waits_for)})")
        acts.carry_out(app, handling, stored.plan, state, _signatures(app, handling, stored, state))
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


def recompute(app: App, plan: Plan) -> dict[str, Any]:
    """What a plan for an act would do, and where that is not what its author wrote: the author's words are nobody's evidence.

    Empty for plans that nobody is asked to agree to. Raises UnknownName, UsageError, CorruptObject.
    """
    if plan.kind not in HANDLINGS:
        return {}
    handling = HANDLINGS[plan.kind]
    content = handling.read(plan)
    found = handling.found(app, content)
    # As it is stored, to be compared with what is.
    impact, written = msgspec.json.decode(msgspec.json.encode(found.impact)), plan.impact or {}
    if not found.about and not impact:
        return {}
    # What it reaches may have grown since it was written: that is shown, and refuses nothing.
    otherwise = [line for name in written if name in impact for line in acts.unlike(name, written[name], impact[name])]
    wrong = [*handling.differences(app, plan, content), *otherwise]
    return {**found.about, **impact, "differs from what it says": wrong}


def _check_says(app: App, handling: Handling[Any], plan: Plan) -> None:
    wrong = handling.differences(app, plan, handling.read(plan))
    if wrong:
        raise PlanRefused(
            f"It does not say what it would do ({'; '.join(wrong)}).",
            next_step="`stillhouse plan show` has what was recomputed; make the plan anew with the command that made it.",
        )


def _open(stored: StoredPlan) -> Handling[Any]:
    """Who handles a plan that can still be executed. Raises PlanRefused."""
    if stored.plan.kind not in HANDLINGS:
        raise PlanRefused(f"A plan to {stored.plan.kind} is executed by the command that made it.")
    if any(receipt.outcome == "done" for receipt in stored.receipts):
        raise PlanRefused("It was executed already, and a plan is executed once.")
    if stored.plan.expires < now():
        raise PlanRefused(f"It expired at {stored.plan.expires}.")
    return HANDLINGS[stored.plan.kind]


def _signatures(app: App, handling: Handling[Any], stored: StoredPlan, state: State) -> tuple[Signature, ...]:
    """The signatures of a plan that hold for the place that it would take, its author's first."""
    content = handling.read(stored.plan)
    value = statement(content, stored.digest, state.head)
    members = [known.key for known in (state.roster.members if state.roster else ())]
    recovery = [state.roster.recovery] if state.roster and state.roster.recovery else []
    keys = [*members, *handling.keys(content), *recovery, own_home_key(app.settings)]
    given = [signature for _, signature in permission.approvals(app.ledger, stored.digest)]
    return tuple(one for one in given if any(is_signed(public_key(pem), KIND, value, one) for pem in keys))


def _waits_for(app: App, handling: Handling[Any], stored: StoredPlan, state: State) -> tuple[str, ...]:
    """Who could say yes where somebody still must."""
    signatures = _signatures(app, handling, stored, state)
    return lacking(state, handling.read(stored.plan), stored.digest, signatures, own_home_key(app.settings))
