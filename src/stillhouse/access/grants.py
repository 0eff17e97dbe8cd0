"""Grant, revoke, look at what that reaches, open or close the gate for a job, and train again without what was revoked."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from stillhouse.access.changes import make_change
from stillhouse.access.egress import Egress, compare, read_lines
from stillhouse.access.gate import Gated, look_at
from stillhouse.access.loader import StampGate
from stillhouse.access.revocation_impact import (
    RevocationImpact,
    denied_by_revocation,
    impact_of,
    touched_sets,
    usable_after,
)
from stillhouse.canon import digest_file
from stillhouse.clock import now
from stillhouse.datasets.recognition import alias_of, readable_sources
from stillhouse.datasets.row_marks import Marks
from stillhouse.errors import CorruptObject, RuleError, StorageError, TermsError, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import load, own_signatory
from stillhouse.home.ledger import answer_queries, origin_queries, permission_queries
from stillhouse.home.open_home import Home
from stillhouse.home.proposals import Findings, Handling, Written, plan_act, unlike
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import AccessChange, AccessKind, DatasetVersion, Plan, Use
from stillhouse.permission.decide import Door, Policy, void_ids
from stillhouse.permission.known_hosts import address_of, host_of, known_services, offered_by
from stillhouse.permission.known_names import fold_lab, known_labs, labs_in

GRANT, REVOKE = "grant", "revoke"


class _Access(Handling[AccessChange]):
    kinds, name, content = (GRANT, REVOKE), "change", AccessChange

    def differences(self, home: Home, plan: Plan, content: AccessChange) -> list[str]:
        if plan.kind != _kind(content):
            return unlike("kind", plan.kind, _kind(content))
        known = load(home.ledger, home.settings).state.of(AccessChange)
        id = make_change(msgspec.structs.replace(content, id=""), known).id
        return unlike("id", content.id, id) + unlike("subject", plan.subject, content.lab)

    def found(self, home: Home, content: AccessChange) -> Findings:
        return Findings({}, msgspec.structs.asdict(impact_now(home, content)))

    def carry_out(self, plan: Plan, content: AccessChange, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.AccessChanged(change=content, **written.shared))
        return {"change": content.id, "signed by": written.signed_by}


ACCESS = _Access()


def _kind(change: AccessChange) -> str:
    return GRANT if change.kind == AccessKind.GRANT else REVOKE


class PlannedChange(NamedTuple):
    """A grant or a revocation that was thought through: its plan, and what it would reach."""

    plan: Plan
    impact: RevocationImpact


def plan_change(home: Home, draft: AccessChange, document: Path | None) -> PlannedChange:
    """What a grant or a revocation would do; nothing is done. Raises UsageError, UnknownName."""
    if document is not None:
        try:
            draft = msgspec.structs.replace(draft, document=digest_file(document))
        except OSError as failure:
            raise UsageError(f"{document} cannot be read: {failure.strerror}.") from failure
    known = list(load(home.ledger, home.settings).state.of(AccessChange))
    change = make_change(draft, known)
    found = impact_now(home, change)
    does = {"change": msgspec.to_builtins(change)}
    return PlannedChange(plan_act(home, ACCESS, _kind(change), change.lab, does, msgspec.to_builtins(found)), found)


def matches_nothing(home: Home, change: AccessChange) -> str:
    """Why a change would match nothing that is here or known, such as for a name written wrongly; empty where it matches.

    A lab that this version knows may be revoked before anything of it is here; a model, channel or account that none of its
    records and teachers has may not.
    """
    if change.reverses:
        return ""
    if change.lab not in labs_here(home):
        return f"no record and no teacher here is of a lab called {change.lab!r}, and it is not a known lab"
    if not (change.models or change.channels or change.accounts):
        return ""
    always = msgspec.structs.replace(change, since="", until="", uses=(), exempt=())
    whole = msgspec.structs.replace(always, models=(), channels=(), accounts=())
    stamps = {stamp for known in origin_queries.stamp_sets(home.ledger).values() for stamp in known.stamps}
    for teacher in origin_queries.teachers(home.ledger):
        stamps.update(stamps_of(home.ledger, teacher, purpose=Use.TRAIN))
    of_lab, of_scope = (
        [stamp for stamp in stamps if Policy(changes=(one,)).last_words(stamp, Use.TRAIN)] for one in (whole, always)
    )
    return (
        ""
        if of_scope or not of_lab
        else f"of what is here of {change.lab}, nothing is of that model, channel or account"
    )


def impact_now(home: Home, change: AccessChange) -> RevocationImpact:
    """What a change that is not in force yet would touch. Raises CorruptObject."""
    known = list(load(home.ledger, home.settings).state.of(AccessChange))
    before = _policy_for(home, change, known)
    policy = Policy(before.organisation, before.registry, before.rules, (*known, change), before.waivers, home.today)
    about = change  # of a reversal, what it makes void or brings back
    while about.reverses:
        about = next(earlier for earlier in known if earlier.id == about.reverses)
    returns = any(standing.id == about.id for standing in policy.changes)
    found = impact_of(home.ledger, policy if returns else before, about, home.folder)
    if not returns:
        sets = origin_queries.stamp_sets(home.ledger)
        usable = usable_after(home.ledger, policy, sets, touched_sets(before, about, sets))
        found = msgspec.structs.replace(found, usable=usable, retrain=(), irreplaceable=0)
    return found


def _policy_for(home: Home, change: AccessChange, known: Sequence[AccessChange]) -> Policy:
    """What decides now. Whoever revokes needs none of the organisation's documents: one that is lost keeps nobody from it."""
    try:
        return home.policy
    except (CorruptObject, StorageError, TermsError, RuleError):
        if change.kind != AccessKind.REVOKE or change.reverses:
            raise
        return Policy(changes=known, today=home.today)


def list_changes(home: Home) -> list[dict[str, Any]]:
    """Grants and revocations, who signed them, and whether they are in force: not void, over or superseded."""
    found = load(home.ledger, home.settings)
    changes = found.state.of(AccessChange)
    void = void_ids(changes)
    standing = [change for change in changes if change.id not in void and not change.reverses]
    superseded = {
        earlier.id
        for place, earlier in enumerate(standing)
        for later in standing[place + 1 :]
        if _covers(later, earlier)
    }
    return [
        {
            **msgspec.to_builtins(change),
            "at": at,
            "signed_by": entry.signatures[0].by,
            "in_force": change.id not in void | superseded and not (change.until and change.until < home.today),
        }
        for at, entry in found.acts
        if isinstance(change := entry.content, AccessChange)
    ]


def _covers(later: AccessChange, earlier: AccessChange) -> bool:
    """Has a later change the last word on everything that an earlier one is about?"""
    wide = (later.models, later.channels, later.accounts, later.uses)
    narrow = (earlier.models, earlier.channels, earlier.accounts, earlier.uses)
    within = all(not those or (these and set(these) <= set(those)) for those, these in zip(wide, narrow, strict=True))
    always = not later.until and not later.exempt and later.since in ("", earlier.since)
    return bool(within) and always and fold_lab(later.lab) == fold_lab(earlier.lab)


def gates(home: Home) -> list[dict[str, Any]]:
    """What the training-launch gate decided, newest first, and who signed it."""
    return [gate.shown() for gate in reversed(permission_queries.gates(home.ledger))]


def quarantine(home: Home, use: Use) -> dict[str, Any]:
    """Records that a revocation keeps from a use, by reason."""
    sets = origin_queries.stamp_sets(home.ledger)
    held = denied_by_revocation(home.policy, sets, use)
    counts = answer_queries.answers_by_stamps(home.ledger)
    reasons: dict[str, int] = {}
    for id in held:
        reason = home.policy.check(Door.USE, sets[id].stamps, use).reason
        reasons[reason] = reasons.get(reason, 0) + counts.get(id, 0)
    return {"records": sum(counts.get(id, 0) for id in held), "reasons": {k: v for k, v in reasons.items() if v}}


def check_export(home: Home, dataset: DatasetVersion, use: Use) -> None:
    """May a version leave the home for a use? Raises PolicyRefusal where a row of it may not serve that use."""
    sets = origin_queries.stamp_sets(home.ledger)
    for id, rows in dataset.stamp_sets.items():
        decision = home.policy.check(Door.KEEP, sets[int(id)].stamps, use)
        if not decision.allowed:
            home.doors.refuse(f"{rows} rows of {dataset.label}", f"be exported to {use}", decision)


def labs_here(home: Home) -> frozenset[str]:
    """Every lab, and everyone who offers a service, that a record, a teacher or this version knows."""
    stamps = [stamp for known in origin_queries.stamp_sets(home.ledger).values() for stamp in known.stamps]
    teachers = origin_queries.teachers(home.ledger)
    named = {(stamp.lab, stamp.model) for stamp in stamps} | {(teacher.lab, teacher.model) for teacher in teachers}
    labs = {lab for lab, _ in named} | {lab for _, model in named for lab in labs_in(model)}
    through = {name for stamp in stamps for name in offered_by(stamp.terms, stamp.provider)}
    through |= {name for teacher in teachers for name in offered_by(teacher.terms)}
    return frozenset(fold_lab(lab) for lab in labs if lab) | through | known_labs() | known_services()


def gate(home: Home, subjects: list[str], use: Use, job: str) -> dict[str, Any]:
    """Decide whether a job may start, and leave a signed receipt of it. Raises UnknownName, UsageError."""
    found: list[Gated] = look_at(home.ledger, home.policy, subjects, use)
    allowed = all(one.allowed for one in found)
    reasons = tuple(f"{one.subject}: {reason}" for one in found for reason in one.reasons)
    signatory = own_signatory(home.ledger, home.settings)
    at = now()
    signature = signatory.sign("gate", [list(subjects), str(use), allowed, list(reasons), job, at])
    home.recorder.record(
        facts.GateDecided(
            at=at, by=home.recorder.by, subjects=tuple(subjects), use=str(use), allowed=allowed, reasons=reasons, job=job,
            signature=signature,
        )
    )  # fmt: skip
    home.recorder.refresh()
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


def stamp_gate(home: Home, use: Use) -> StampGate:
    """A gate for the rows that a job reads, as of now."""
    sets = origin_queries.stamp_sets(home.ledger)
    decisions = {id: home.policy.check(Door.USE, known.stamps, use) for id, known in sets.items()}
    denied = [id for id, decision in decisions.items() if not decision.allowed]
    marks = answer_queries.marks_of_stamps(home.ledger, denied)
    for known in answer_queries.by_mark(home.ledger, {answer for _, answer in marks}):
        if decisions[known.stamps].allowed:  # others gave the same answer, and that may be used
            marks.discard((known.question, known.answer))
    aliases = answer_queries.aliases_of_stamps(home.ledger, denied)
    sources = readable_sources(home) if aliases else []

    def known_by_alias(pair: tuple[str, str]) -> bool:
        return any(answer_queries.short_alias(alias_of(objects, Marks(*pair))) in aliases for objects in sources)

    return StampGate(use, decisions, marks, known_by_alias if sources else None)


def compare_egress(home: Home, path: Path, own: tuple[str, ...]) -> Egress:
    """Which connections of an egress proxy's log are in no record of this home. Raises UsageError."""
    hosts: dict[str, list[str]] = {}
    times = permission_queries.call_times(home.ledger)
    for teacher in origin_queries.teachers(home.ledger):
        url = address_of(teacher)
        host = host_of(url)
        if host:
            hosts[host] = sorted([*hosts.get(host, []), *times.get(teacher.name, [])])
    try:
        with _opened(path) as file:
            return compare(read_lines(file), hosts, own)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror or failure}.") from failure
    except (EOFError, zlib.error) as failure:
        raise UsageError(
            f"{path} is cut off or damaged: {failure}.", next_step="Fetch it again from the proxy."
        ) from failure


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
