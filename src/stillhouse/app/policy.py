"""Ask policy about teachers and datasets that exist."""

from datetime import UTC, datetime
from typing import Any

from stillhouse.app.home import App
from stillhouse.ledger import queries
from stillhouse.nouns import Decision, Origin, Stamp, Use
from stillhouse.policy.decide import decide, decide_set


def explain_teacher(app: App, name: str) -> list[Decision]:
    """The decision for every use, on an answer collected today to train."""
    teacher = queries.teacher(app.ledger, name)
    stamp = Stamp(
        origin=Origin.TEACHER,
        lab=teacher.lab,
        model=teacher.model,
        channel=teacher.channel,
        terms=teacher.terms,
        day=datetime.now(UTC).date().isoformat(),
        purpose=str(Use.TRAIN),
    )
    return [decide(stamp, use, app.settings.organisation) for use in Use]


def check_dataset(app: App, label: str, use: Use) -> dict[str, Any]:
    """Rows of a dataset that may and may not be used so, with the reasons; decided per stamp set."""
    dataset = queries.dataset(app.ledger, label)
    sets = queries.stamp_sets(app.ledger)
    allowed = denied = 0
    reasons: list[str] = []
    for id, rows in dataset.stamp_sets.items():
        decision = decide_set(sets[int(id)].stamps, use, app.settings.organisation)
        allowed, denied = (allowed + rows, denied) if decision.allowed else (allowed, denied + rows)
        reasons.append(f"{rows} rows {'allowed' if decision.allowed else 'denied'}: {decision.reason}")
    return {"allowed": allowed, "denied": denied, "reasons": reasons}
