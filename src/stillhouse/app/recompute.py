"""What a plan would do as it is found now, for whoever is asked to agree to it: its author's words are nobody's evidence."""

from typing import Any

import msgspec

from stillhouse.app.access import impact_now
from stillhouse.app.acts import DELETE, ERASE, GRANT, RELEASE, REVOKE, ROSTER, WAIVE, differences
from stillhouse.app.deletion import impact_of_reach
from stillhouse.app.home import App
from stillhouse.app.permission import load
from stillhouse.app.policy import lifted_by
from stillhouse.app.reach import reach_of, reach_of_source
from stillhouse.app.references import active_holds
from stillhouse.identity.roster import change_between
from stillhouse.nouns import AccessChange, Plan, Roster, Waiver


def recompute(app: App, plan: Plan) -> dict[str, Any]:
    """What a plan for an act would do, and where that is not what its author wrote.

    Empty for plans that nobody is asked to agree to. Raises UnknownName, UsageError, CorruptObject.
    """
    about, impact = _found(app, plan)
    if not about and not impact:
        return {}
    written = plan.impact or {}
    # What it reaches may have grown since it was written: that is shown, and refuses nothing.
    otherwise = [
        f"{name}: it says {written[name]}, and it is {impact[name]}"
        for name in written
        if name in impact and impact[name] != written[name]
    ]
    return {**about, **impact, "differs from what it says": [*differences(app, plan), *otherwise]}


def _found(app: App, plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a plan is about, and what its author must have written as its impact."""
    about: dict[str, Any] = {}
    impact: dict[str, Any] = {}
    if plan.kind in (DELETE, ERASE):
        erased = plan.does.get("erasure", {}).get("source")
        reach = reach_of_source(app, erased) if erased else reach_of(app, tuple(plan.does["deletion"]["mentions"]))
        about, impact = {"subjects": list(reach.subjects)}, impact_of_reach(app, reach)
    elif plan.kind == RELEASE:
        held = [one for one in active_holds(app) if one.hold == plan.does["release"]["hold"]]
        about = {"subjects": [one.subject for one in held], "held because": [one.reason for one in held]}
    elif plan.kind == ROSTER:
        present = load(app.ledger, app.settings).state.roster
        about = {"what": change_between(present, msgspec.convert(plan.does["roster"], Roster))}
    elif plan.kind in (GRANT, REVOKE):
        impact = msgspec.structs.asdict(impact_now(app, msgspec.convert(plan.does["change"], AccessChange)))
    elif plan.kind == WAIVE:
        impact = {"records": lifted_by(app, msgspec.convert(plan.does["waiver"], Waiver))}
    return about, msgspec.json.decode(msgspec.json.encode(impact))  # as it is stored, to be compared with what is
