"""Train the student of a recipe on a dataset version; and the same on what was not verified, to compare."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stillhouse.canon import digest_of_list
from stillhouse.datasets.shards import read_rows
from stillhouse.errors import MissingExtra, ModelUnusable, PolicyRefusal, UnknownName, UsageError
from stillhouse.generation.weights import weights_digest
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.home.recognised_weights import sketch_model
from stillhouse.nouns import DatasetVersion, Message, Model, Plan, Signal, Teacher, TeacherKind
from stillhouse.runs.recipe import Recipe, Target, TrainSection
from stillhouse.vault.objects import Objects

if TYPE_CHECKING:
    from stillhouse.students.documents import Record
    from stillhouse.students.training import PreparedTraining

# What the comparison's dataset and model are called.
UNVERIFIED = "unverified"
_CONVERSATION = (
    "a conversation with calls of tools is not trained on here yet (`dataset export --format trl` writes it)"
)


class Trained(NamedTuple):
    """A model, what it started from and learned the distribution of, and how many answer tokens an epoch of it has."""

    model: Model
    student: Teacher
    teacher: Teacher | None
    answer_tokens: int


def train_on(
    home: Home,
    recipe: Recipe,
    dataset: DatasetVersion,
    progress: Progress,
    *,
    processes: int = 0,
    like: Trained | None = None,
) -> Trained:
    """Train as a recipe says. ``like`` trains the comparison: another dataset, as many answer tokens, a name that says so.

    ``processes`` 0 is one for each GPU, or one. Raises PolicyRefusal, TrainingError and what reading a model raises.
    """
    section = recipe.train
    assert section is not None
    name = _name(recipe, like)
    progress.start(f"train {name}", 0)
    progress.say("reading the student")
    with home.alone(f"train-{name}"):
        prepared = prepare_training_of(home, recipe, dataset, processes=processes, like=like)
        from stillhouse.students.training import carry_out

        listener = _Listener(progress, name)
        if prepared.ready is not None:
            listener.begin(len(prepared.ready.steps), prepared.ready.alone)
        model = carry_out(home.recorder, home.places, prepared, listener)
        sketch_model(home, model)
    steps = training_queries.steps(home.ledger, model.training)
    answer_tokens = sum(step.answer_tokens for step in steps) // section.epochs
    progress.finish(f"{model.label}: {model.steps} steps, loss {model.loss:.3f}")
    return Trained(model, prepared.student, prepared.teacher, answer_tokens)


def prepare_training_of(
    home: Home, recipe: Recipe, dataset: DatasetVersion, *, processes: int = 0, like: Trained | None = None
) -> "PreparedTraining":
    """Resolve what a recipe says of training, ask policy, and decide every step; nothing is done yet."""
    try:
        from stillhouse.students.training import TrainingOptions, prepare_training
    except ImportError as failure:
        raise MissingExtra(
            f"Training needs torch, transformers, accelerate and peft ({failure.name} is missing).",
            next_step="pip install 'stillhouse[train]'",
        ) from failure
    check_processes(dataset.erasable, processes)
    section = recipe.train
    assert section is not None
    student, teacher = resolve_student(home, section.student, Path(recipe.folder)), _distribution(home, recipe, section)
    options = TrainingOptions(
        name=_name(recipe, like),
        method=section.method,
        rank=section.rank,
        learning_rate=section.learning_rate,
        epochs=section.epochs,
        seed=section.seed,
        signal=section.signal,
        layers=section.layers,
        gradient_checkpointing=section.gradient_checkpointing,
        processes=processes or (1 if dataset.erasable else _devices()),
        answer_tokens=like.answer_tokens if like else 0,
        chat_template=section.chat_template,
    )
    objects = objects_of(home, dataset.erasable)

    def records() -> "Iterator[Record]":
        return _records(objects, dataset, section.target)

    contents = objects.alias(digest_of_list([record.key, record.response] for record in records()))
    return prepare_training(home.doors, home.places, student, teacher, dataset, records, contents, options)


def plan_training(home: Home, recipe: Recipe, dataset: DatasetVersion) -> Plan:
    """What a training would do; nothing is left of having looked."""
    from stillhouse.students.token_file import discard_tokens

    prepared = prepare_training_of(home, recipe, dataset)
    discard_tokens(Path(prepared.job.folder))
    return prepared.plan


def check_processes(erasable: str, processes: int) -> None:
    """May so many train on what can be erased as this? Raises UsageError."""
    if erasable and processes > 1:
        raise UsageError(
            f"Rows of {erasable} can be erased, and several processes would read them from an unencrypted file.",
            next_step="Train in one process.",
        )


def check_models(home: Home, recipe: Recipe) -> None:
    """Are the models there that a recipe trains and learns from? Better known before answers are bought. Raises UnknownName,
    UsageError, PolicyRefusal.
    """
    if recipe.train is not None:
        resolve_student(home, recipe.train.student, Path(recipe.folder))
        _distribution(home, recipe, recipe.train)


def resolve_student(home: Home, name: str, folder: Path) -> Teacher:
    """The weights that a student starts from, as what they are registered as.

    ``name`` is a registered local teacher, a model of the log, a path, or a hub name that is fetched or was. A path stands for
    whatever its weights are known as. Raises UnknownName, PolicyRefusal where nobody knows where they come from.
    """
    try:
        registered = origin_queries.teacher(home.ledger, name)
    except UnknownName:
        path = folder / name if (folder / name).exists() else _from_hub(name)
    else:
        if registered.kind is not TeacherKind.LOCAL:
            raise UsageError(
                f"{name} answers over {registered.kind}, and a student needs weights.",
                next_step="Name a local model: a registered one, a folder or a .gguf file.",
            )
        return registered
    digest = weights_digest(path)
    for known in origin_queries.teachers(home.ledger):
        if known.weights_digest == digest:
            return msgspec.structs.replace(known, weights=str(path.absolute()))
    raise PolicyRefusal(
        f"{path} may not be trained: the origin of these weights is not recorded, and unknown is denied.",
        next_step=f"Register them: stillhouse teacher add NAME --kind local --weights {path} --model M --lab L "
        "--channel open-weights --terms licence/ID",
    )


def _from_hub(name: str) -> Path:
    """The folder of a hub name (``owner/model``), from its cache or from the hub."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except HFValidationError:
        known = "`stillhouse teacher list` and `stillhouse model list` show what there is"
        raise UnknownName(f"There is no model, teacher or path {name!r}.", next_step=f"{known}.") from None
    except Exception:  # not in the cache: whatever the library calls that
        pass
    if "/" not in name:
        raise UnknownName(f"There is no model, teacher or path {name!r}.")
    try:
        return Path(huggingface_hub.snapshot_download(name))
    except Exception as failure:
        raise ModelUnusable(
            f"{name} is no path here, and the hub does not give it: {(str(failure).splitlines() or ['?'])[0]}"
        ) from failure


def _distribution(home: Home, recipe: Recipe, section: TrainSection) -> Teacher | None:
    """The teacher whose distribution is learned, where text alone is not."""
    if section.signal is Signal.TEXT:
        return None
    return resolve_student(home, section.teacher or recipe.teacher.use, Path(recipe.folder))


def _records(objects: Objects, dataset: DatasetVersion, target: Target) -> "Iterator[Record]":
    from stillhouse.students.documents import Record

    for row in read_rows(objects, dataset):
        place = (row["task"], row["sample"])
        if row.get("conversation"):
            yield Record(row["key"], (), row["conversation"], row["stamps"], place, _CONVERSATION)
            continue
        code = target is Target.CODE and row["code"]
        response = f"```python\n{row['code'].rstrip()}\n```" if code else row["response"]
        messages = tuple(Message(**message) for message in row["messages"])
        yield Record(row["key"], messages, response, row["stamps"], place)


def _name(recipe: Recipe, like: Trained | None) -> str:
    return f"{recipe.model}-{UNVERIFIED}" if like else recipe.model


def _devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


class _Listener:
    """Shows how a training goes."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def begin(self, steps: int, alone: str) -> None:
        """The steps are known."""
        self._progress.start(f"train {self._name}", steps)
        if alone:
            self._progress.say(f"one document at a time: {alone}")

    def __call__(self, event: object) -> None:
        from stillhouse.students.training_loop import Note, Resumed, StepDone

        match event:
            case Note(message):
                self._progress.say(message)
            case Resumed(step):
                self._progress.say(f"going on after step {step}")
                self._progress.update(step)
            case StepDone():
                speed = event.tokens / max(event.seconds, 1e-9)
                self._progress.update(event.step, f"loss {event.loss:.3f}, {speed:,.0f} tokens/s")
