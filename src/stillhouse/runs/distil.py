"""The main job from end to end: answers, a dataset, a student, the comparison, the evaluation."""

import time
from pathlib import Path
from typing import NamedTuple

from stillhouse.datasets.filter import VERIFIED
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.generation.measured import choose
from stillhouse.home.ledger import dataset_queries
from stillhouse.home.model_files import as_teacher
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import Evaluation, Plan, Signal
from stillhouse.runs.evaluate import EvaluationOptions, evaluate, evaluate_nearness
from stillhouse.runs.form_dataset import erasable_as, form_dataset
from stillhouse.runs.recipe import Recipe
from stillhouse.runs.run_recipe import RunOutcome, prepare, run
from stillhouse.runs.train_recipe import (
    UNVERIFIED,
    Trained,
    check_models,
    check_processes,
    plan_training,
    train_on,
)
from stillhouse.students.scores import affordable
from stillhouse.teachers.collect import AnswerSource

# Reading models and running code are part of an evaluation's time, too.
_ASKING = 0.85
# Answers to a task, where the recipe does not say: as `model eval`.
_SAMPLES = 4


class Distilled(NamedTuple):
    """What came of a recipe: ``trained`` is None where it asks for no training, or stopped at the budget before it.

    ``control`` is the same training on answers that nobody verified.
    """

    outcome: RunOutcome
    trained: Trained | None
    control: Trained | None
    evaluations: tuple[Evaluation, ...]
    stages: dict[str, float]


def distil(
    home: Home,
    recipe: Recipe,
    progress: Progress,
    *,
    evaluated: bool,
    processes: int = 0,
    source: AnswerSource = AnswerSource.TEACHER,
) -> Distilled:
    """Carry a recipe through as far as it says; ``evaluated`` false stops with the model (``stillhouse train``). From the log
    alone, nobody is asked for anything.

    Killed anywhere and called again, it resumes: answers, verdicts, steps and evaluations are in the log.
    """
    for suite in recipe.eval.suites if recipe.eval and evaluated else ():
        load_suite(*_suite(recipe, suite))  # a suite that is not there is better known now than after the training
    check_processes(erasable_as(home, recipe.dataset.mix), processes)
    if source is AnswerSource.TEACHER:
        check_models(home, recipe)
    outcome = run(home, recipe, progress, judged=True, source=source)
    stages = dict(outcome.stages)
    if recipe.train is None or outcome.budget_reached is not None:
        return Distilled(outcome, None, None, (), stages)
    started = time.monotonic()
    trained = train_on(home, recipe, outcome.dataset, progress, processes=processes)
    stages["train"] = time.monotonic() - started
    if recipe.eval is None or not evaluated:
        return Distilled(outcome, trained, None, (), stages)
    started = time.monotonic()
    control = _control(home, recipe, outcome, trained, progress, processes)
    stages["train the comparison"] = time.monotonic() - started
    started = time.monotonic()
    evaluations = tuple(
        _evaluate(home, recipe, suite, outcome, trained, control, progress) for suite in recipe.eval.suites
    )
    stages["evaluate"] = time.monotonic() - started
    return Distilled(outcome, trained, control, evaluations, stages)


def plan_distil(home: Home, recipe: Recipe) -> Plan:
    """What comes next: the training, where its dataset is there already, else the collection."""
    check_models(home, recipe)
    prepared = prepare(home, recipe)
    found = dataset_queries.datasets_of_run(home.ledger, recipe.run, recipe.dataset.name)
    if prepared.collection.missing or not found or recipe.train is None:
        return prepared.collection.plan
    return plan_training(home, recipe, found[-1])


def _control(
    home: Home, recipe: Recipe, outcome: RunOutcome, trained: Trained, progress: Progress, processes: int
) -> Trained | None:
    """The same training on answers as they came, of equal token count; None where verification dropped nothing."""
    dropped = sum(sum(step.dropped.values()) for step in outcome.dataset.funnel if step.step == VERIFIED)
    if not dropped:
        return None
    dataset = form_dataset(home, outcome.prepared, outcome.got, UNVERIFIED).dataset
    return train_on(home, recipe, dataset, progress, processes=processes, like=trained)


def _evaluate(
    home: Home,
    recipe: Recipe,
    suite: str,
    outcome: RunOutcome,
    trained: Trained,
    control: Trained | None,
    progress: Progress,
) -> Evaluation:
    assert recipe.train is not None
    near = recipe.train.signal is not Signal.TEXT and trained.teacher is not None
    arms = 1 if near else 3 if control else 2
    options = evaluation_options(home, recipe, suite, outcome, trained, arms)
    if near and trained.teacher is not None:
        models = {"before": (trained.student, recipe.train.layers)}
        if control:
            models[UNVERIFIED] = (as_teacher(home.places, control.model), 0)
        models["after"] = (as_teacher(home.places, trained.model), 0)
        return evaluate_nearness(home, trained.teacher, models, trained.model.label, options, progress)
    names = {"before": trained.student.name}
    names |= {UNVERIFIED: control.model.label} if control else {}
    names["after"] = trained.model.label
    pairs = [("after", arm) for arm in names if arm != "after"]
    return evaluate(home, names, "after", pairs, options, progress)


def evaluation_options(
    home: Home, recipe: Recipe, name: str, outcome: RunOutcome, trained: Trained, arms: int
) -> EvaluationOptions:
    """What a suite is asked: the tasks and samples of the recipe, or as many as its share of the ``minutes`` allows."""
    section = recipe.eval
    assert section is not None
    suite, split = _suite(recipe, name)
    tasks, samples = section.tasks.get(name, 0), section.samples or _SAMPLES
    if section.minutes is not None:
        seconds = section.minutes * 60 * _ASKING / len(section.suites) / arms
        answers = int(seconds / _seconds_an_answer(home, section.max_tokens, outcome, trained))
        tasks, samples = affordable(len(load_suite(suite, split)), max(1, answers))
    return EvaluationOptions(
        suite, split, tasks, samples, section.max_tokens, section.temperature, section.seed, name=name,
        chat_template=recipe.train.chat_template if recipe.train else "",
    )  # fmt: skip


def _suite(recipe: Recipe, name: str) -> tuple[str, str]:
    """The suite and split that a recipe's name stands for."""
    if name in ("train", "held-out"):
        return "stillhouse", name
    return (name if name in BUILT_IN else str(Path(recipe.folder) / name)), ""


def _seconds_an_answer(home: Home, max_tokens: int, outcome: RunOutcome, trained: Trained) -> float:
    """As the student's base answered in this run, where it did; else from its measured speed, for answers of half length.

    Both come from the log or the cache, so a resumed run is scaled as before.
    """
    if outcome.prepared.teacher.weights_digest == trained.student.weights_digest and outcome.answers:
        return max(1e-4, sum(answer.seconds for answer in outcome.answers) / len(outcome.answers))
    speed = max(choose(Path(trained.student.weights), home.cache).tokens_per_second.values())
    return max_tokens / speed
