"""Run a recipe again from the log and the vault alone, in a home of its own, and compare what comes of it.

The answers are those of the log; their code is run again, the dataset is formed again, the student is trained again. Data digests
must be equal; weights within a tolerance, since another machine adds numbers in another order. What differs is named. A model
is trained again only where policy allows that today.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.current_permission import Permission, home_key, load, policy_of
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries, training_queries
from stillhouse.home.open_home import Home, create_home, open_home
from stillhouse.home.policy_documents import in_force
from stillhouse.home.progress import Progress
from stillhouse.home.settings import Settings, read_settings
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import DatasetVersion, Model, Use
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.chain import replay as replay_chain
from stillhouse.permission.decide import Door, Policy
from stillhouse.runs.distil import distil
from stillhouse.runs.form_dataset import form_recipe
from stillhouse.runs.recipe import Recipe
from stillhouse.runs.run_manifest import recipe_of, same_environment, stored_run
from stillhouse.runs.run_recipe import prepare
from stillhouse.runs.stored_prompts import is_prompts
from stillhouse.teachers.collect import AnswerSource

# Of the largest weight, and of a step's loss: bf16 keeps eight bits, and errors of one step feed the next. On one machine with
# one set of packages both are 0.
WEIGHT_TOLERANCE, LOSS_TOLERANCE = 1e-2, 2e-2
_COPIED = (
    facts.TeacherRegistered,
    facts.StampsSeen,
    facts.PromptSeen,
    facts.Answered,
    facts.ModelTrained,
)


def replay(home: Home, name: str, progress: Progress) -> dict[str, Any]:
    """Run it again and compare. Raises UnknownName, CorruptObject, and what running raises."""
    stored = stored_run(home, name)
    scratch = home.cache / "replays" / stored.run
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        return _replay(home, name, stored, scratch, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replay(home: Home, name: str, stored: facts.RunOpened, scratch: Path, progress: Progress) -> dict[str, Any]:
    recipe = recipe_of(home, stored, scratch / "inputs")
    dataset, model = _came_of_it(home, name, stored, recipe)
    until = model.made if model is not None else dataset.made
    differences = same_environment(home, stored)
    denied = _denied_today(home, dataset, model)
    train = model is not None and not denied
    if denied:
        differences.append(f"training was not repeated: {denied}")
    shown = recipe if train else msgspec.structs.replace(recipe, train=None, eval=None)
    again = _scratch_home(home, stored, scratch, recipe, until)
    with again:
        done = distil(again, shown, progress, evaluated=False, source=AnswerSource.LOG)
        made, trained = done.outcome.dataset, done.trained
        content = made.content_digest
        if not dataset.index:  # the same rows, by what stood for rows then
            with form_recipe(again, done.outcome.prepared, done.outcome.got) as formed:
                content = objects_of(home, dataset.erasable).alias(formed.digest_before_2026_12())
        losses = (
            {step.step: step.loss for step in training_queries.steps(again.ledger, trained.model.training)}
            if trained
            else {}
        )
        files = (
            {name: again.settings.home / trained.model.folder / name for name in trained.model.files} if trained else {}
        )
        weights = _compare_weights(home, model, files) if model is not None and trained is not None else None
    value: dict[str, Any] = {
        "run": stored.run,
        "dataset": {"was": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest},
        "again": {"rows": made.rows, "content_digest": content},
        "data_equal": content == dataset.content_digest,
        "model": model.label if model else None,
        "weights": weights,
        "differences": differences,
    }
    if weights is not None and model is not None:
        then = {step.step: step.loss for step in training_queries.steps(home.ledger, model.training)}
        apart = max((abs(then[step] - losses[step]) for step in then.keys() & losses.keys()), default=0.0)
        value["losses"] = {"steps": len(then), "furthest_apart": apart, "tolerance": LOSS_TOLERANCE}
        value["weights_within_tolerance"] = weights["furthest_apart"] <= WEIGHT_TOLERANCE and apart <= LOSS_TOLERANCE
    return value


def _came_of_it(home: Home, name: str, stored: facts.RunOpened, recipe: Recipe) -> tuple[DatasetVersion, Model | None]:
    """What is repeated: the version or the model that was named, or the newest that came of the run."""
    datasets = dataset_queries.datasets_of_run(home.ledger, stored.run, recipe.dataset.name)
    if not datasets:
        raise UnknownName(
            f"The run {stored.run} never came to a dataset.", next_step="Run its recipe to the end first."
        )
    made_of = next((model.dataset for model in training_queries.models(home.ledger) if name == model.label), "")
    dataset = next((version for version in datasets if version.label in (name, made_of)), datasets[-1])
    models = [
        model
        for model in training_queries.models(home.ledger)
        if model.dataset == dataset.label and model.name == recipe.model
    ]
    return dataset, models[-1] if models and recipe.train is not None else None


def _denied_today(home: Home, dataset: DatasetVersion, model: Model | None) -> str:
    """Why a model may not be trained again today: its rows, what it starts from, what it learned the distribution of."""
    denied = home.policy.check_rows(dataset.stamp_sets, origin_queries.stamp_sets(home.ledger), Use.TRAIN).denied
    if denied:
        return f"{denied} of {dataset.rows} rows may not be used to train today"
    for name in (model.base, str(model.method.get("teacher") or "")) if model else ():
        if name:
            stamps = stamps_of(home.ledger, origin_queries.teacher(home.ledger, name), purpose=Use.TRAIN)
            decision = home.policy.check(Door.USE, stamps, Use.TRAIN)
            if not decision.allowed:
                return f"{name} may not be used to train today ({decision.reason})"
    return ""


def _scratch_home(home: Home, stored: facts.RunOpened, scratch: Path, recipe: Recipe, until: str) -> Home:
    """A home that knows what was known when the run came to its end, and nothing that came of it."""
    root = scratch / "home"
    for name, digest in stored.inputs.items():
        if not is_prompts(name):
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(home.objects.get(digest))
    settings = msgspec.structs.replace(read_settings(root, {}), checkpoints=None, key_stores=home.settings.key_stores)
    create_home(settings)
    again = open_home(settings)
    policy = _policy_then(home, settings, until)
    again.doors.follow(again.marker, lambda: policy)
    keys = {ask.key for ask in prepare(home, recipe, source=AnswerSource.LOG).collection.wanted}
    versions = [dataset_queries.dataset(home.ledger, label) for label in recipe.dataset.mix]
    mixed = {version.label for version in versions}
    keys |= {row.key for version in versions for row in dataset_queries.placements(home.ledger, home.objects, version)}
    keys |= set(answer_queries.answers_of_run(home.ledger, stored.run))
    teacher = origin_queries.teacher(home.ledger, recipe.teacher.use).name
    for version in versions:
        objects_of(home, version.erasable)  # what was erased stays so, whatever a key store still has
        for digest in (*version.files.values(), *version.index):
            again.objects.put(home.objects.get(digest))
    for writer in home.log.writers():
        for entry in home.log.read(writer):
            fact = facts.decode(entry.payload)
            if isinstance(fact, facts.TeacherApproved):  # the scratch home has no chain of permission of its own
                fact = facts.TeacherRegistered(at=fact.at, by=fact.by, teacher=fact.teacher)
            if fact.at <= until and _wanted(fact, keys, teacher, mixed, until):
                again.recorder.record(fact)
    again.recorder.refresh()
    return again


def _policy_then(home: Home, settings: Settings, until: str) -> Policy:
    """What decided then: the facts, rules and terms that the run began with, and all that was permitted up to its end."""
    acts = tuple(act for act in load(home.ledger, home.settings).acts if act.at <= until)
    state = replay_chain([act.entry for act in acts], home_key(home.settings)) if acts else ChainState()
    return policy_of(in_force(settings, state, home.objects), Permission(state, acts), until[:10])


def _wanted(fact: facts.Fact, keys: set[str], teacher: str, mixed: set[str], until: str) -> bool:
    if isinstance(fact, facts.DatasetFormed):
        return fact.dataset.label in mixed
    if isinstance(fact, facts.ErasureKeyMade):
        return True
    if isinstance(fact, facts.Answered):
        # A recipe that adapts finds what it wants among all that its teacher gave.
        return fact.key in keys or fact.teacher == teacher
    if isinstance(fact, facts.ModelTrained):  # not what came of this very run
        return not fact.model.dataset or fact.model.dataset in mixed or fact.model.made < until
    return isinstance(fact, _COPIED)


def _compare_weights(home: Home, model: Model, files: dict[str, Path]) -> dict[str, Any]:
    """How far the weights are apart, as a part of the largest one."""
    from safetensors.torch import load_file

    furthest, same = 0.0, True
    for name, path in files.items():
        if not name.endswith(".safetensors"):
            continue
        then, now = load_file(home.folder / model.folder / name), load_file(path)
        if then.keys() != now.keys():
            return {"equal": False, "furthest_apart": 1.0, "tolerance": WEIGHT_TOLERANCE}
        for key, tensor in then.items():
            apart = float((tensor.float() - now[key].float()).abs().max())
            largest = float(tensor.float().abs().max()) or 1.0
            furthest, same = max(furthest, apart / largest), same and apart == 0.0
    return {"equal": same, "furthest_apart": furthest, "tolerance": WEIGHT_TOLERANCE}
