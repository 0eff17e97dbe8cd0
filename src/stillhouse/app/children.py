"""Models that were made of others outside of a training here: merged, quantised, distilled. They inherit every stamp."""

from pathlib import Path

from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.canon import digest_file
from stillhouse.errors import NameTaken, UsageError
from stillhouse.generation.weights import weights_digest
from stillhouse.ledger import queries
from stillhouse.nouns import How, Model, Use
from stillhouse.recorder import now, stamp_set
from stillhouse.students.models import as_teacher, files_below


def derive_model(app: App, name: str, parents: list[str], how: How, weights: Path) -> Model:
    """Write a child down. Raises UnknownName, UsageError, NameTaken."""
    if "@" in name or not name or "/" in name:
        raise UsageError(f"{name!r} is no name for a model: one word without @ or /.")
    if not weights.exists():
        raise UsageError(f"{weights} does not exist.")
    sources = [queries.teacher(app.ledger, parent) for parent in parents]
    stamps = stamp_set(stamp for source in sources for stamp in app.recorder.stamps_of(source, purpose=Use.TRAIN))
    folder = weights if weights.is_dir() else weights.parent
    names = files_below(weights) if weights.is_dir() else [weights.name]
    digest = weights_digest(weights)
    known = queries.models(app.ledger)
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
    at, by = now(), app.recorder.by
    edges = []
    for source in sources:
        trained = queries.model_of_weights(app.ledger, source)
        parent = f"model:{trained.label}" if trained else f"teacher:{source.name}"
        edges.append(facts.Derived(at=at, by=by, parent=parent, child=f"model:{child.label}", kind=str(how)))
    teacher = as_teacher(app.places, child)
    taught = facts.Derived(
        at=at, by=by, parent=f"model:{child.label}", child=f"teacher:{child.label}", kind="teaches as"
    )
    registered = facts.TeacherRegistered(at=at, by=by, teacher=teacher)
    app.recorder.intern([stamps], {})
    app.recorder.record(*edges, facts.ModelTrained(at=at, by=by, model=child), registered, taught)
    app.recorder.refresh()
    return child
