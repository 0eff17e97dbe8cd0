"""Models, the steps of their training, and evaluations."""

from typing import NamedTuple

from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import permission_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered, recorded
from stillhouse.nouns import Evaluation, Model, NotACopy, Teacher


class StoredStep(NamedTuple):
    """A step of a training, as it was first taken."""

    step: int
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float


def models(ledger: Ledger) -> list[Model]:
    """All models that were trained here, by name and version."""
    found: dict[str, Model] = {}
    for row in as_written(all_rows(ledger, ordered(tables.models))):
        model = decode(row.model, Model)
        found.setdefault(model.label, model)
    return sorted(found.values(), key=lambda model: (model.name, model.version))


def model(ledger: Ledger, label: str) -> Model:
    """One model by ``name@version``, or the newest by ``name``. Raises UnknownName."""
    known = models(ledger)
    for version in reversed(known):
        if label in (version.label, version.name):
            return version
    names = ", ".join(version.label for version in known) or "none"
    raise UnknownName(f"No model is called {label!r}; there is: {names}.")


def models_of_weights(ledger: Ledger, teacher: Teacher) -> tuple[Model, ...]:
    """The models of the log that a teacher is, or is made of: by the digest of all that makes its answers, by any file of
    tensors, and as what its weights were recognised (``home.recognised_weights``).
    """
    if not teacher.weights_digest:
        return ()
    given, labels = {teacher.weights_digest, *teacher.tensors}, recognised(ledger, teacher.weights_digest)
    return tuple(
        one for one in models(ledger) if one.label in labels or given & {one.weights_digest, *one.files.values()}
    )


def model_of_weights(ledger: Ledger, teacher: Teacher) -> Model | None:
    """The first of them, if any."""
    return next(iter(models_of_weights(ledger, teacher)), None)


def recognised(ledger: Ledger, weights: str) -> frozenset[str]:
    """The labels of the models that weights were recognised as; none where they were found to be no copy."""
    query = ordered(tables.recognised).where(tables.recognised.c.weights_digest == weights)
    labels = frozenset(row.model for row in all_rows(ledger, query))
    return labels if labels and not is_no_copy(ledger, weights) else frozenset()


def is_no_copy(ledger: Ledger, weights: str) -> bool:
    """Was it found, and signed, that some weights are no copy of any that are known?"""
    contents = (act.entry.content for act in permission_queries.acts(ledger))
    return any(isinstance(content, NotACopy) and content.weights == weights for content in contents)


def sketches(ledger: Ledger) -> list[facts.ModelSketched]:
    """What models that were made here can be recognised by."""
    return recorded(ledger, facts.ModelSketched)


def model_of_training(ledger: Ledger, training: str) -> Model | None:
    """The model that came of a training, where it came to an end."""
    query = ordered(tables.models).where(tables.models.c.training == training)
    return next((decode(row.model, Model) for row in all_rows(ledger, query)), None)


def steps(ledger: Ledger, training: str) -> list[StoredStep]:
    """The steps of a training in order."""
    found: dict[int, StoredStep] = {}
    for row in all_rows(ledger, ordered(tables.steps).where(tables.steps.c.training == training)):
        step = StoredStep(row.step, row.tokens, row.answer_tokens, row.loss, row.learning_rate, row.seconds)
        found.setdefault(step.step, step)
    return [found[number] for number in sorted(found)]


def fed(ledger: Ledger, training: str) -> dict[int, tuple[str, ...]]:
    """Which records fed which step of a training, in order."""
    found: dict[int, dict[str, None]] = {}
    for row in all_rows(ledger, ordered(tables.fed).where(tables.fed.c.training == training)):
        found.setdefault(row.step, {})[row.key] = None
    return {step: tuple(found[step]) for step in sorted(found)}


def evaluations(ledger: Ledger, subject: str) -> list[Evaluation]:
    """What a model was found to be worth: every evaluation, oldest first. None displaces another."""
    query = ordered(tables.evaluations).where(tables.evaluations.c.subject == subject)
    rows = as_written(all_rows(ledger, query))
    return [decode(text, Evaluation) for text in dict.fromkeys(row.evaluation for row in rows)]
