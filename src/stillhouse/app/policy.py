"""Ask policy about teachers, datasets, rules and terms; waive what may be waived."""

from collections import Counter
from datetime import date
from typing import Any

import msgspec

from stillhouse import facts
from stillhouse.access.changes import waiver_id
from stillhouse.app.acts import Found, Handling, Written, plan_act, unlike
from stillhouse.app.home import App
from stillhouse.errors import UnknownName, UsageError
from stillhouse.ledger import queries
from stillhouse.nouns import Decision, Plan, Use, Waiver
from stillhouse.policy.decide import Policy, join
from stillhouse.policy.registry import TermsVersion
from stillhouse.policy.rules import reach

WAIVE = "waive"


class _Waivers(Handling[Waiver]):
    kinds, name, content = (WAIVE,), "waiver", Waiver

    def differences(self, app: App, plan: Plan, content: Waiver) -> list[str]:
        return unlike("id", content.id, waiver_id(content)) + unlike("subject", plan.subject, content.id)

    def found(self, app: App, content: Waiver) -> Found:
        return Found({}, {"records": lifted_by(app, content)})

    def carry_out(self, plan: Plan, content: Waiver, written: Written, prepared: Any) -> dict[str, Any]:
        written.app.recorder.record(facts.WaiverGiven(waiver=content, **written.shared))
        return {"waiver": content.id, "signed by": written.signed_by}


WAIVERS = _Waivers()


def explain(app: App, name: str) -> list[Decision]:
    """The decision for every use: on an answer that a teacher would give today to train, or on the rows of a dataset.

    Raises UnknownName.
    """
    try:
        teacher = queries.teacher(app.ledger, name)
    except UnknownName:
        datasets = {known.label: known for known in queries.datasets(app.ledger)}
        if name not in datasets and name not in {known.name for known in datasets.values()}:
            raise
        dataset, sets = queries.dataset(app.ledger, name), queries.stamp_sets(app.ledger)
        found = [app.policy.decide_rows(dataset.stamp_sets, sets, use) for use in Use]
        return [join(use, [decision for _, decision in rows.decided]) for use, rows in zip(Use, found, strict=True)]
    stamps = app.recorder.stamps_of(teacher, purpose=Use.TRAIN)
    return [app.policy.decide_set(stamps, use) for use in Use]


def explain_citations(app: App, decisions: list[Decision]) -> list[str]:
    """What the decisions rest on, in words: each document with what was read, when, and where."""
    versions = {version.id: version for version in app.policy.registry.versions}
    lines = []
    for citation in dict.fromkeys(citation for decision in decisions for citation in decision.citations):
        version = versions.get(citation)
        lines.append(describe(version) if version else citation)
    return lines


def describe(version: TermsVersion) -> str:
    """A version in a few lines: what it says, and how that is known."""
    dates = {"its own date": version.effective, "first seen": version.observed, "last seen": version.last_seen}
    dates |= {"accepted": version.accepted, "counts from": version.counts_from}
    known = ", ".join(f"{name} {day}" for name, day in dates.items() if day)
    read = f"characters {version.span[0]}-{version.span[1]} of text {version.text}" if version.text else ""
    parts = [f"{version.id} ({version.verdict}; {version.confidence}): {version.summary}", known, read, version.source]
    parts += [f"read by {version.reviewer}"] if version.reviewer else []
    parts += [f"conditions: {'; '.join(version.conditions)}"] if version.conditions else []
    return "\n    ".join(part for part in parts if part)


def check_dataset(app: App, label: str, use: Use) -> dict[str, Any]:
    """Rows of a dataset that may and may not be used so, with the reasons; decided per stamp set."""
    dataset = queries.dataset(app.ledger, label)
    found = app.policy.decide_rows(dataset.stamp_sets, queries.stamp_sets(app.ledger), use)
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


def look_at_rules(app: App) -> list[dict[str, Any]]:
    """The organisation's rules, and of how much of what the log holds each is: nothing and everything are worth a look."""
    stamps = [stamp for known in queries.stamp_sets(app.ledger).values() for stamp in known.stamps]
    stamps = list(dict.fromkeys(stamps))
    counts = reach(app.policy.rules, stamps)
    total = len(stamps) * len(Use)
    found = []
    for rule in app.policy.rules.rules:
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


def plan_waiver(app: App, waiver: Waiver) -> Plan:
    """A waiver as a plan: what it would lift among what the log holds. Raises UsageError."""
    try:
        expires = date.fromisoformat(waiver.expires)
    except ValueError:
        raise UsageError(f"{waiver.expires!r} is no day.", next_step="Write YYYY-MM-DD.") from None
    if expires.isoformat() < app.today:
        raise UsageError(f"{waiver.expires} is over already: a waiver that has expired lifts nothing.")
    if not (waiver.lab or waiver.channel or waiver.terms):
        raise UsageError("A waiver is for a lab, a channel or terms, not for everything.")
    waiver = msgspec.structs.replace(waiver, expires=expires.isoformat())  # days are compared as text
    waiver = msgspec.structs.replace(waiver, id=waiver_id(waiver))
    impact = {"records": lifted_by(app, waiver)}
    return plan_act(app, WAIVERS, WAIVE, waiver.id, {"waiver": msgspec.to_builtins(waiver)}, impact)


def lifted_by(app: App, waiver: Waiver) -> dict[str, int]:
    """Records here that may not serve its use now: those that a waiver would lift, and those that stay denied."""
    before = app.policy
    after = Policy(
        before.organisation, before.registry, before.rules, before.changes, (*before.waivers, waiver), app.today
    )
    counts: Counter[str] = Counter()
    answers = queries.answers_by_stamps(app.ledger)
    for id, known in queries.stamp_sets(app.ledger).items():
        was, becomes = (policy.decide_set(known.stamps, waiver.use) for policy in (before, after))
        if not was.allowed:
            counts["lifted" if becomes.allowed else "still denied"] += answers.get(id, 0)
    return dict(counts)
