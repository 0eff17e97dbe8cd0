"""Evaluate models on a suite: ask all of them the same, judge, score with intervals, and compare task by task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stillhouse.clock import now
from stillhouse.errors import UsageError
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, training_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import Estimate, Evaluation, Message, Teacher, Use, VerdictStatus
from stillhouse.runs.prepared_run import PreparedRun
from stillhouse.runs.recipe import CollectSection, DatasetSection, PromptsSection, Recipe, TeacherSection
from stillhouse.runs.run_recipe import gather, prepare
from stillhouse.students.scores import DIFFERENCE, SHARE, UNBOUNDED, Counted, mean, paired_difference, score
from stillhouse.teachers.local_teacher import NO_ROOM

# k for which pass@k is shown, where there are enough samples.
_KS = (1, 5, 10)


class EvaluationOptions(NamedTuple):
    """What to ask: ``samples`` answers to each of ``limit`` tasks (0 is all) of a suite's split; ``name`` is how it is shown,
    ``chat_template`` what every arm's prompts are written with instead of its own.
    """

    suite: str
    split: str
    limit: int
    samples: int
    max_tokens: int
    temperature: float
    seed: int
    budget: str = ""
    name: str = ""
    chat_template: str = ""


class Arm(NamedTuple):
    """What came of asking one model: by task, how many answers passed."""

    model: str
    tasks: dict[str, Counted]
    isolation: str
    answers: tuple[StoredAnswer, ...]
    prepared: PreparedRun


_LIMITS = (
    "Passing a handful of tests is not correctness.",
    "Intervals resample families and tasks of this suite; they say nothing about other kinds of tasks.",
)
_NEARNESS_LIMIT = "Being near a teacher on its own answers says nothing about whether they are right."


def evaluate(
    home: Home,
    models: Mapping[str, str],
    subject: str,
    pairs: Sequence[tuple[str, str]],
    options: EvaluationOptions,
    progress: Progress,
) -> Evaluation:
    """Pass rates of some arms, and the differences of some pairs (first minus second); written down for the ``subject``'s arm.

    ``models`` maps an arm's name to a registered teacher or a model. Raises BudgetReached, UsageError.
    """
    arms = {arm: ask(home, model, options, progress) for arm, model in models.items()}
    return write_down(home, arms[subject].model, compare(arms, pairs, options))


def compare(arms: Mapping[str, Arm], pairs: Sequence[tuple[str, str]], options: EvaluationOptions) -> Evaluation:
    """The same for arms that were asked already; nothing is written down."""
    return Evaluation(
        suite=_name(options),
        split=options.split,
        tasks=min(len(arm.tasks) for arm in arms.values()),
        samples=options.samples,
        answers=sum(task.answers for arm in arms.values() for task in arm.tasks.values()),
        tokens=sum(_tokens(arm) for arm in arms.values()),
        temperature=options.temperature,
        seed=options.seed,
        models={name: arm.model for name, arm in arms.items()},
        arms={name: _passes(arm.tasks) for name, arm in arms.items()},
        differences={
            f"{first} - {second}": {"pass@1": paired_difference(arms[second].tasks, arms[first].tasks, 1)}
            for first, second in pairs
        },
        isolation=next((arm.isolation for arm in arms.values() if arm.isolation), ""),
        limits=_LIMITS,
    )


def write_down(home: Home, subject: str, found: Evaluation) -> Evaluation:
    """Into the log, unless the log has just this."""
    if found not in training_queries.evaluations(home.ledger, subject):
        home.recorder.record(facts.Evaluated(at=now(), by=home.recorder.by, subject=subject, evaluation=found))
        home.recorder.refresh()
    return found


def recipe_of(model: str, options: EvaluationOptions) -> Recipe:
    """What asking one model is, as a recipe: its run is by what the log has its answers."""
    return Recipe(
        teacher=TeacherSection(use=model),
        prompts=PromptsSection(suite=options.suite, split=options.split, limit=options.limit),
        collect=CollectSection(
            samples=options.samples,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            seed=options.seed,
            budget=options.budget,
            purpose=Use.EVALUATE,
            parameters={"chat_template": options.chat_template} if options.chat_template else {},
        ),
        dataset=DatasetSection(name="evaluation", use=Use.EVALUATE),
    )


def ask(home: Home, model: str, options: EvaluationOptions, progress: Progress) -> Arm:
    """One model's answers, judged; what the log has is not asked for again. Raises BudgetReached, UsageError."""
    recipe = recipe_of(model, options)
    with home.alone(f"run-{recipe.run}"):
        prepared = prepare(home, recipe)
        got = gather(home, prepared, progress, judged=True)
    if got.budget_reached is not None:
        raise got.budget_reached
    families = {task.id: task.family for task in prepared.tasks}
    tasks: dict[str, Counted] = {}
    failed = answer_queries.failures(home.ledger, [wanted.key for wanted in prepared.collection.wanted])
    too_long = {wanted.task for wanted in prepared.collection.wanted if failed.get(wanted.key, "").startswith(NO_ROOM)}
    for (task, _), verdict in got.verdicts.items():
        before = tasks.get(task, Counted(families[task], 0, 0))
        passed = before.passed + (verdict.status is VerdictStatus.PASSED)
        tasks[task] = Counted(before.family, before.answers + 1, passed)
    if too_long:
        progress.say(f"{len(too_long)} tasks leave {model} no room for an answer, and are left out")
    if len(tasks) < len({task.id for task in prepared.tasks} - too_long):
        raise UsageError(f"{model} did not answer every task, so it has no score.", next_step="Run the command again.")
    isolation = next((verdict.isolation for verdict in got.verdicts.values() if verdict.isolation), "")
    return Arm(prepared.teacher.name, tasks, isolation, got.answers, prepared)


def evaluate_nearness(
    home: Home,
    teacher: Teacher,
    models: Mapping[str, tuple[Teacher, int]],
    subject: str,
    options: EvaluationOptions,
    progress: Progress,
) -> Evaluation:
    """How near some arms are to a teacher on its answers to a suite: loss and agreement, and "after" minus the others.

    ``models`` maps an arm to its model, and to how many layers of it are taken (0 is all).
    """
    from stillhouse.generation.measured import training_dtype
    from stillhouse.students.agreement import load_whole, nearness
    from stillhouse.students.documents import Record

    asked = ask(home, teacher.name, options, progress)
    messages = {task.id: task.messages for task in asked.prepared.tasks}
    families = {task.id: task.family for task in asked.prepared.tasks}
    answers: dict[str, list[Record]] = {}
    texts = answer_queries.texts(home.ledger, [answer.key for answer in asked.answers])
    for answer in asked.answers:
        prompt: tuple[Message, ...] = messages[answer.task]
        answers.setdefault(answer.task, []).append(Record(answer.key, prompt, texts[answer.key], answer.stamps))
    progress.start("compare with the teacher", len(models))
    dtype = training_dtype()
    whole = load_whole(Path(teacher.weights), teacher.weights_digest, home.cache, dtype)
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for number, (arm, (model, layers)) in enumerate(models.items(), start=1):
        near = load_whole(
            Path(model.weights), model.weights_digest, home.cache, dtype, layers, chat_template=options.chat_template
        )
        found = nearness(whole, near, answers)
        measured[arm] = {
            "loss": {task: near.loss for task, near in found.items()},
            "agreement": {task: near.agreement for task, near in found.items()},
        }
        progress.update(number)
    progress.finish()
    others = [arm for arm in models if arm != "after"]
    value = Evaluation(
        suite=_name(options),
        split=options.split,
        tasks=len(answers),
        samples=options.samples,
        answers=len(asked.answers),
        tokens=_tokens(asked),
        temperature=options.temperature,
        seed=options.seed,
        models={arm: model.name for arm, (model, _) in models.items()},
        arms={arm: _means(by_measure, families, SHARE) for arm, by_measure in measured.items()},
        differences={
            f"after - {other}": _means(_minus(measured["after"], measured[other]), families, DIFFERENCE)
            for other in others
        },
        isolation=asked.isolation,
        limits=(_NEARNESS_LIMIT, _LIMITS[1]),
    )
    return write_down(home, subject, value)


def _tokens(arm: Arm) -> int:
    return sum(max(0, answer.usage.completion_tokens) for answer in arm.answers)


def _passes(tasks: Mapping[str, Counted]) -> dict[str, Estimate]:
    fewest = min(task.answers for task in tasks.values())
    return {f"pass@{k}": score(tasks, k) for k in _KS if k <= fewest}


def _means(
    by_measure: Mapping[str, Mapping[str, float]], families: Mapping[str, str], bounds: tuple[float, float]
) -> dict[str, Estimate]:
    """``bounds`` are those of an agreement; a loss has none."""
    return {
        measure: mean(values, families, UNBOUNDED if measure == "loss" else bounds)
        for measure, values in by_measure.items()
    }


def _minus(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    return {
        measure: {task: value - second[measure][task] for task, value in values.items()}
        for measure, values in first.items()
    }


def _name(options: EvaluationOptions) -> str:
    """The name that recipes use: a split of the suite that ships here goes by its own."""
    named = options.split if options.suite == "stillhouse" and options.split else options.suite
    return options.name or named


def table_of(found: Evaluation) -> list[list[str]]:
    """Rows for people: arm, measure, mean, interval; then the differences."""
    rows = [
        [arm, measure, *_shown(measure, estimate)]
        for arm, measures in found.arms.items()
        for measure, estimate in measures.items()
    ]
    for pair, measures in found.differences.items():
        for measure, estimate in measures.items():
            sure = "" if estimate.low <= 0 <= estimate.high else " (the interval excludes 0)"
            mean_text, interval = (text.replace("%", "points") for text in _shown(measure, estimate))
            rows.append([pair, measure, mean_text, interval + sure])
    return rows


def _shown(measure: str, estimate: Estimate) -> tuple[str, str]:
    if measure == "loss":
        return f"{estimate.mean:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{100 * estimate.mean:.1f} %", f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"
