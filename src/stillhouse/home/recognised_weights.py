"""Weights that come back: sketch the models that are made here, and compare what is registered with all of them.

What is recognised inherits the stamps of the model that it is (``ledger.training_queries.model_of_weights``).
"""

from pathlib import Path

from stillhouse.clock import now
from stillhouse.errors import ModelUnusable, UnknownName
from stillhouse.generation.load_model import folder_of
from stillhouse.generation.weight_sketches import Likeness, Sampled, likeness, make_sketch, sample_weights
from stillhouse.home import facts
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Model, Teacher, TeacherKind


def sketch_model(home: Home, model: Model) -> bool:
    """Keep a model's sketch, unless there is one; returns whether there is. None can be made of quantised weights, or where its
    base is gone. Raises MissingExtra.
    """
    if model.label in {one.model for one in training_queries.sketches(home.ledger)}:
        return True
    base, folder = _base_of(home, model), home.folder / model.folder
    try:
        sketch = make_sketch(sample_weights(base), sample_weights(folder)) if base and folder.is_dir() else b""
    except ModelUnusable:  # another command says what is wrong with them
        sketch = b""
    if not sketch:
        return False
    kept = facts.ModelSketched(
        at=now(),
        by=home.recorder.by,
        model=model.label,
        weights_digest=model.weights_digest,
        sketch=home.objects.put(sketch),
    )
    home.recorder.record(kept)
    home.recorder.refresh()
    return True


def recognise(home: Home, teacher: Teacher) -> Model | None:
    """The model that a teacher's weights are, if any that was made here; what is found by sketch is written down.

    Raises MissingExtra, ModelUnusable, CorruptObject.
    """
    known = training_queries.model_of_weights(home.ledger, teacher)
    if known is not None or teacher.kind is not TeacherKind.LOCAL:
        return known
    if training_queries.is_no_copy(home.ledger, teacher.weights_digest):
        return None
    models = training_queries.models(home.ledger)
    weights: dict[str, Sampled] = sample_weights(Path(teacher.weights)) if models else {}
    if not weights:
        return None
    for model in models:
        sketch_model(home, model)  # one of an earlier version has none yet
    sketches = training_queries.sketches(home.ledger)
    found: list[tuple[Likeness, str]] = [
        (likeness(home.objects.get(one.sketch), weights), one.model) for one in sketches
    ]
    same = [(like, label) for like, label in found if like.is_same]
    if not same:
        return None
    entries = [
        facts.WeightsRecognised(
            at=now(),
            by=home.recorder.by,
            weights_digest=teacher.weights_digest,
            model=label,
            tensors=like.tensors,
            of=like.of,
        )
        for like, label in same  # all of them: they may be spliced
    ]
    home.recorder.record(*entries)
    home.recorder.refresh()
    return training_queries.model_of_weights(home.ledger, teacher)


def _base_of(home: Home, model: Model) -> Path | None:
    """The folder of the weights that a model was made of, where they can be read."""
    try:
        base = origin_queries.teacher(home.ledger, model.base)
    except UnknownName:
        return None
    folder = folder_of(Path(base.weights), base.weights_digest, home.cache / "models") if base.weights else None
    return folder if folder is not None and folder.is_dir() else None
