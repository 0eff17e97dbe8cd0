"""Write a model's passport, verify anybody's, put one into other formats, prove what is not in it."""

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stillhouse import facts
from stillhouse.app.erasure import objects_of
from stillhouse.app.home import App
from stillhouse.app.opening import machine
from stillhouse.app.permission import KEYS, ROSTER_KEYS, own_signatory
from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import UsageError
from stillhouse.identity.keys import PUBLIC, PublicKey, read_public_keys
from stillhouse.ledger import queries
from stillhouse.nouns import AccessChange, AccessKind, DatasetVersion, Model, StampSet, Use
from stillhouse.passport.check import Checked, check, digests_of, read_statement
from stillhouse.passport.disclosure import Proof, prove, why_not
from stillhouse.passport.envelope import seal
from stillhouse.passport.exports.cards import to_dataset_card, to_model_card
from stillhouse.passport.exports.croissant import to_croissant
from stillhouse.passport.exports.cyclonedx import to_cyclonedx
from stillhouse.passport.exports.eu import to_summary
from stillhouse.passport.statement import DATASET, Compute, Digests, Made, leaves, make_statement
from stillhouse.passport.weights import PASSPORT, SIGNATURE, sign_weights
from stillhouse.policy.registry import TermsVersion
from stillhouse.recorder import now
from stillhouse.students.models import check_files, files_below
from stillhouse.vault.files import write_whole


class Format(StrEnum):
    """Other people's formats."""

    CYCLONEDX = "cyclonedx"
    EU_SUMMARY = "eu-summary"
    MODEL_CARD = "model-card"
    DATASET_CARD = "dataset-card"
    CROISSANT = "croissant"


_EXPORTS: dict[Format, Callable[[Mapping[str, Any]], str]] = {
    Format.CYCLONEDX: to_cyclonedx,
    Format.EU_SUMMARY: to_summary,
    Format.MODEL_CARD: to_model_card,
    Format.DATASET_CARD: to_dataset_card,
    Format.CROISSANT: to_croissant,
}
_OF_DATASETS = (Format.DATASET_CARD, Format.CROISSANT)


def write_passport(app: App, label: str, target: Path | None = None) -> Path:
    """Write the passport of a model beside its weights, or to ``target``. Raises UnknownName, CorruptObject, KeyUnusable."""
    model = queries.model(app.ledger, label)
    check_files(app.places, model)
    folder = app.settings.home / model.folder
    files = {name: digests_of(folder / name) for name in model.files}
    dataset = queries.dataset(app.ledger, model.dataset) if model.dataset else None
    if dataset:
        objects_of(app, dataset.erasable)  # an erased dataset is said to be that, and not to be damaged
    for name, digest in (dataset.files if dataset else {}).items():
        data = app.objects.get(digest)
        files[f"{DATASET}/{name}"] = Digests(digest.partition(":")[2], hashlib.sha256(data).hexdigest())
    alone = set(files_below(folder)) - {SIGNATURE, PASSPORT} == set(model.files)  # nothing else would be signed with it
    weights = sign_weights(folder, app.settings.home / KEYS) if alone else None
    made = _made(app, model, dataset)._replace(weights=weights)
    signatory = own_signatory(app.ledger, app.settings)
    statement = make_statement(made, files, signatory.signer.public.pem, now(), signatory.name)
    envelope = seal(canonical(statement), signatory.signer)
    path = target or folder / PASSPORT  # beside the weights, where `verify` looks for them
    write_whole(path, envelope)
    written = facts.PassportWritten(
        at=now(),
        by=app.recorder.by,
        model=model.label,
        digest=digest_bytes(envelope),
        signer=signatory.signer.public.id,
    )
    app.recorder.record(written)
    app.recorder.refresh()
    return path


def _made(app: App, model: Model, dataset: DatasetVersion | None) -> Made:
    sets = queries.stamp_sets(app.ledger)
    stamps = sets[model.stamps]
    decisions = [app.policy.decide_set(stamps.stamps, use) for use in Use]
    acting = {id for decision in decisions for id in decision.waivers}
    steps = queries.steps(app.ledger, model.training) if model.training else []
    return Made(
        model=model,
        dataset=dataset,
        stamps=stamps,
        rows_by_stamps={id: sets[int(id)] for id in (dataset.stamp_sets if dataset else {})},
        decisions=decisions,
        evaluations=queries.evaluations(app.ledger, model.label),
        terms=_terms(app, stamps),
        waivers=[waiver for waiver in app.policy.waivers if waiver.id in acting],
        revocations=[change for change in app.policy.changes if change.kind == AccessKind.REVOKE],
        touched=_touched(app, stamps),
        compute=Compute(
            steps=len(steps),
            tokens=sum(step.tokens for step in steps),
            answer_tokens=sum(step.answer_tokens for step in steps),
            hours=round(sum(step.seconds for step in steps) / 3600, 4),
            machine=machine(),
        ),
        weights=None,
        parents=[str(parent) for parent in model.method.get("parents", ())] or [model.base],
    )


def _terms(app: App, stamps: StampSet) -> list[TermsVersion]:
    found = {
        version.id: version
        for stamp in stamps.stamps
        for terms in stamp.terms
        for version in app.policy.registry.governing(terms, stamp.day)
    }
    return [found[id] for id in sorted(found)]


def _touched(app: App, stamps: StampSet) -> list[str]:
    """The revocations that are in force for what a model learned from, in words."""
    found: dict[str, AccessChange] = {}
    for stamp in stamps.stamps:
        change = app.policy.revoked_by(stamp, Use.TRAIN)
        if change is not None:
            found[change.id] = change
    return [
        f"{change.lab} revoked access{' since ' + change.since if change.since else ''} ({change.id})"
        for change in found.values()
    ]


def verify_passport(path: Path, trust: Path | None, folder: Path | None, home: Path) -> Checked:
    """Verify a passport; without ``trust``, the keys of the home at hand are trusted, where there is one."""
    roots: list[PublicKey] = []
    if trust is not None:
        if not trust.exists():
            raise UsageError(f"{trust} does not exist.")
        roots = read_public_keys(trust)
    else:
        if (home / KEYS / PUBLIC).is_file():
            roots = read_public_keys(home / KEYS / PUBLIC)
        if list((home / KEYS / ROSTER_KEYS).glob("*.pub")):
            roots += read_public_keys(home / KEYS / ROSTER_KEYS)
    return check(path, folder or path.parent, roots)


def export_passport(path: Path, wanted: Format) -> str:
    """A passport in another format. Needs nothing but the file. Raises UsageError where it has no dataset and one is wanted."""
    statement = read_statement(path)
    if wanted in _OF_DATASETS and not statement["predicate"].get("dataset"):
        raise UsageError(
            f"{path} is of a model without a dataset of its own.", next_step="Export its parents' passports."
        )
    return _EXPORTS[wanted](statement)


def passport_of(app: App, label: str) -> Path:
    """Where a model's passport lies; written now where there is none. Raises UnknownName."""
    model = queries.model(app.ledger, label)
    path = app.settings.home / model.folder / PASSPORT
    return path if path.is_file() else write_passport(app, label)


def prove_absence(app: App, label: str, lab: str, after: str) -> Proof:
    """That a model learned from no row of a lab that is later than a day. Raises UnknownName, UsageError."""
    model = queries.model(app.ledger, label)
    dataset = queries.dataset(app.ledger, model.dataset) if model.dataset else None
    sets = queries.stamp_sets(app.ledger)
    rows_by_stamps = {id: sets[int(id)] for id in (dataset.stamp_sets if dataset else {})}
    return prove(leaves(sets[model.stamps].stamps, dataset, rows_by_stamps), lab, after)


def verify_absence(path: Path, proof: Path) -> tuple[Proof, str]:
    """A proof, and what is wrong with it for the list that a passport commits to. Raises UsageError."""
    try:
        given = msgspec.json.decode(proof.read_bytes(), type=Proof)
    except OSError as failure:
        raise UsageError(f"{proof} cannot be read: {failure.strerror}.") from failure
    except msgspec.MsgspecError as failure:
        raise UsageError(f"{proof} is no proof: {failure}.") from failure
    committed = read_statement(path)["predicate"].get("disclosure") or {}
    return given, why_not(given, str(committed.get("root")), int(committed.get("leaves", -1)))
