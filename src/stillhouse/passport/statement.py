"""The statement of a passport: an in-toto Statement (v1) over a model's files and its dataset's. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stillhouse.nouns import (
    AccessChange,
    DatasetVersion,
    Decision,
    Evaluation,
    Model,
    Origin,
    Stamp,
    StampSet,
    Waiver,
)
from stillhouse.permission.known_names import fold_lab, labs_in
from stillhouse.permission.terms_registry import TermsVersion, is_day

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:stillhouse:passport:v1"
# Files of the dataset stand below this name among the subjects; they seldom travel with the model.
DATASET = "dataset"
_LIMITS = (
    "The signature shows who wrote this and that it was not changed. That it is true rests on the signer's log.",
    "Decisions rest on a registry of terms in the signer's own words. They are no legal advice.",
    "Passing a handful of tests is not correctness.",
    "The texts were not audited for answers of models that no record names.",
)


class Digests(NamedTuple):
    """A file's digests as hexadecimal text, by both algorithms."""

    blake3: str
    sha256: str


class Subject(msgspec.Struct):
    """What a statement is about: a name, and digests by algorithm."""

    name: str
    digest: dict[str, str]


class Compute(msgspec.Struct, frozen=True):
    """What the training took, as its steps say; evaluation and the teachers' own compute are not in it."""

    steps: int
    tokens: int
    answer_tokens: int
    hours: float
    machine: str


class WeightsSignature(msgspec.Struct, frozen=True):
    """The OpenSSF model signature beside the weights, and the public key (PEM, P-256) that verifies it."""

    file: str
    sha256: str
    public_key: str


class Base(msgspec.Struct, frozen=True):
    """A model that this one was made of. ``name`` is what the home calls it, ``repository`` where it is published on the Hugging
    Face hub, "" where that is not known.
    """

    name: str
    model: str
    lab: str
    digest: str
    terms: tuple[str, ...]
    repository: str = ""


class Made(NamedTuple):
    """What a passport is about. ``dataset`` is None for a model that was made of others elsewhere.

    ``revocations`` are all that were in force when it was written, ``touched`` those that are about this model.
    """

    model: Model
    dataset: DatasetVersion | None
    stamps: StampSet
    rows_by_stamps: Mapping[str, StampSet]
    sets_of_answers: Mapping[str, StampSet]
    decisions: Sequence[Decision]
    evaluations: Sequence[Evaluation]
    terms: Sequence[TermsVersion]
    waivers: Sequence[Waiver]
    revocations: Sequence[AccessChange]
    touched: Sequence[str]
    compute: Compute
    weights: WeightsSignature | None
    parents: Sequence[str]
    bases: Sequence[Base]


def make_statement(
    made: Made, files: Mapping[str, Digests], public_key: str, at: str, signed_by: str = "home"
) -> dict[str, Any]:
    """The statement, as JSON values. ``files`` maps names (``dataset/...`` for the dataset's) to digests."""
    model, dataset = made.model, made.dataset
    stamps = made.stamps.stamps
    predicate = {
        "model": {
            name: value
            for name, value in msgspec.to_builtins(model).items()
            if name not in {"folder", "files", "stamps"}
        },
        "parents": list(made.parents),
        "bases": msgspec.to_builtins(tuple(made.bases)),
        "dataset": _dataset(dataset) if dataset else None,
        "origins": msgspec.to_builtins(stamps),
        "rows_by_origins": _rows_by_origins(dataset, made.rows_by_stamps) if dataset else [],
        "teachers": _distinct(f"{stamp.lab}: {stamp.model}" for stamp in stamps if stamp.model),
        "channels": _distinct(str(stamp.channel) for stamp in stamps if stamp.model),
        "shares": shares(dataset, made.rows_by_stamps, made.sets_of_answers) if dataset else [],
        "terms": _distinct(terms for stamp in stamps for terms in stamp.terms),
        "terms_versions": [_version(version) for version in made.terms],
        "decisions": msgspec.to_builtins(tuple(made.decisions)),
        "duties": _distinct(duty for decision in made.decisions for duty in decision.duties),
        "waivers": [msgspec.to_builtins(waiver) for waiver in made.waivers],
        "exclusions": [
            {"step": step.step, "why": why, "rows": rows}
            for step in (dataset.funnel if dataset else ())
            for why, rows in step.dropped.items()
        ],
        "revocations": [msgspec.to_builtins(change) for change in made.revocations],
        "revocations_that_touch_it": list(made.touched),
        "revocation_checked_as_of": at,
        "audits": [],
        "evaluations": msgspec.to_builtins(tuple(made.evaluations)),
        "compute": msgspec.to_builtins(made.compute),
        "weights_signature": msgspec.to_builtins(made.weights) if made.weights else None,
        "made": at,
        "signer": public_key,
        "signed_by": signed_by,
        "limits": list(_LIMITS),
    }
    subject = [{"name": name, "digest": digests._asdict()} for name, digests in sorted(files.items())]
    return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def _rows_by_origins(dataset: DatasetVersion, rows_by_stamps: Mapping[str, StampSet]) -> list[dict[str, Any]]:
    return [
        {
            "rows": dataset.stamp_sets[id],
            "tokens": dataset.tokens.get(id, -1),
            "origins": msgspec.to_builtins(found.stamps),
        }
        for id, found in rows_by_stamps.items()
    ]


def shares(
    dataset: DatasetVersion, rows_by_stamps: Mapping[str, StampSet], sets_of_answers: Mapping[str, StampSet]
) -> list[dict[str, Any]]:
    """Which part of the rows, and of their tokens where all were counted, each lab's models gave, and how well that is known.

    A row of several labs counts for each of them; its tokens count for those that gave them, answer by answer.
    """
    rows, tokens = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for id, found in rows_by_stamps.items():
        rows.update(dict.fromkeys(_givers(found), dataset.stamp_sets[id]))
    counted = dataset.answer_tokens or dataset.tokens
    for id, found in (sets_of_answers if dataset.answer_tokens else rows_by_stamps).items():
        tokens.update(dict.fromkeys(_givers(found), counted.get(id, 0)))
    total = sum(counted.values())
    return [
        {
            "lab": lab,
            "grade": grade,
            "rows": count,
            "of": dataset.rows,
            "row_share": round(count / dataset.rows, 6) if dataset.rows else 0.0,
            "token_share": round(tokens[lab, grade] / total, 6) if total else None,
        }
        for (lab, grade), count in sorted(rows.items())
    ]


def _givers(found: StampSet) -> set[tuple[str, str]]:
    """The labs whose models gave what carries a set, and how well that is known."""
    return {(stamp.lab or str(stamp.origin), str(stamp.grade)) for stamp in found.stamps if _gave(stamp)}


class _RowsOfOrigins(msgspec.Struct):
    rows: int
    origins: tuple[Stamp, ...]


class _Named(msgspec.Struct):
    """Of a predicate, what names origins."""

    origins: tuple[Stamp, ...]
    rows_by_origins: tuple[_RowsOfOrigins, ...]


def later_than(predicate: Mapping[str, Any], lab: str, day: str) -> list[str]:
    """What a passport names of a lab that is later than a day, one line each. An unknown day may be later than any, and an
    unknown lab may be that one; a model whose name points to a lab is of that lab, too.

    Raises msgspec.ValidationError for what is no predicate of a passport.
    """
    named = msgspec.convert(predicate, _Named)
    counted: dict[Stamp, int] = dict.fromkeys(named.origins, 0)
    for group in named.rows_by_origins:
        for stamp in group.origins:
            counted[stamp] = counted.get(stamp, 0) + group.rows
    return [
        f"{f'{rows} rows' if rows else 'not by a row'}: {stamp.model or stamp.lab or 'an unknown lab'}, "
        f"{stamp.day or 'on an unknown day'}"
        for stamp, rows in counted.items()
        if _is_later(stamp, lab, day)
    ]


def _is_later(stamp: Stamp, lab: str, day: str) -> bool:
    labs = {fold_lab(stamp.lab), *labs_in(stamp.model)} - {""}
    unknown = not labs and stamp.origin in (Origin.UNKNOWN, Origin.TEACHER)
    return (unknown or fold_lab(lab) in labs) and not (is_day(stamp.day) and stamp.day <= day)


def _gave(stamp: Stamp) -> bool:
    return stamp.origin is not Origin.PROMPT_SEED


def _dataset(dataset: DatasetVersion) -> dict[str, Any]:
    return {
        "label": dataset.label,
        "rows": dataset.rows,
        "content_digest": dataset.content_digest,
        "manifest_digest": dataset.manifest_digest,
        "funnel": msgspec.to_builtins(dataset.funnel),
        "made": dataset.made,
        **({"erasable": dataset.erasable} if dataset.erasable else {}),
    }


def _version(version: TermsVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "verdict": str(version.verdict),
        "uses": {str(use): str(verdict) for use, verdict in version.uses.items()},
        "effective": version.effective,
        "observed": version.observed,
        "text": version.text,
        "confidence": version.confidence,
    }


def _distinct(values: Any) -> list[str]:
    return sorted(set(values))
