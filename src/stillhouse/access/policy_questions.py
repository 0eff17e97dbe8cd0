"""Ask policy about teachers, datasets, rules and terms; waive what may be waived."""

from collections import Counter
from datetime import date
from typing import Any

import msgspec

from stillhouse.access.changes import waiver_id
from stillhouse.errors import UnknownName, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import current_roster
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.proposals import Findings, Handling, Written, plan_act, unlike
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Decision, Plan, Use, Waiver
from stillhouse.permission.decide import Door, Policy, join, latest_end
from stillhouse.permission.roster import member
from stillhouse.permission.rules import reach
from stillhouse.permission.terms_registry import STALE_DAYS, TermsVersion

WAIVE = "waive"


class _Waivers(Handling[Waiver]):
    kinds, name, content = (WAIVE,), "waiver", Waiver

    def differences(self, home: Home, plan: Plan, content: Waiver) -> list[str]:
        wrong = unlike("id", content.id, waiver_id(content)) + unlike("subject", plan.subject, content.id)
        return [*wrong, *_objections(home, content)]

    def found(self, home: Home, content: Waiver) -> Findings:
        return Findings({}, {"records": lifted_by(home, content)})

    def carry_out(self, plan: Plan, content: Waiver, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.WaiverGiven(waiver=content, **written.shared))
        return {"waiver": content.id, "signed by": written.signed_by}


WAIVERS = _Waivers()


def explain(home: Home, name: str) -> list[Decision]:
    """The decision for every use: on an answer that a teacher would give today to train, or on the rows of a dataset.

    Raises UnknownName.
    """
    try:
        teacher = origin_queries.teacher(home.ledger, name)
    except UnknownName:
        datasets = {known.label: known for known in dataset_queries.datasets(home.ledger)}
        if name not in datasets and name not in {known.name for known in datasets.values()}:
            raise
        dataset, sets = dataset_queries.dataset(home.ledger, name), origin_queries.stamp_sets(home.ledger)
        found = [home.policy.check_rows(dataset.stamp_sets, sets, use) for use in Use]
        return [join(use, [decision for _, decision in rows.decided]) for use, rows in zip(Use, found, strict=True)]
    stamps = stamps_of(home.ledger, teacher, purpose=Use.TRAIN)
    return [home.policy.check(Door.USE, stamps, use) for use in Use]


def explain_citations(home: Home, decisions: list[Decision]) -> list[str]:
    """What the decisions rest on, in words: each document with what was read, when, and where."""
    versions = {version.id: version for version in home.policy.registry.versions}
    lines = []
    for citation in dict.fromkeys(citation for decision in decisions for citation in decision.citations):
        version = versions.get(citation)
        stale = (
            f"\n    STALE: not seen for more than {STALE_DAYS} days" if version and version.is_stale(home.today) else ""
        )
        lines.append(describe(version) + stale if version else citation)
    return lines


def describe(version: TermsVersion) -> str:
    """A version in a few lines: what it says, and how that is known."""
    dates = {"its own date": version.effective, "first seen": version.observed, "last seen": version.last_seen}
    dates |= {"accepted": version.accepted, "counts from": version.counts_from}
    known = ", ".join(f"{name} {day}" for name, day in dates.items() if day)
    read = f"characters {version.span[0]}-{version.span[1]} of text {version.text}" if version.text else ""
    parts = [f"{version.id} ({version.verdict}; {version.confidence}): {version.summary}", known, read, version.source]
    parts += [f"read by {version.reviewer}"] if version.reviewer else []
    parts += [f"readings: {' / '.join(version.readings)}"] if version.readings else []
    parts += [f"conditions: {'; '.join(version.conditions)}"] if version.conditions else []
    return "\n    ".join(part for part in parts if part)


def check_dataset(home: Home, label: str, use: Use) -> dict[str, Any]:
    """Rows of a dataset that may and may not be used so, with the reasons; decided per stamp set."""
    dataset = dataset_queries.dataset(home.ledger, label)
    found = home.policy.check_rows(dataset.stamp_sets, origin_queries.stamp_sets(home.ledger), use)
    return {
        "allowed": found.allowed,
        "denied": found.denied,
        "reasons": [
            f"{rows} rows {'allowed' if decision.allowed else 'denied'}: {decision.reason}"
            for rows, decision in found.decided
        ],
        "duties": list(found.duties),
        "waivers": list(found.waivers),
    }


def look_at_rules(home: Home) -> list[dict[str, Any]]:
    """The organisation's rules, and of how much of what the log holds each is: nothing and everything are worth a look."""
    stamps = [stamp for known in origin_queries.stamp_sets(home.ledger).values() for stamp in known.stamps]
    stamps = list(dict.fromkeys(stamps))
    counts = reach(home.policy.rules, stamps)
    total = len(stamps) * len(Use)
    found = []
    for rule in home.policy.rules.rules:
        matched = counts[rule.name]
        note = "matches nothing in this home" if not matched else "matches everything" if matched == total else ""
        found.append(
            {
                "name": rule.name,
                "effect": rule.effect,
                "owner": rule.owner,
                "when": rule.when,
                "reason": rule.reason,
                "matches": matched,
                "of": total,
                "note": note,
            }
        )
    return found


def plan_waiver(home: Home, waiver: Waiver) -> Plan:
    """A waiver as a plan: what it would lift among what the log holds. Raises UsageError."""
    try:
        expires = date.fromisoformat(waiver.expires)
    except ValueError:
        raise UsageError(f"{waiver.expires!r} is not a date.", next_step="Write YYYY-MM-DD.") from None
    if expires.isoformat() < home.today:
        raise UsageError(f"{waiver.expires} is over already: a waiver that has expired lifts nothing.")
    if not (waiver.lab or waiver.channel or waiver.terms):
        raise UsageError("A waiver is for a lab, a channel or terms, not for everything.")
    waiver = msgspec.structs.replace(waiver, expires=expires.isoformat())  # days are compared as text
    waiver = msgspec.structs.replace(waiver, id=waiver_id(waiver))
    if objections := _objections(home, waiver):
        raise UsageError(
            f"A waiver cannot be given so: {'; '.join(objections)}.", next_step="Give another --expires or --owner."
        )
    impact = {"records": lifted_by(home, waiver)}
    return plan_act(home, WAIVERS, WAIVE, waiver.id, {"waiver": msgspec.to_builtins(waiver)}, impact)


def _objections(home: Home, waiver: Waiver) -> list[str]:
    """Why a waiver may not be given, in words: somebody on the roster answers for it, for a year at most."""
    latest, roster = latest_end(home.today), current_roster(home.ledger, home.settings)
    found = [f"it ends on {waiver.expires}, and {latest} is the latest"] if waiver.expires > latest else []
    if roster is not None and member(roster, waiver.owner) is None:
        names = ", ".join(known.name for known in roster.members)
        found.append(f"{waiver.owner} is not on the roster, which has {names}")
    return found


def lifted_by(home: Home, waiver: Waiver) -> dict[str, int]:
    """Records here that may not serve its use now: those that a waiver would lift, and those that stay denied."""
    before = home.policy
    after = Policy(
        before.organisation, before.registry, before.rules, before.changes, (*before.waivers, waiver), home.today
    )
    counts: Counter[str] = Counter()
    answers = answer_queries.answers_by_stamps(home.ledger)
    for id, known in origin_queries.stamp_sets(home.ledger).items():
        was, becomes = (policy.check(Door.USE, known.stamps, waiver.use) for policy in (before, after))
        if not was.allowed:
            counts["lifted" if becomes.allowed else "still denied"] += answers.get(id, 0)
    return dict(counts)
