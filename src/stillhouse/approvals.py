"""Say yes to plans of others, look at what they would do, and execute them: for every kind of act there is."""

from typing import Any

import msgspec

from stillhouse.access.grants import ACCESS
from stillhouse.access.people import ROSTERS
from stillhouse.access.policy_adoption import ADOPTIONS
from stillhouse.access.policy_questions import WAIVERS
from stillhouse.clock import now
from stillhouse.compute.lent_gpus import LEASES
from stillhouse.custody.deletion.deletion import DELETIONS, ERASURES, RELEASES
from stillhouse.datasets.lifted_matches import NOT_COPIES
from stillhouse.errors import ApprovalMissing, ForgedEntry, PlanRefused, SignatureRefused, StillhouseError, UnknownName
from stillhouse.home import facts, proposals
from stillhouse.home.current_permission import KEYS, load, own_home_key, own_signatory
from stillhouse.home.ledger import permission_queries, plan_queries
from stillhouse.home.ledger.plan_queries import StoredPlan
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import plan_digest
from stillhouse.home.proposals import Handling, Proposed
from stillhouse.nouns import Plan, Signature
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.chain import KIND, lacking, statement
from stillhouse.permission.signatures import HOME, Signatory, is_signed
from stillhouse.permission.signing_keys import home_signer, public_key
from stillhouse.teachers.register import REGISTRATIONS

_ALL: tuple[Handling[Any], ...] = (
    ROSTERS, ACCESS, WAIVERS, ADOPTIONS, REGISTRATIONS, NOT_COPIES, DELETIONS, ERASURES, RELEASES, LEASES,
)  # fmt: skip
HANDLINGS = {kind: handling for handling in _ALL for kind in handling.kinds}


def propose(home: Home, plan: Plan) -> Proposed:
    """Write a plan down, and execute it where nobody else must say yes. Raises like ``acts.propose``."""
    return proposals.propose(home, HANDLINGS[plan.kind], plan)


def submit(home: Home, plan: Plan) -> Proposed:
    """Write a plan down, and no more. Raises like ``acts.propose``."""
    return proposals.submit(home, HANDLINGS[plan.kind], plan)


def approve(home: Home, start: str) -> Proposed:
    """Say yes to a plan, as whoever signs now. Raises SignatureRefused, PlanRefused, UnknownName."""
    stored = find(home, start)
    handling = _open(stored)
    state = load(home.ledger, home.settings).state
    proposals.check_rests_on(home, handling, stored.plan, state)
    _check_says(home, handling, stored.plan)
    content = handling.read(stored.plan)
    signatory = handling.approver(home, state, content, _as_whom(home, handling))
    signature = proposals.sign(signatory, content, stored.digest, state)
    home.recorder.record(facts.PlanApproved(at=now(), by=home.recorder.by, plan=stored.digest, signature=signature))
    home.recorder.refresh()
    return Proposed(stored.plan, stored.digest, False, _waits_for(home, handling, stored, state))


def _as_whom(home: Home, handling: Handling[Any]) -> Signatory:
    """Who says yes. Somebody whom a roster is to enrol is on none yet, whatever name is set. Raises SignatureRefused."""
    try:
        return own_signatory(home.ledger, home.settings)
    except SignatureRefused:
        if handling is not ROSTERS:
            raise
        return Signatory(HOME, home_signer(home.settings.home / KEYS), 0)


def execute(home: Home, start: str) -> Proposed:
    """Carry a plan out that waited for approvals. Raises ApprovalMissing, PlanRefused, UnknownName."""
    stored = find(home, start)
    handling = _open(stored)
    with proposals.locked(home):
        home.recorder.refresh()
        state = load(home.ledger, home.settings).state
        proposals.check_rests_on(home, handling, stored.plan, state)
        _check_says(home, handling, stored.plan)
        waits_for = _waits_for(home, handling, stored, state)
        if waits_for:
            raise ApprovalMissing(f"(one of {', '.join(waits_for)})")
        proposals.carry_out(home, handling, stored.plan, state, _signatures(home, handling, stored, state))
    return Proposed(stored.plan, stored.digest, True, ())


def find(home: Home, start: str) -> StoredPlan:
    """A plan by its digest or the first characters of it. Raises UnknownName, ForgedEntry."""
    wanted = start if start.startswith("blake3:") else f"blake3:{start}"
    found = [stored for stored in plan_queries.plans(home.ledger) if stored.digest.startswith(wanted)]
    if len(found) != 1:
        raise UnknownName(f"{'Several plans begin' if found else 'No plan begins'} with {start!r}.")
    if plan_digest(found[0].plan) != found[0].digest:
        raise ForgedEntry(f"(the contents of plan {found[0].digest} do not match its digest)")
    return found[0]


def outcomes(home: Home) -> list[tuple[StoredPlan, str]]:
    """Every plan, and what became of it: its outcome, or why nothing did yet. A void one rests on what has changed since."""
    state, moment = load(home.ledger, home.settings).state, now()
    return [(stored, _outcome(home, stored, state, moment)) for stored in plan_queries.plans(home.ledger)]


def _outcome(home: Home, stored: StoredPlan, state: ChainState, moment: str) -> str:
    if stored.receipts:
        return ", ".join(receipt.outcome for receipt in stored.receipts)
    if stored.plan.expires < moment:
        return "expired"
    try:
        if stored.plan.kind in HANDLINGS:
            proposals.check_rests_on(home, HANDLINGS[stored.plan.kind], stored.plan, state)
    except StillhouseError:  # or what it names cannot be read any more
        return "void"
    return "waits"


def recompute(home: Home, plan: Plan) -> dict[str, Any]:
    """What a plan for an act would do, and where that is not what its author wrote: the author's words are nobody's evidence.

    Empty for plans that nobody is asked to agree to. Raises UnknownName, UsageError, CorruptObject.
    """
    if plan.kind not in HANDLINGS:
        return {}
    handling = HANDLINGS[plan.kind]
    content = handling.read(plan)
    found = handling.found(home, content)
    # As it is stored, to be compared with what is.
    impact, written = msgspec.json.decode(msgspec.json.encode(found.impact)), plan.impact or {}
    if not found.about and not impact:
        return {}
    # What it reaches may have grown since it was written: that is shown, and refuses nothing.
    otherwise = [
        line for name in written if name in impact for line in proposals.unlike(name, written[name], impact[name])
    ]
    wrong = [*handling.differences(home, plan, content), *otherwise]
    return {**found.about, **impact, "differs from what it says": wrong}


def _check_says(home: Home, handling: Handling[Any], plan: Plan) -> None:
    content = handling.read(plan)
    wrong = handling.differences(home, plan, content)
    handling.found(home, content)  # what cannot be shown to whoever agrees is agreed to by nobody
    if wrong:
        raise PlanRefused(
            f"It does not say what it would do ({'; '.join(wrong)}).",
            next_step="`stillhouse plan show` has what was recomputed; make the plan again with the command that made it.",
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


def _signatures(home: Home, handling: Handling[Any], stored: StoredPlan, state: ChainState) -> tuple[Signature, ...]:
    """The signatures of a plan that hold for the place that it would take, its author's first."""
    content = handling.read(stored.plan)
    value = statement(content, stored.digest, state.head)
    members = [known.key for known in (state.roster.members if state.roster else ())]
    recovery = [state.roster.recovery] if state.roster and state.roster.recovery else []
    keys = [*members, *handling.keys(content), *recovery, own_home_key(home.settings)]
    given = [signature for _, signature in permission_queries.approvals(home.ledger, stored.digest)]
    return tuple(one for one in given if any(is_signed(public_key(pem), KIND, value, one) for pem in keys))


def _waits_for(home: Home, handling: Handling[Any], stored: StoredPlan, state: ChainState) -> tuple[str, ...]:
    """Who could say yes where somebody still must."""
    signatures = _signatures(home, handling, stored, state)
    return lacking(state, handling.read(stored.plan), stored.digest, signatures, own_home_key(home.settings))
