"""Write a model's passport, verify anybody's, put one into other formats."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from stillhouse.canon import canonical, digest_bytes
from stillhouse.clock import now
from stillhouse.errors import UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import KEYS, ROSTER_KEYS, own_signatory
from stillhouse.home.environment import machine
from stillhouse.home.erasable_sources import objects_of
from stillhouse.home.ledger import dataset_queries, origin_queries, training_queries
from stillhouse.home.model_files import check_files, files_below
from stillhouse.home.open_home import Home
from stillhouse.nouns import AccessChange, AccessKind, DatasetVersion, Model, StampSet, Teacher, Use
from stillhouse.passport.envelope import seal
from stillhouse.passport.exports.cards import to_dataset_card, to_model_card
from stillhouse.passport.exports.croissant import to_croissant
from stillhouse.passport.exports.cyclonedx import to_cyclonedx
from stillhouse.passport.exports.eu import to_summary
from stillhouse.passport.exports.licences import published
from stillhouse.passport.exports.spdx import to_spdx
from stillhouse.passport.statement import DATASET, Base, Compute, Digests, Made, make_statement
from stillhouse.passport.verify_passport import Checked, check, digests_of, read_sealed
from stillhouse.passport.weights_signature import PASSPORT, SIGNATURE, sign_weights
from stillhouse.permission.decide import Door
from stillhouse.permission.known_origins import known_weights
from stillhouse.permission.signing_keys import PUBLIC, PublicKey, read_public_keys
from stillhouse.permission.terms_registry import TermsVersion
from stillhouse.vault.files import write_whole

# owner/name, as the hub has it.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Format(StrEnum):
    """Other people's formats."""

    CYCLONEDX = "cyclonedx"
    EU_SUMMARY = "eu-summary"
    MODEL_CARD = "model-card"
    DATASET_CARD = "dataset-card"
    CROISSANT = "croissant"
    SPDX = "spdx"


_EXPORTS: dict[Format, Callable[[Mapping[str, Any]], str]] = {
    Format.CYCLONEDX: to_cyclonedx,
    Format.EU_SUMMARY: to_summary,
    Format.MODEL_CARD: to_model_card,
    Format.DATASET_CARD: to_dataset_card,
    Format.CROISSANT: to_croissant,
    Format.SPDX: to_spdx,
}
_OF_DATASETS = (Format.DATASET_CARD, Format.CROISSANT)


def write_passport(home: Home, label: str, target: Path | None = None) -> Path:
    """Write the passport of a model beside its weights, or to ``target``. Raises UnknownName, CorruptObject, KeyUnusable."""
    at = now()  # what is revoked from now on was revoked since
    home.doors.changed()  # and what others revoked until now is in it
    model = training_queries.model(home.ledger, label)
    check_files(home.places, model)
    folder = home.folder / model.folder
    files = {name: digests_of(folder / name) for name in model.files}
    dataset = dataset_queries.dataset(home.ledger, model.dataset) if model.dataset else None
    if dataset:
        objects_of(home, dataset.erasable)  # an erased dataset is said to be that, and not to be damaged
    for name, digest in (dataset.files if dataset else {}).items():
        data = home.objects.get(digest)
        files[f"{DATASET}/{name}"] = Digests(digest.partition(":")[2], hashlib.sha256(data).hexdigest())
    alone = set(files_below(folder)) - {SIGNATURE, PASSPORT} == set(model.files)  # nothing else would be signed with it
    weights = sign_weights(folder, home.folder / KEYS) if alone else None
    made = _made(home, model, dataset)._replace(weights=weights)
    signatory = own_signatory(home.ledger, home.settings)
    statement = make_statement(made, files, signatory.signer.public.pem, at, signatory.name)
    envelope = seal(canonical(statement), signatory.signer)
    path = target or folder / PASSPORT  # beside the weights, where `verify` looks for them
    write_whole(path, envelope)
    written = facts.PassportWritten(
        at=at,
        by=home.recorder.by,
        model=model.label,
        digest=digest_bytes(envelope),
        signer=signatory.signer.public.id,
    )
    home.recorder.record(written)
    home.recorder.refresh()
    return path


def _made(home: Home, model: Model, dataset: DatasetVersion | None) -> Made:
    sets = origin_queries.stamp_sets(home.ledger)
    stamps = sets[model.stamps]
    decisions = [home.policy.check(Door.USE, stamps.stamps, use) for use in Use]
    acting = {id for decision in decisions for id in decision.waivers}
    steps = training_queries.steps(home.ledger, model.training) if model.training else []
    parents = [str(parent) for parent in model.method.get("parents", ())] or [model.base]
    return Made(
        model=model,
        dataset=dataset,
        stamps=stamps,
        rows_by_stamps={id: sets[int(id)] for id in (dataset.stamp_sets if dataset else {})},
        sets_of_answers={id: sets[int(id)] for id in (dataset.answer_tokens if dataset else {})},
        decisions=decisions,
        evaluations=training_queries.evaluations(home.ledger, model.label),
        terms=_terms(home, stamps),
        waivers=[waiver for waiver in home.policy.waivers if waiver.id in acting],
        revocations=[change for change in home.policy.changes if change.kind == AccessKind.REVOKE],
        touched=_touched(home, stamps),
        compute=Compute(
            steps=len(steps),
            tokens=sum(step.tokens for step in steps),
            answer_tokens=sum(step.answer_tokens for step in steps),
            hours=round(sum(step.seconds for step in steps) / 3600, 4),
            machine=machine(),
        ),
        weights=None,
        parents=parents,
        bases=[_base(teacher) for teacher in origin_queries.teachers(home.ledger) if teacher.name in parents],
    )


def _base(teacher: Teacher) -> Base:
    known = known_weights(teacher.weights_digest)
    published = teacher.model if _REPOSITORY.fullmatch(teacher.model) else ""
    return Base(
        name=teacher.name,
        model=teacher.model,
        lab=teacher.lab,
        digest=teacher.weights_digest,
        terms=teacher.terms,
        repository=known.repository if known else published,
    )


def _terms(home: Home, stamps: StampSet) -> list[TermsVersion]:
    found = {
        version.id: version
        for stamp in stamps.stamps
        for terms in stamp.terms
        for version in home.policy.registry.governing(terms, stamp.day)
    }
    return [found[id] for id in sorted(found)]


def _touched(home: Home, stamps: StampSet) -> list[str]:
    """The revocations that are in force for what a model learned from, in words."""
    # Every use but keeping: what is revoked is not deleted.
    uses = [use for use in Use if use is not Use.STORE]
    found: dict[str, tuple[AccessChange, set[Use]]] = {}
    for stamp in stamps.stamps:
        for use in uses:
            for change in home.policy.last_words(stamp, use):
                if change.kind == AccessKind.REVOKE:
                    found.setdefault(change.id, (change, set()))[1].add(use)
    return [_in_words(change, [use for use in uses if use in about], len(uses)) for change, about in found.values()]


def _in_words(change: AccessChange, about: Sequence[Use], of: int) -> str:
    since = f" since {change.since}" if change.since else ""
    to = f" to {', '.join(about)}" if len(about) < of else ""
    return f"{change.lab} revoked access{to}{since} ({change.id})"


def verify_passport(path: Path, trust: Path | None, folder: Path | None, home_folder: Path) -> Checked:
    """Verify a passport; without ``trust``, the keys of this home are trusted, where there is one."""
    return check(path, folder or path.parent, passport_roots(trust, home_folder))


def passport_roots(trust: Path | None, home_folder: Path) -> list[PublicKey]:
    """The keys in ``trust``; where that is None, those of this home, where there is one. Raises UsageError."""
    if trust is not None:
        if not trust.exists():
            raise UsageError(f"{trust} does not exist.")
        return read_public_keys(trust)
    roots: list[PublicKey] = []
    if (home_folder / KEYS / PUBLIC).is_file():
        roots = read_public_keys(home_folder / KEYS / PUBLIC)
    if list((home_folder / KEYS / ROSTER_KEYS).glob("*.pub")):
        roots += read_public_keys(home_folder / KEYS / ROSTER_KEYS)
    return roots


def export_passport(path: Path, wanted: Format, name: str = "") -> str:
    """A passport in another format. Needs nothing but the file. ``name`` is under which the model is published, if another.

    Raises IntegrityError for one that was changed, UsageError where it has no dataset and one is wanted, PolicyRefusal for a
    name that its duties do not allow.
    """
    statement = read_sealed(path)
    if name and wanted in _OF_DATASETS:
        raise UsageError("This is about a dataset, not a model.", next_step="Leave out --name.")
    if wanted in _OF_DATASETS and not statement["predicate"].get("dataset"):
        raise UsageError(
            f"{path} is of a model without a dataset of its own.", next_step="Export its parents' passports."
        )
    try:
        return _EXPORTS[wanted](statement if wanted in _OF_DATASETS else published(statement, name))
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as failure:
        raise UsageError(
            f"{path} lacks what a passport has: {failure!r}.", next_step="Ask its signer for the original."
        ) from failure


def passport_of(home: Home, label: str) -> Path:
    """Where a model's passport lies; written now where there is none. Raises UnknownName."""
    model = training_queries.model(home.ledger, label)
    path = home.folder / model.folder / PASSPORT
    return path if path.is_file() else write_passport(home, label)
