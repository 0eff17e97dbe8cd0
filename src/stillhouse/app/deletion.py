"""Delete, hold, release, undo: always as a plan, never at once, never what is held, and never for good."""

from decimal import Decimal
from typing import Any

import msgspec

from stillhouse import facts
from stillhouse.app.acts import DELETE, ERASE, RELEASE, Proposed, plan_act, submit
from stillhouse.app.home import App
from stillhouse.app.permission import load
from stillhouse.app.protection import copies_with, kept_since
from stillhouse.app.reach import Reach, check_caps, node_of, reach_of, reach_of_source
from stillhouse.app.references import active_holds, named_objects, surely_named_objects
from stillhouse.app.trash import recover_named
from stillhouse.canon import digest_value
from stillhouse.errors import CorruptObject, Held, UnknownName
from stillhouse.ledger import custody
from stillhouse.nouns import Deletion, Erasure, HoldRelease, Plan
from stillhouse.recorder import now

_SHORTEST = 6


def plan_deletion(app: App, subjects: list[str], reason: str) -> Plan:
    """A deletion as a plan: what goes, what depends on it, what it would cost to get back. Raises Held, UnknownName."""
    reach = reach_of(app, tuple(subjects))
    if reach.holds:
        raise Held("; ".join(f"{hold.subject}: {hold.reason} (hold {hold.hold})" for hold in reach.holds))
    check_caps(app, reach.bytes, Decimal(reach.replaceability.usd))
    id = digest_value([reach.subjects, reach.mentions, reason, now()])[7:19]
    deletion = Deletion(
        id=id,
        mentions=reach.mentions,
        objects=len(reach.objects),
        bytes=reach.bytes,
        usd=reach.replaceability.usd,
        reason=reason,
    )
    does = {"deletion": msgspec.to_builtins(deletion)}
    return plan_act(app, DELETE, ", ".join(reach.subjects), does, impact_of_reach(app, reach))


def plan_erasure(app: App, source: str, reason: str) -> Plan:
    """The erasure of a source as a plan: what nobody can read any more, anywhere. Raises Held, UnknownName."""
    reach = reach_of_source(app, source)
    if reach.holds:
        raise Held("; ".join(f"{hold.subject}: {hold.reason} (hold {hold.hold})" for hold in reach.holds))
    key = custody.keys_of_source(app.ledger, source)[0].key
    does = {"erasure": msgspec.to_builtins(Erasure(source=source, key=key, reason=reason))}
    impact = {
        **impact_of_reach(app, reach),
        "encrypted with its key": list(reach.subjects),
        "in every copy": True,
        "can be undone": False,
    }
    return plan_act(app, ERASE, source, does, impact)


def impact_of_reach(app: App, reach: Reach) -> dict[str, object]:
    """What a deletion takes, what depends on it, where else it is, and what it would cost to get back."""
    kinds = ("dataset", "run", "model", "snapshot", "export")
    copies, unseen = copies_with(app, [node for node in kept_since(app) if node in reach.subjects], reach.objects)
    return {
        "objects": len(reach.objects),
        "bytes": reach.bytes,
        "objects that others need, kept": reach.elsewhere,
        **{f"{kind}s": [node for node in reach.dependents if node.startswith(f"{kind}:")] for kind in kinds},
        "copies elsewhere": copies,
        "copies that could not be looked at": unseen,
        "last copy": bool(reach.objects) and not copies,
        "replaceability": msgspec.to_builtins(reach.replaceability),
    }


def undo(app: App, start: str) -> dict[str, Any]:
    """Make a deletion count no more, and get back what it put into the trash. Raises UnknownName, CorruptObject."""
    deletions = load(app.ledger, app.settings).state.deletions
    entries = {entry.entry.plan: entry.entry.content for entry in load(app.ledger, app.settings).acts}
    wanted = start.removeprefix("blake3:")
    found = [one for one in deletions if one.id.startswith(wanted)]
    found += [one for plan, one in entries.items() if plan[7:].startswith(wanted) and isinstance(one, Deletion)]
    if len({one.id for one in found}) != 1 or len(wanted) < _SHORTEST:
        raise UnknownName(f"No one deletion begins with {start!r}.", next_step="`stillhouse delete list` names them.")
    deletion = found[0]
    app.recorder.record(facts.DeletionUndone(at=now(), by=app.recorder.by, deletion=deletion.id))
    app.recorder.refresh()
    back = recover_named(app)
    named = surely_named_objects(app).objects
    gone = [
        digest for digest, nodes in named.items() if nodes & set(deletion.mentions) and not app.objects.exists(digest)
    ]
    if gone:
        raise CorruptObject(f"{len(gone)} of its objects left the trash for good, {gone[0]} among them.")
    return {"deletion": deletion.id, "subjects": sorted(deletion.mentions), "objects": back}


def hold(app: App, subject: str, reason: str) -> str:
    """From now on a node stays, whoever says otherwise; returns the hold's name. Raises UnknownName."""
    node, at = node_of(app, named_objects(app), subject), now()  # what cannot be read elsewhere must not hinder a hold
    id = digest_value([node, reason, at])[7:19]
    app.recorder.record(facts.HoldPlaced(at=at, by=app.recorder.by, hold=id, subject=node, reason=reason))
    app.recorder.refresh()
    return id


def release(app: App, start: str, reason: str) -> Proposed:
    """Ask that a hold end: a second person must agree, where there is one. Raises UnknownName."""
    found = [one for one in active_holds(app) if one.hold.startswith(start)]
    if len(found) != 1:
        raise UnknownName(f"No one hold begins with {start!r}.", next_step="`stillhouse vault holds` names them.")
    content = msgspec.to_builtins(HoldRelease(hold=found[0].hold, reason=reason))
    return submit(app, plan_act(app, RELEASE, found[0].subject, {"release": content}, {"hold": found[0].reason}))
