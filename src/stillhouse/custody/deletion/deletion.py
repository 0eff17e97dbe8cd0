"""Delete, hold, release, undo: always as a plan, never at once, never what is held, and never for good."""

from decimal import Decimal
from typing import Any

import msgspec

from stillhouse.canon import digest_value
from stillhouse.clock import now
from stillhouse.custody.copies.copy_records import copies_with, kept_since
from stillhouse.custody.deletion.deletion_impact import Reach, check_caps, node_of, reach_of, reach_of_source
from stillhouse.custody.deletion.trash import discard, recover_named
from stillhouse.custody.named_objects import active_holds, named_objects, surely_named_objects
from stillhouse.errors import CorruptObject, Held, UnknownName
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.erasable_sources import finish
from stillhouse.home.ledger import custody_queries
from stillhouse.home.open_home import Home
from stillhouse.home.policy_documents import in_force
from stillhouse.home.proposals import Findings, Handling, Proposed, Written, plan_act, submit, unlike
from stillhouse.nouns import Deletion, Erasure, HoldRelease, Plan

DELETE, RELEASE, ERASE = "delete", "release-hold", "erase"
_SHORTEST = 6


class _Deletions(Handling[Deletion]):
    kinds, name, content = (DELETE,), "deletion", Deletion

    def rests_on(self, home: Home, content: Deletion) -> tuple[str, ...]:
        return (reach_of(home, tuple(content.mentions)).digest,)

    def differences(self, home: Home, plan: Plan, content: Deletion) -> list[str]:
        reach = reach_of(home, tuple(content.mentions))
        said = {
            "subject": (plan.subject, ", ".join(reach.subjects)),
            "mentions": (dict(content.mentions), reach.mentions),
            "objects": (content.objects, len(reach.objects)),
            "bytes": (content.bytes, reach.bytes),
            "usd": (content.usd, reach.replaceability.usd),
        }
        return [line for name, (says, found) in said.items() for line in unlike(name, says, found)]

    def found(self, home: Home, content: Deletion) -> Findings:
        return _found(home, reach_of(home, tuple(content.mentions)))

    def prepare(self, home: Home, content: Deletion) -> Reach:
        """What it reaches, within the caps: by what is found, and not by what the plan's author says of it."""
        reach = reach_of(home, tuple(content.mentions))
        check_caps(home, reach.bytes, Decimal(reach.replaceability.usd))
        return reach

    def carry_out(self, plan: Plan, content: Deletion, written: Written, prepared: Reach) -> dict[str, Any]:
        home = written.home
        home.recorder.record(facts.Deleted(deletion=content, **written.shared))
        written.keep()
        discard(home, prepared.objects, f"deletion {content.id}")
        recover_named(home)  # whoever named something meanwhile gets it back
        done = {"deletion": content.id, "objects": len(prepared.objects), "bytes": prepared.bytes}
        return {**done, "signed by": written.signed_by}


class _Erasures(Handling[Erasure]):
    kinds, name, content = (ERASE,), "erasure", Erasure

    def rests_on(self, home: Home, content: Erasure) -> tuple[str, ...]:
        return (reach_of_source(home, content.source).digest,)

    def differences(self, home: Home, plan: Plan, content: Erasure) -> list[str]:
        known = custody_queries.erasure_keys(home.ledger).get(content.key)
        whose = ", ".join((known.source, *known.others)) if known else "no source"
        return unlike("key of", content.source, whose) + unlike("subject", plan.subject, content.source)

    def found(self, home: Home, content: Erasure) -> Findings:
        return _found(home, reach_of_source(home, content.source))

    def carry_out(self, plan: Plan, content: Erasure, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.Erased(erasure=content, **written.shared))
        written.home.recorder.refresh()
        written.keep()
        finish(written.home)
        return {"erased": content.source, "signed by": written.signed_by}


class _Releases(Handling[HoldRelease]):
    kinds, name, content = (RELEASE,), "release", HoldRelease

    def differences(self, home: Home, plan: Plan, content: HoldRelease) -> list[str]:
        held = {one.subject for one in _held(home, content)}  # one name, however often forged
        return unlike("subject", plan.subject, ", ".join(sorted(held)) or "no hold that is in force")

    def found(self, home: Home, content: HoldRelease) -> Findings:
        held = _held(home, content)
        return Findings({"subjects": [one.subject for one in held], "held because": [one.reason for one in held]}, {})

    def carry_out(self, plan: Plan, content: HoldRelease, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.HoldReleased(release=content, **written.shared))
        return {"released": content.hold, "signed by": written.signed_by}


DELETIONS, ERASURES, RELEASES = _Deletions(), _Erasures(), _Releases()


def _found(home: Home, reach: Reach) -> Findings:
    return Findings({"subjects": list(reach.subjects)}, impact_of_reach(home, reach))


def _held(home: Home, content: HoldRelease) -> list[facts.HoldPlaced]:
    return [one for one in active_holds(home) if one.hold == content.hold]


def plan_deletion(home: Home, subjects: list[str], reason: str) -> Plan:
    """A deletion as a plan: what goes, what depends on it, what it would cost to get back. Raises Held, UnknownName."""
    reach = reach_of(home, tuple(subjects))
    if reach.holds:
        raise Held("; ".join(f"{hold.subject}: {hold.reason} (hold {hold.hold})" for hold in reach.holds))
    check_caps(home, reach.bytes, Decimal(reach.replaceability.usd))
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
    return plan_act(home, DELETIONS, DELETE, ", ".join(reach.subjects), does, impact_of_reach(home, reach))


def plan_erasure(home: Home, source: str, reason: str) -> Plan:
    """The erasure of a source as a plan: what nobody can read any more, anywhere. Raises Held, UnknownName."""
    reach = reach_of_source(home, source)
    if reach.holds:
        raise Held("; ".join(f"{hold.subject}: {hold.reason} (hold {hold.hold})" for hold in reach.holds))
    key = custody_queries.keys_of_source(home.ledger, source)[0].key
    does = {"erasure": msgspec.to_builtins(Erasure(source=source, key=key, reason=reason))}
    impact = {
        **impact_of_reach(home, reach),
        "encrypted with its key": list(reach.subjects),
        "in every copy": True,
        "can be undone": False,
    }
    return plan_act(home, ERASURES, ERASE, source, does, impact)


def impact_of_reach(home: Home, reach: Reach) -> dict[str, object]:
    """What a deletion takes, what depends on it, where else it is, and what it would cost to get back."""
    kinds = ("dataset", "run", "model", "snapshot", "export")
    copies, unseen = copies_with(home, [node for node in kept_since(home) if node in reach.subjects], reach.objects)
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


def undo(home: Home, start: str) -> dict[str, Any]:
    """Make a deletion count no more, and get back what it put into the trash. Raises UnknownName, CorruptObject."""
    deletions = load(home.ledger, home.settings).state.of(Deletion)
    entries = {entry.entry.plan: entry.entry.content for entry in load(home.ledger, home.settings).acts}
    wanted = start.removeprefix("blake3:")
    found = [one for one in deletions if one.id.startswith(wanted)]
    found += [one for plan, one in entries.items() if plan[7:].startswith(wanted) and isinstance(one, Deletion)]
    if len({one.id for one in found}) != 1 or len(wanted) < _SHORTEST:
        raise UnknownName(f"No one deletion begins with {start!r}.", next_step="`stillhouse delete list` names them.")
    deletion = found[0]
    home.recorder.record(facts.DeletionUndone(at=now(), by=home.recorder.by, deletion=deletion.id))
    home.recorder.refresh()
    back = recover_named(home)
    named = surely_named_objects(home).objects
    gone = [
        digest for digest, nodes in named.items() if nodes & set(deletion.mentions) and not home.objects.exists(digest)
    ]
    if gone:
        raise CorruptObject(f"{len(gone)} of its objects left the trash for good, {gone[0]} among them.")
    return {"deletion": deletion.id, "subjects": sorted(deletion.mentions), "objects": back}


def hold(home: Home, subject: str, reason: str) -> str:
    """From now on a node cannot be deleted; returns the hold's name. Raises UnknownName."""
    # What cannot be read elsewhere must not hinder a hold.
    node = _pool(home, subject) or node_of(home, named_objects(home), subject)
    at = now()
    id = digest_value([node, reason, at])[7:19]
    home.recorder.record(facts.HoldPlaced(at=at, by=home.recorder.by, hold=id, subject=node, reason=reason))
    home.recorder.refresh()
    return id


def _pool(home: Home, subject: str) -> str:
    """A pool of GPUs, which can be held, too: then nobody from outside may use it. Empty for others. Raises UnknownName."""
    if not subject.startswith("pool:"):
        return ""
    pools = in_force(home.settings, load(home.ledger, home.settings).state, home.objects).fleet.pools
    if subject.partition(":")[2] not in pools:
        raise UnknownName(f"The fleet has no pool {subject[5:]!r}; there is: {', '.join(sorted(pools)) or 'none'}.")
    return subject


def release(home: Home, start: str, reason: str) -> Proposed:
    """Ask that a hold end: a second person must agree, where there is one. Raises UnknownName."""
    found = [one for one in active_holds(home) if one.hold.startswith(start)]
    if len(found) != 1:
        raise UnknownName(f"No one hold begins with {start!r}.", next_step="`stillhouse vault holds` names them.")
    content = msgspec.to_builtins(HoldRelease(hold=found[0].hold, reason=reason))
    plan = plan_act(home, RELEASES, RELEASE, found[0].subject, {"release": content}, {"hold": found[0].reason})
    return submit(home, RELEASES, plan)
