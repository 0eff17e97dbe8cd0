"""Run a recipe: collect, verify, form a dataset, report. Killed anywhere and started again, it resumes."""

import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.conversations.finishes import is_usable
from stillhouse.datasets.tasks.judge import Conditions
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.datasets.verify import Judge, verify
from stillhouse.errors import BudgetReached, RecipeError, TeacherError, TeacherRejected, UsageError
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, money_queries, origin_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import DatasetVersion, Parameters, Plan, Task, Teacher, Verdict, VerdictStatus
from stillhouse.permission.decide import OWN_TERMS
from stillhouse.runs.clients import accepting, batched, make_client
from stillhouse.runs.collection_progress import LiveView
from stillhouse.runs.form_dataset import FormedDataset, erasable_as, form_dataset, form_recipe
from stillhouse.runs.prepared_run import Gathered, PreparedRun
from stillhouse.runs.recipe import Recipe
from stillhouse.runs.run_manifest import open_run
from stillhouse.sandbox.packages import packages_of
from stillhouse.teachers.client import NullTeacher, TeacherClient
from stillhouse.teachers.collect import (
    AnswerSource,
    Collected,
    CollectOptions,
    collect,
    from_log,
    plan_collection,
)
from stillhouse.teachers.local_teacher import NO_ROOM
from stillhouse.teachers.register import account_fingerprint, key_of

_SUITE_TERMS = {"stillhouse": ("licence/apache-2.0",), "humaneval": ("licence/mit",)}


class RunOutcome(NamedTuple):
    """What came of a run."""

    prepared: PreparedRun
    got: Gathered
    formed: FormedDataset
    stages: dict[str, float]

    @property
    def dataset(self) -> DatasetVersion:
        """The version that was formed."""
        return self.formed.dataset

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


def run(
    home: Home, recipe: Recipe, progress: Progress, *, judged: bool, source: AnswerSource = AnswerSource.TEACHER
) -> RunOutcome:
    """Run a recipe up to its dataset; ``judged`` false leaves the answers' code alone (``stillhouse collect``)."""
    with home.alone(f"run-{recipe.run}"):
        open_run(home, recipe)
        prepared, got = _gather_rows(home, recipe, progress, judged=judged, source=source)
        started = time.monotonic()
        progress.start("form the dataset", 0)
        formed = form_dataset(home, prepared, got, reached=progress.update)
        progress.finish(f"{formed.dataset.label}: {formed.dataset.rows} rows")
        stages = {**got.stages, "dataset": time.monotonic() - started}
    return RunOutcome(prepared, got, formed, stages)


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
            or _that_count(home, recipe, got) < rows
        ):
            return prepared, got
        with form_recipe(home, prepared, got) as formed:
            lacking = recipe.dataset.rows - formed.rows
        if lacking <= 0:
            return prepared, got
        rows += lacking


def _that_count(home: Home, recipe: Recipe, got: Gathered) -> int:
    """Answers that passed, or that have no tests and are whole."""
    good = (VerdictStatus.PASSED, VerdictStatus.NOT_JUDGED)
    failed = {key for (_, key), verdict in got.verdicts.items() if verdict.status not in good}
    return sum(
        answer.key not in failed and is_usable(text, answer.finish, recipe.dataset.keep)
        for answer, text in answer_queries.with_texts(home.ledger, got.answers)
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


def plan_run(home: Home, recipe: Recipe) -> Plan:
    """What a run would do; nothing is done."""
    return prepare(home, recipe).collection.plan
