"""What was revoked since a passport was written, and the signed list of revoked passports that a home publishes.

Covers: passports of this home, with or without their files, and anybody's file by the origins that it names; a list that was
changed or signed by somebody who is not trusted. Does not cover: a list that is held back, or an old one shown as the newest:
whoever reads one looks at ``made``.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import IntegrityError, UsageError
from stillhouse.nouns import Stamp, Use
from stillhouse.passport.envelope import Opened, is_sealed_by, open_envelope, seal, sealed_by
from stillhouse.passport.statement import STATEMENT_TYPE, Subject
from stillhouse.permission.decide import Policy
from stillhouse.permission.signatures import Signatory
from stillhouse.permission.signing_keys import PublicKey, public_key

LIST_TYPE = "urn:stillhouse:revoked-passports:v1"


class PassportStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A passport, and what was revoked of its origins since it was written (``uses`` are those that it is revoked for).

    ``digest`` is that of its file as it was written. No ``revoked_since``: what it says still holds.
    """

    model: str
    digest: str
    written: str
    revoked_since: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()


class ListedAs(msgspec.Struct, frozen=True, kw_only=True):
    """What a published list says of one passport, as of the day on which it was made. Not ``known``: it does not name it."""

    made: str
    known: bool
    revoked_since: tuple[str, ...]


class _WhatItNames(msgspec.Struct):
    """Of a predicate, what tells whether something was revoked since."""

    made: str
    signer: str
    origins: tuple[Stamp, ...]
    revocations: tuple[dict[str, Any], ...]
    model: dict[str, Any]


class _Written(NamedTuple):
    """A passport whose signature holds. ``digest`` is that of its file as its signer wrote it."""

    named: _WhatItNames
    signer: PublicKey
    digests: tuple[str, ...]


class _Revoked(msgspec.Struct):
    made: str
    signer: str
    revoked: tuple[PassportStatus, ...]


class _List(msgspec.Struct, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    subject: list[Subject]
    predicate_type: str
    predicate: _Revoked


class Since(NamedTuple):
    """Revocations, in words, and the uses that they are about."""

    revocations: tuple[str, ...]
    uses: tuple[Use, ...]


# Unknown means no.
NO_MODEL = Since(("its model is not in the ledger, so its origins are not known",), tuple(Use))


def revoked_since(policy: Policy, stamps: Iterable[Stamp], known: Collection[str]) -> Since:
    """The revocations in force that are about ``stamps``, without those whose ids were ``known`` already."""
    found: dict[str, str] = {}
    uses: set[Use] = set()
    for stamp in stamps:
        for use in Use:
            change = policy.revoked_by(stamp, use)
            if change is not None and change.id not in known:
                since = f" since {change.since}" if change.since else ""
                found[change.id] = f"{change.lab} revoked access{since} ({change.id})"
                uses.add(use)
    return Since(tuple(sorted(found.values())), tuple(use for use in Use if use in uses))


def status_of_file(path: Path, policy: Policy) -> PassportStatus:
    """The status of a passport in a file, whoever wrote it. Raises UsageError where it is none, IntegrityError where it was
    changed.
    """
    written = _passport_in(path)
    named = written.named
    since = revoked_since(policy, named.origins, {str(change.get("id")) for change in named.revocations})
    return PassportStatus(
        model=f"{named.model.get('name')}@{named.model.get('version')}",
        digest=written.digests[0],
        written=named.made,
        revoked_since=since.revocations,
        uses=since.uses,
    )


def _passport_in(path: Path) -> _Written:
    try:
        opened = open_envelope(path.read_bytes())
        named = msgspec.convert(msgspec.json.decode(opened.payload)["predicate"], _WhatItNames)
        signer = public_key(named.signer)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}.") from failure
    except (ValueError, LookupError, TypeError, RecursionError, msgspec.MsgspecError, UsageError) as failure:
        raise UsageError(f"{path} is no passport: {failure}.") from failure
    _check_signed(path, opened, signer)
    return _Written(named, signer, tuple(digest_bytes(form) for form in sealed_by(opened, signer)))


def _check_signed(path: Path, opened: Opened, signer: PublicKey) -> None:
    if not is_sealed_by(opened, signer):
        raise IntegrityError(
            f"{path} was changed, or signed by another key than the one that it names.",
            next_step="Ask whoever gave it to you for the original.",
        )


def publish(statuses: Sequence[PassportStatus], signatory: Signatory, at: str) -> bytes:
    """A signed list: every passport that was given out by its digest, and the revoked ones with their models and reasons."""
    subject = [{"name": one.digest, "digest": {"blake3": one.digest.partition(":")[2]}} for one in statuses]
    predicate = {
        "made": at,
        "signer": signatory.signer.public.pem,
        "signed_by": signatory.name,
        "revoked": [msgspec.to_builtins(one) for one in statuses if one.revoked_since],
    }
    statement = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": LIST_TYPE, "predicate": predicate}
    return seal(canonical(statement), signatory.signer)


def look_up(published: Path, passport: Path, roots: Collection[PublicKey]) -> ListedAs:
    """What a published list says of the passport in a file. It must be signed by the passport's own signer or one of ``roots``.

    Raises UsageError where a file cannot be read, IntegrityError where the list is none, was changed, or is a stranger's.
    """
    written = _passport_in(passport)
    found, signer = _list_in(published)
    if signer.id not in {written.signer.id, *(root.id for root in roots)}:
        raise IntegrityError(
            f"{published} is signed by {signer.id}, and not by the passport's signer ({written.signer.id}).",
            next_step="Give --trust the public key of whoever publishes the list, if you trust it.",
        )
    return ListedAs(
        made=found.predicate.made,
        known=any(f"blake3:{subject.digest.get('blake3')}" in written.digests for subject in found.subject),
        revoked_since=tuple(
            reason for one in found.predicate.revoked if one.digest in written.digests for reason in one.revoked_since
        ),
    )


def _list_in(path: Path) -> tuple[_List, PublicKey]:
    try:
        opened = open_envelope(path.read_bytes())
        found = msgspec.json.decode(opened.payload, type=_List)
        if (found.type, found.predicate_type) != (STATEMENT_TYPE, LIST_TYPE):
            raise ValueError(f"a statement of type {found.predicate_type!r}")
        signer = public_key(found.predicate.signer)
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}.") from failure
    except (ValueError, RecursionError, msgspec.MsgspecError, UsageError) as failure:
        raise IntegrityError(f"{path} is no list of revoked passports: {failure}.") from failure
    _check_signed(path, opened, signer)
    return found, signer
