"""Delete, hold, release, undo: always as a plan, never at once, never what is held, and never for good."""

from decimal import Decimal
from typing import Any

import msgspec

from stillhouse import facts
from stillhouse.app.acts import Found, Handling, Proposed, Written, plan_act, submit, unlike
from stillhouse.app.erasure import finish
from stillhouse.app.home import App
from stillhouse.app.permission import load
from stillhouse.app.protection import copies_with, kept_since
from stillhouse.app.reach import Reach, check_caps, node_of, reach_of, reach_of_source
from stillhouse.app.references import active_holds, named_objects, surely_named_objects
from stillhouse.app.trash import discard, recover_named
from stillhouse.canon import digest_value
from stillhouse.errors import CorruptObject, Held, UnknownName
from stillhouse.ledger import custody
from stillhouse.nouns import Deletion, Erasure, HoldRelease, Plan
from stillhouse.recorder import now

DELETE, RELEASE, ERASE = "delete", "release-hold", "erase"
_SHORTEST = 6


class _Deletions(Handling[Deletion]):
    kinds, name, content = (DELETE,), "deletion", Deletion

    def rests_on(self, app: App, content: Deletion) -> tuple[str, ...]:
        return (reach_of(app, tuple(content.mentions)).digest,)

    def differences(self, app: App, plan: Plan, content: Deletion) -> list[str]:
        reach = reach_of(app, tuple(content.mentions))
        said = {
            "subject": (plan.subject, ", ".join(reach.subjects)),
            "mentions": (dict(content.mentions), reach.mentions),
            "objects": (content.objects, len(reach.objects)),
            "bytes": (content.bytes, reach.bytes),
            "usd": (content.usd, reach.replaceability.usd),
        }
        return [line for name, (says, found) in said.items() for line in unlike(name, says, found)]

    def found(self, app: App, content: Deletion) -> Found:
        return _found(app, reach_of(app, tuple(content.mentions)))

    def prepare(self, app: App, content: Deletion) -> Reach:
        """What it reaches, within the caps: by what is found, and not by what the plan's author says of it."""
        reach = reach_of(app, tuple(content.mentions))
        check_caps(app, reach.bytes, Decimal(reach.replaceability.usd))
        return reach

    def carry_out(self, plan: Plan, content: Deletion, written: Written, prepared: Reach) -> dict[str, Any]:
        app = written.app
        app.recorder.record(facts.Deleted(deletion=content, **written.shared))
        written.keep()
        discard(app, prepared.objects, f"deletion {content.id}")
        recover_named(app)  # whoever named something meanwhile gets it back
        done = {"deletion": content.id, "objects": len(prepared.objects), "bytes": prepared.bytes}
        return {**done, "signed by": written.signed_by}


class _Erasures(Handling[Erasure]):
    kinds, name, content = (ERASE,), "erasure", Erasure

    def rests_on(self, app: App, content: Erasure) -> tuple[str, ...]:
        return (reach_of_source(app, content.source).digest,)

    def differences(self, app: App, plan: Plan, content: Erasure) -> list[str]:
        known = custody.erasure_keys(app.ledger).get(content.key)
        whose = ", ".join((known.source, *known.others)) if known else "no source"
        return unlike("key of", content.source, whose) + unlike("subject", plan.subject, content.source)

    def found(self, app: App, content: Erasure) -> Found:
        return _found(app, reach_of_source(app, content.source))

    def carry_out(self, plan: Plan, content: Erasure, written: Written, prepared: Any) -> dict[str, Any]:
        written.app.recorder.record(facts.Erased(erasure=content, **written.shared))
        written.app.recorder.refresh()
        written.keep()
        finish(written.app)
        return {"erased": content.source, "signed by": written.signed_by}


class _Releases(Handling[HoldRelease]):
    kinds, name, content = (RELEASE,), "release", HoldRelease

    def differences(self, app: App, plan: Plan, content: HoldRelease) -> list[str]:
        held = {one.subject for one in _held(app, content)}  # one name, however often forged
        return unlike("subject", plan.subject, ", ".join(sorted(held)) or "no hold that is in force")

    def found(self, app: App, content: HoldRelease) -> Found:
        held = _held(app, content)
        return Found({"subjects": [one.subject for one in held], "held because": [one.reason for one in held]}, {})

    def carry_out(self, plan: Plan, content: HoldRelease, written: Written, prepared: Any) -> dict[str, Any]:
        written.app.recorder.record(facts.HoldReleased(release=content, **written.shared))
        return {"released": content.hold, "signed by": written.signed_by}


DELETIONS, ERASURES, RELEASES = _Deletions(), _Erasures(), _Releases()


def _found(app: App, reach: Reach) -> Found:
    return Found({"subjects": list(reach.subjects)}, impact_of_reach(app, reach))


def _held(app: App, content: HoldRelease) -> list[facts.HoldPlaced]:
    return [one for one in active_holds(app) if one.hold == content.hold]


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
    return plan_act(app, DELETIONS, DELETE, ", ".join(reach.subjects), does, impact_of_reach(app, reach))


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
    return plan_act(app, ERASURES, ERASE, source, does, impact)


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
    deletions = load(app.ledger, app.settings).state.of(Deletion)
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
    plan = plan_act(app, RELEASES, RELEASE, found[0].subject, {"release": content}, {"hold": found[0].reason})
    return submit(app, RELEASES, plan)
