"""Grant, revoke, look at what that reaches, open or close the gate for a job, and train again without what was revoked."""

import gzip
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from stillhouse import facts
from stillhouse.access.changes import make_change
from stillhouse.access.egress import Egress, compare, read_lines
from stillhouse.access.gate import Gated, look_at
from stillhouse.access.impact import Impact, as_json, denied_by_revocation, impact_of
from stillhouse.access.loader import StampGate
from stillhouse.app.acts import GRANT, REVOKE, plan_act
from stillhouse.app.home import App
from stillhouse.app.permission import own_signatory
from stillhouse.canon import digest_file
from stillhouse.errors import UsageError
from stillhouse.ledger import permission, queries
from stillhouse.nouns import AccessChange, Plan, Use
from stillhouse.policy.decide import Policy
from stillhouse.recorder import now
from stillhouse.teachers.register import DEFAULT_BASE_URLS


class Change(NamedTuple):
    """A grant or a revocation that was thought through: its plan, and what it would reach."""

    plan: Plan
    impact: Impact


def plan_change(app: App, draft: AccessChange, document: Path | None) -> Change:
    """What a grant or a revocation would do; nothing is done. Raises UsageError, UnknownName."""
    if document is not None:
        try:
            draft = msgspec.structs.replace(draft, document=digest_file(document))
        except OSError as failure:
            raise UsageError(f"{document} cannot be read: {failure.strerror}.") from failure
    known = [stored.change for stored in permission.access_changes(app.ledger)]
    change = make_change(draft, known)
    before = app.policy
    policy = Policy(before.organisation, before.registry, before.rules, (*known, change), before.waivers, app.today)
    reversed_ = next((earlier for earlier in known if earlier.id == change.reverses), None)
    about = reversed_ or change
    found = impact_of(app.ledger, before if reversed_ else policy, about, app.settings.home)
    if reversed_ is not None:
        found = msgspec.structs.replace(found, usable={}, retrain=(), irreplaceable=0)
    kind = GRANT if change.kind == "grant" else REVOKE
    does = {"change": msgspec.to_builtins(change)}
    return Change(plan_act(app, kind, change.lab, does, as_json(found)), found)


def list_changes(app: App) -> list[dict[str, Any]]:
    """Grants and revocations, who signed them, and whether they are in force."""
    stored = permission.access_changes(app.ledger)
    void = {one.change.reverses for one in stored}
    return [
        {
            **msgspec.to_builtins(one.change),
            "at": one.at,
            "signed_by": one.signature.by,
            "in_force": one.change.id not in void and not (one.change.until and one.change.until < app.today),
        }
        for one in stored
    ]


def quarantine(app: App, use: Use) -> dict[str, Any]:
    """Records that a revocation keeps from a use, by reason."""
    sets = queries.stamp_sets(app.ledger)
    held = denied_by_revocation(app.policy, sets, use)
    counts = queries.answers_by_stamps(app.ledger)
    reasons: dict[str, int] = {}
    for id in held:
        reason = app.policy.decide_set(sets[id].stamps, use).reason
        reasons[reason] = reasons.get(reason, 0) + counts.get(id, 0)
    return {"records": sum(counts.get(id, 0) for id in held), "reasons": {k: v for k, v in reasons.items() if v}}


def gate(app: App, subjects: list[str], use: Use, job: str) -> dict[str, Any]:
    """Decide whether a job may start, and leave a signed receipt of it. Raises UnknownName, UsageError."""
    found: list[Gated] = look_at(app.ledger, app.policy, subjects, use)
    allowed = all(one.allowed for one in found)
    reasons = tuple(f"{one.subject}: {reason}" for one in found for reason in one.reasons)
    signatory = own_signatory(app.ledger, app.settings)
    at = now()
    signature = signatory.sign("gate", [list(subjects), str(use), allowed, list(reasons), job, at])
    app.recorder.record(
        facts.GateDecided(
            at=at, by=app.recorder.by, subjects=tuple(subjects), use=str(use), allowed=allowed, reasons=reasons, job=job,
            signature=signature,
        )
    )  # fmt: skip
    app.recorder.refresh()
    return {
        "allowed": allowed,
        "use": str(use),
        "datasets": msgspec.to_builtins(found),
        "reasons": list(reasons),
        "duties": sorted({duty for one in found for duty in one.duties}),
        "waivers": sorted({waiver for one in found for waiver in one.waivers}),
        "job": job,
        "receipt": {"at": at, "signed_by": signature.by, "key": signature.key, "signature": signature.value},
    }


def stamp_gate(app: App, use: Use) -> StampGate:
    """A gate for the rows that a job reads, as of now."""
    sets = queries.stamp_sets(app.ledger)
    return StampGate(use, {id: app.policy.decide_set(known.stamps, use) for id, known in sets.items()})


def compare_egress(app: App, path: Path, own: tuple[str, ...]) -> Egress:
    """Which connections of an egress proxy's log are in no record of this home. Raises UsageError."""
    hosts: dict[str, list[str]] = {}
    times = permission.call_times(app.ledger)
    for teacher in queries.teachers(app.ledger):
        url = teacher.base_url or DEFAULT_BASE_URLS.get(teacher.kind, "")
        host = (urlsplit(url).hostname or "").lower()
        if host:
            hosts[host] = sorted([*hosts.get(host, []), *times.get(teacher.name, [])])
    try:
        with _opened(path) as file:
            return compare(read_lines(file), hosts, own)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror or failure}.") from failure


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
