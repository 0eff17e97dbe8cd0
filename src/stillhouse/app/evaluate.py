"""Evaluate a model on a suite: ask, judge, score with intervals; and against another, on the same tasks."""

from typing import NamedTuple

import msgspec

from stillhouse.app.home import App
from stillhouse.app.progress import Progress
from stillhouse.app.run import gather, prepare
from stillhouse.errors import UsageError
from stillhouse.nouns import Use, VerdictStatus
from stillhouse.settings.recipe import CollectSection, DatasetSection, PromptsSection, Recipe, TeacherSection
from stillhouse.students.scores import Counted, Estimate, paired_difference, score


class EvaluationOptions(NamedTuple):
    """What to ask: ``samples`` answers to each of ``limit`` tasks (0 is all) of a suite's split."""

    suite: str
    split: str
    limit: int
    samples: int
    max_tokens: int
    temperature: float
    seed: int
    budget: str


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How one model did. ``pass_at`` maps k to its estimate."""

    model: str
    tasks: int
    answers: int
    passed: int
    pass_at: dict[str, Estimate]
    isolation: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One model's scores, or two and the paired difference of pass@1 (first minus second)."""

    suite: str
    split: str
    samples: int
    scores: tuple[Scores, ...]
    difference: Estimate | None
    limits: tuple[str, ...]


_LIMITS = (
    "Passing a handful of tests is not correctness.",
    "Intervals resample families and tasks of this suite; they say nothing about other kinds of tasks.",
)


def evaluate(app: App, names: tuple[str, ...], options: EvaluationOptions, progress: Progress) -> Evaluation:
    """Evaluate one registered teacher, or two against each other. Raises BudgetReached, UsageError."""
    counted = [_count(app, name, options, progress) for name in names]
    difference = paired_difference(counted[1][1], counted[0][1], 1) if len(counted) == 2 else None
    return Evaluation(
        suite=options.suite,
        split=options.split,
        samples=options.samples,
        scores=tuple(scores for scores, _ in counted),
        difference=difference,
        limits=_LIMITS,
    )


def _count(app: App, name: str, options: EvaluationOptions, progress: Progress) -> tuple[Scores, dict[str, Counted]]:
    recipe = Recipe(
        teacher=TeacherSection(use=name),
        prompts=PromptsSection(suite=options.suite, split=options.split, limit=options.limit),
        collect=CollectSection(
            samples=options.samples,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            seed=options.seed,
            budget=options.budget,
            purpose=Use.EVALUATE,
        ),
        dataset=DatasetSection(name="evaluation", use=Use.EVALUATE),
    )
    with app.alone(f"run-{recipe.run}"):
        prepared = prepare(app, recipe)
        got = gather(app, prepared, progress, judged=True)
    if got.budget_reached is not None:
        raise got.budget_reached
    families = {task.id: task.family for task in prepared.tasks}
    tasks: dict[str, Counted] = {}
    for (task, _), verdict in got.verdicts.items():
        before = tasks.get(task, Counted(families[task], 0, 0))
        passed = before.passed + (verdict.status is VerdictStatus.PASSED)
        tasks[task] = Counted(before.family, before.answers + 1, passed)
    fewest = min((task.answers for task in tasks.values()), default=0)
    if len(tasks) < len(prepared.tasks):
        raise UsageError(f"{name} did not answer every task, so it has no score.", next_step="Run the command again.")
    ks = sorted({1, *(k for k in (5, 10) if k <= fewest)})
    scores = Scores(
        model=name,
        tasks=len(tasks),
        answers=sum(task.answers for task in tasks.values()),
        passed=sum(task.passed for task in tasks.values()),
        pass_at={str(k): score(tasks, k) for k in ks},
        isolation=next((verdict.isolation for verdict in got.verdicts.values() if verdict.isolation), ""),
    )
    return scores, tasks
