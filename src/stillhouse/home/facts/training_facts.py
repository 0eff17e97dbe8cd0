"""Entries about runs and models."""

import msgspec

from stillhouse.home.facts.declarations import Fact, Kept, Table
from stillhouse.nouns import Evaluation, Model


class RunOpened(Fact, frozen=True, tag="run-opened"):
    """A recipe begins to run. Everything that it takes to run it again is in the objects that it names by digest."""

    run: str
    recipe: str
    inputs: dict[str, str]
    code: str
    environment: str
    machine: str

    tables = (Table("runs", indexes=("run",)),)
    keeps = (Kept("run:{0.run}", "recipe", "inputs", "code", "environment"),)


class StepTaken(Fact, frozen=True, tag="step-taken"):
    """One step of a training: what it learned from, and how it went. A step that a kill made happen twice stands twice.

    ``shares`` counts its answer tokens by stamp set.
    """

    training: str
    step: int
    records: tuple[str, ...]
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float
    shares: dict[str, int] = msgspec.field(default_factory=dict)

    tables = (
        Table("steps", indexes=("training",), without=("records",)),
        Table(
            "fed",
            indexes=("training", "key"),
            each="records",
            columns={"key": "records"},
            without=("tokens", "answer_tokens", "loss", "learning_rate", "seconds", "shares"),
        ),
    )


class ModelTrained(Fact, frozen=True, tag="model-trained"):
    """A model exists; from now on its weights are known by their digest."""

    model: Model

    tables = (
        Table(
            "models",
            indexes=("name", "weights_digest", "training"),
            columns={name: f"model.{name}" for name in ("name", "version", "weights_digest", "training")},
        ),
    )


class Evaluated(Fact, frozen=True, tag="evaluated"):
    """Models were evaluated on a suite; ``subject`` is the one that it was done for."""

    subject: str
    evaluation: Evaluation

    tables = (Table("evaluations", indexes=("subject",), columns={"suite": "evaluation.suite"}),)


class PassportWritten(Fact, frozen=True, tag="passport-written"):
    """A passport was given out. ``digest`` is that of its file, ``signer`` the key that signed it."""

    model: str
    digest: str
    signer: str

    tables = (Table("passports", indexes=("model",)),)


class ModelSketched(Fact, frozen=True, tag="model-sketched"):
    """What a model's weights can be known by when they come back: ``sketch`` is an object (``generation.weight_sketches``)."""

    model: str
    weights_digest: str
    sketch: str

    tables = (Table("sketches", indexes=("model",)),)
    keeps = (Kept("model:{0.model}", "sketch"),)


class WeightsRecognised(Fact, frozen=True, tag="weights-recognised"):
    """Weights of another digest were found to be a known model's: so many of its changed tensors, of those that could tell."""

    weights_digest: str
    model: str
    tensors: int
    of: int

    tables = (Table("recognised", indexes=("weights_digest",)),)
