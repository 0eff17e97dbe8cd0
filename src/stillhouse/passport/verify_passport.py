"""Verify a passport with nothing but the file, the model's folder and the keys that one trusts.

Covers: a changed statement, a changed, missing or added model file, a signature by another key than it names. Does not cover:
whether what the signer says is true, and whether its key was lost; ``revocation_checked_as_of`` says how old its knowledge is.
"""

import hashlib
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from stillhouse.errors import IntegrityError, UsageError
from stillhouse.passport.envelope import is_sealed_by, open_envelope
from stillhouse.passport.statement import DATASET, PREDICATE_TYPE, STATEMENT_TYPE, Digests, Subject
from stillhouse.passport.weights_signature import PASSPORT, SIGNATURE, can_sign, verify_weights
from stillhouse.permission.signing_keys import PublicKey, public_key

_READ = 1 << 20


class PassportVerdict(StrEnum):
    """What a passport is worth."""

    TRUSTED = "trusted"
    INTACT = "intact, unknown signer"
    BROKEN = "broken"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome. ``broken`` says which parts and why; ``not_checked`` which of the dataset's files were not there."""

    result: PassportVerdict
    revocation_checked_as_of: str | None
    broken: tuple[str, ...]
    signer: str
    model: str
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


class _Statement(msgspec.Struct, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    subject: list[Subject]
    predicate_type: str
    predicate: dict[str, Any]


def check(path: Path, folder: Path, roots: Collection[PublicKey]) -> Checked:
    """Verify the passport at ``path`` against the files in ``folder``. Raises UsageError where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}.") from failure
    try:
        opened = open_envelope(data)
        statement = msgspec.json.decode(opened.payload, type=_Statement)
        if (statement.type, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError(f"a statement of type {statement.predicate_type!r}, and not a passport")
        key = public_key(str(statement.predicate.get("signer")))
    except (ValueError, RecursionError, msgspec.MsgspecError, UsageError) as failure:
        return _broken_beyond_reading(str(failure))
    broken = []
    if not is_sealed_by(opened, key):
        broken.append("signature: the statement was changed, or signed by another key than the one that it names")
    wrong, checked, not_checked = _files(statement.subject, folder, path)
    broken += wrong
    broken += _weights(statement.predicate.get("weights_signature"), folder)
    trusted = any(root.id == key.id for root in roots)
    as_of = statement.predicate.get("revocation_checked_as_of")
    model = statement.predicate.get("model")
    return Checked(
        result=PassportVerdict.BROKEN if broken else PassportVerdict.TRUSTED if trusted else PassportVerdict.INTACT,
        revocation_checked_as_of=str(as_of) if as_of else None,
        broken=tuple(broken),
        signer=key.id,
        model=str(model.get("name")) + "@" + str(model.get("version")) if isinstance(model, dict) else "",
        checked=tuple(checked),
        not_checked=tuple(not_checked),
    )


def read_statement(path: Path) -> dict[str, Any]:
    """The statement of a passport as JSON values; nothing is verified. Raises UsageError where the file holds none."""
    try:
        opened = open_envelope(path.read_bytes())
        msgspec.json.decode(opened.payload, type=_Statement)
        statement: dict[str, Any] = msgspec.json.decode(opened.payload)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}.") from failure
    except (ValueError, RecursionError, msgspec.MsgspecError) as failure:
        raise UsageError(f"{path} is no passport: {failure}.") from failure
    return statement


def read_sealed(path: Path) -> dict[str, Any]:
    """The same, where it is as its signer sealed it: whether the signer is known is another question.

    Raises UsageError, and IntegrityError where the statement was changed or is signed by another key than it names.
    """
    statement = read_statement(path)
    try:
        key = public_key(str(statement["predicate"].get("signer")))
        sealed = is_sealed_by(open_envelope(path.read_bytes()), key)
    except (ValueError, UsageError, OSError):
        sealed = False
    if not sealed:
        raise IntegrityError(
            f"{path} was changed, or signed by another key than the one that it names.",
            next_step="`stillhouse passport verify` says what is wrong; ask its signer for the original.",
        )
    return statement


def digests_of(path: Path) -> Digests:
    """A file's digests. Raises OSError."""
    ours, theirs = blake3(), hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ):
            ours.update(piece)
            theirs.update(piece)
    return Digests(ours.hexdigest(), theirs.hexdigest())


def _files(subjects: Sequence[Subject], folder: Path, passport: Path) -> tuple[list[str], list[str], list[str]]:
    """What is wrong, what was looked at, and which of the dataset's files were not there. The model's must all be there, and
    beside them nothing but the passport: a program that loads the folder might take whatever it finds.
    """
    broken: list[str] = []
    checked: list[str] = []
    absent: list[str] = []
    for subject in subjects:
        name, file = subject.name, folder / subject.name
        if ".." in Path(name).parts or Path(name).is_absolute():
            broken.append(f"{name}: a name that leads out of the folder")
            continue
        try:
            if not file.is_file():
                (absent if name.startswith(f"{DATASET}/") else broken).append(
                    name if name.startswith(f"{DATASET}/") else f"{name}: is missing"
                )
            elif digests_of(file)._asdict() == subject.digest:
                checked.append(name)
            else:
                broken.append(f"{name}: has other bytes")
        except OSError as failure:
            broken.append(f"{name[:100]}: cannot be read ({failure.strerror})")
    names = {subject.name for subject in subjects}
    if not any(not name.startswith(f"{DATASET}/") for name in names):
        broken.append("statement: it names no file of a model")
    # A passport that was delivered apart finds a later one beside the weights: no program loads either.
    beside = (folder / SIGNATURE, folder / PASSPORT)
    others = [
        path
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() and path.is_dir())  # a program would follow it, and this does not
        or (path.is_file() and not path.samefile(passport) and path not in beside)
    ]
    found = [str(path.relative_to(folder)) for path in others]
    broken += [f"{name}: is no part of the model" for name in found if name not in names]
    return broken, checked, absent


def _weights(signature: Any, folder: Path) -> list[str]:
    """What is wrong with the OpenSSF signature that the statement names, where its library is here to verify it."""
    if not isinstance(signature, dict):
        return [f"{SIGNATURE}: the statement names none"] if (folder / SIGNATURE).exists() else []
    path = folder / SIGNATURE
    if not path.is_file():
        return []  # the weights' digests stand in the statement itself
    if hashlib.sha256(path.read_bytes()).hexdigest() != signature.get("sha256"):
        return [f"{SIGNATURE}: has other bytes"]
    if not can_sign():
        return []
    wrong = verify_weights(folder, str(signature.get("public_key")))
    return [f"{SIGNATURE}: {wrong}"] if wrong else []


def _broken_beyond_reading(reason: str) -> Checked:
    return Checked(
        result=PassportVerdict.BROKEN,
        revocation_checked_as_of=None,
        broken=(f"statement: {reason}",),
        signer="",
        model="",
        checked=(),
        not_checked=(),
    )
