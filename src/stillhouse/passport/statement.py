"""The statement of a passport: an in-toto Statement (v1) over a model's files and its dataset's. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stillhouse.nouns import DatasetVersion, Decision, Evaluation, Model, StampSet

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:stillhouse:passport:v1"
# Files of the dataset stand below this name among the subjects; they seldom travel with the model.
DATASET = "dataset"
_LIMITS = (
    "The signature shows who wrote this and that it was not changed. That it is true rests on the signer's log.",
    "Decisions rest on a registry of terms in the signer's own words. They are no legal advice.",
    "Passing a handful of tests is not correctness.",
)


class Digests(NamedTuple):
    """A file's digests as hexadecimal text, by both algorithms."""

    blake3: str
    sha256: str


class Made(NamedTuple):
    """What a passport is about."""

    model: Model
    dataset: DatasetVersion
    stamps: StampSet
    rows_by_stamps: Mapping[str, StampSet]
    decisions: Sequence[Decision]
    evaluations: Sequence[Evaluation]


def make_statement(made: Made, files: Mapping[str, Digests], public_key: str, at: str) -> dict[str, Any]:
    """The statement, as JSON values. ``files`` maps names (``dataset/...`` for the dataset's) to digests."""
    model, dataset = made.model, made.dataset
    stamps = [msgspec.to_builtins(stamp) for stamp in made.stamps.stamps]
    predicate = {
        "model": {
            name: value
            for name, value in msgspec.to_builtins(model).items()
            if name not in {"folder", "files", "stamps"}
        },
        "dataset": {
            "label": dataset.label,
            "rows": dataset.rows,
            "content_digest": dataset.content_digest,
            "manifest_digest": dataset.manifest_digest,
            "funnel": msgspec.to_builtins(dataset.funnel),
            "made": dataset.made,
        },
        "origins": stamps,
        "rows_by_origins": [
            {"rows": dataset.stamp_sets[id], "origins": msgspec.to_builtins(found.stamps)}
            for id, found in made.rows_by_stamps.items()
        ],
        "teachers": _distinct(f"{stamp['lab']}: {stamp['model']}" for stamp in stamps if stamp["model"]),
        "channels": _distinct(stamp["channel"] for stamp in stamps if stamp["model"]),
        "terms": _distinct(terms for stamp in stamps for terms in stamp["terms"]),
        "decisions": msgspec.to_builtins(tuple(made.decisions)),
        "evaluations": msgspec.to_builtins(tuple(made.evaluations)),
        "made": at,
        "revocation_checked_as_of": None,  # there is no list of revocations yet that could have been asked
        "signer": public_key,
        "limits": list(_LIMITS),
    }
    subject = [{"name": name, "digest": digests._asdict()} for name, digests in sorted(files.items())]
    return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def _distinct(values: Any) -> list[str]:
    return sorted(set(values))
