"""Models that were made of others outside of a training here: merged, quantised, distilled. They inherit every stamp."""

from pathlib import Path

from stillhouse.canon import digest_file
from stillhouse.clock import now
from stillhouse.errors import NameTaken, UsageError
from stillhouse.generation.weights import tensor_digests, weights_digest
from stillhouse.home import facts
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.model_files import as_teacher, files_below
from stillhouse.home.open_home import Home
from stillhouse.home.recognised_weights import recognise, sketch_model
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Channel, How, Model, Teacher, TeacherKind, Use
from stillhouse.permission.stamp_sets import stamp_set


def derive_model(home: Home, name: str, parents: list[str], how: How, weights: Path) -> Model:
    """Write a child down. What its weights are recognised as is a parent, too. Raises UnknownName, UsageError, NameTaken."""
    if "@" in name or not name or "/" in name:
        raise UsageError(f"{name!r} is not a valid name for a model: use one word without @ or /.")
    if not weights.exists():
        raise UsageError(f"{weights} does not exist.")
    sources = [origin_queries.teacher(home.ledger, parent) for parent in parents]
    sources += _also_made_of(home, weights, sources)
    stamps = stamp_set(stamp for source in sources for stamp in stamps_of(home.ledger, source, purpose=Use.TRAIN))
    folder = weights if weights.is_dir() else weights.parent
    names = files_below(weights) if weights.is_dir() else [weights.name]
    digest = weights_digest(weights)
    known = training_queries.models(home.ledger)
    same = next((model for model in known if model.weights_digest == digest), None)
    if same is not None:
        raise NameTaken(f"These weights are {same.label} already.", next_step="`stillhouse model show` says what of.")
    child = Model(
        name=name,
        version=1 + max((model.version for model in known if model.name == name), default=0),
        weights_digest=digest,
        files={file: digest_file(folder / file) for file in names},
        folder=str(folder.absolute()),
        base=sources[0].name,
        base_digest=sources[0].weights_digest,
        dataset="",
        dataset_digest="",
        training="",
        method={"method": str(how), "parents": [source.name for source in sources]},
        stamps=stamps.id,
        rows=0,
        left_out={},
        steps=0,
        tokens=0,
        loss=0.0,
        made=now(),
    )
    at, by = now(), home.recorder.by
    edges = []
    for source in sources:
        trained = training_queries.model_of_weights(home.ledger, source)
        parent = f"model:{trained.label}" if trained else f"teacher:{source.name}"
        edges.append(facts.Derived(at=at, by=by, parent=parent, child=f"model:{child.label}", kind=str(how)))
    teacher = as_teacher(home.places, child)
    taught = facts.Derived(
        at=at, by=by, parent=f"model:{child.label}", child=f"teacher:{child.label}", kind="teaches as"
    )
    registered = facts.TeacherRegistered(at=at, by=by, teacher=teacher)
    home.recorder.intern([stamps], {})
    home.recorder.record(*edges, facts.ModelTrained(at=at, by=by, model=child), registered, taught)
    home.recorder.refresh()
    if how is not How.QUANTISED:
        sketch_model(home, child)
    return child


def _also_made_of(home: Home, weights: Path, sources: list[Teacher]) -> list[Teacher]:
    """What some weights are, and was not named as a parent: teachers that are registered with them, and models that they are
    recognised as.
    """
    tensors = tensor_digests(weights)
    stranger = Teacher(
        name="", kind=TeacherKind.LOCAL, model="", lab="", channel=Channel.UNKNOWN, terms=(),
        weights=str(weights), weights_digest=weights_digest(weights), tensors=tensors,
    )  # fmt: skip
    recognise(home, stranger)
    given = {stranger.weights_digest, *tensors}
    found = [
        known for known in (*origin_queries.teachers(home.ledger), *origin_queries.draft_teachers(home.ledger))
        if given & {known.weights_digest, *known.tensors}
    ]  # fmt: skip
    found += [as_teacher(home.places, model) for model in training_queries.models_of_weights(home.ledger, stranger)]
    named = {source.name for source in sources}
    return list({teacher.name: teacher for teacher in found if teacher.name not in named}.values())
