"""What the ledger holds of permission: rosters, approvals, grants and revocations, waivers, exports, gates, runs.

It returns rows with their signatures as they stand; whether those hold is for whoever knows the roster (``identity``).
"""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import select

from stillhouse.identity.chain import Entry
from stillhouse.ledger import schema
from stillhouse.ledger.queries import all_rows, as_written, ordered
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import AccessChange, Deletion, Erasure, HoldRelease, Roster, Signature, Waiver


class SignedAct(NamedTuple):
    """An act of permission as it stands in the ledger."""

    at: str
    entry: Entry


class StoredExport(NamedTuple):
    """A dataset version that left the home as a file."""

    at: str
    dataset: str
    digest: str
    name: str
    rows: int


class StoredRun(NamedTuple):
    """What it takes to run a recipe again: digests of objects."""

    at: str
    run: str
    recipe: str
    inputs: dict[str, str]
    code: str
    environment: str
    machine: str


class StoredGate(NamedTuple):
    """A decision at the training-launch gate."""

    at: str
    subjects: tuple[str, ...]
    use: str
    allowed: bool
    reasons: tuple[str, ...]
    job: str
    signature: Signature


def acts(ledger: Ledger) -> list[SignedAct]:
    """All acts of permission, by when they were written down; their chain says in which order."""
    found = []
    tables = (
        (schema.rosters, "roster", Roster),
        (schema.access_changes, "content", AccessChange),
        (schema.waivers, "content", Waiver),
        (schema.deletions, "content", Deletion),
        (schema.erasures, "content", Erasure),
        (schema.hold_releases, "content", HoldRelease),
    )
    for table, column, kind in tables:
        for row in all_rows(ledger, ordered(table)):
            signatures = _read(row.signatures, tuple[Signature, ...])
            entry = Entry(_read(getattr(row, column), kind), row.plan, row.previous, signatures)
            found.append(SignedAct(row.at, entry))
    return sorted(found, key=lambda act: act.at)


def approvals(ledger: Ledger, plan: str) -> list[tuple[str, Signature]]:
    """Who said yes to a plan, and when."""
    query = ordered(schema.approvals).where(schema.approvals.c.plan == plan)
    return [(row.at, _read(row.signature, Signature)) for row in all_rows(ledger, query)]


def exports(ledger: Ledger) -> list[StoredExport]:
    """All exports, oldest first."""
    return [
        StoredExport(row.at, row.dataset, row.digest, row.name, row.rows)
        for row in all_rows(ledger, ordered(schema.exports))
    ]


def passports(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Passports that were given out: model, digest, signer."""
    return [(row.model, row.digest, row.signer) for row in all_rows(ledger, ordered(schema.passports))]


def run_opened(ledger: Ledger, run: str) -> StoredRun | None:
    """What was written down when a run last began."""
    found = None
    for row in as_written(all_rows(ledger, ordered(schema.runs).where(schema.runs.c.run == run))):
        found = StoredRun(
            row.at, row.run, row.recipe, _read(row.inputs, dict[str, str]), row.code, row.environment, row.machine
        )
    return found


def runs(ledger: Ledger) -> list[str]:
    """The runs that could be replayed."""
    return sorted({row.run for row in all_rows(ledger, select(schema.runs.c.run))})


def gates(ledger: Ledger) -> list[StoredGate]:
    """What the training-launch gate decided, oldest first."""
    texts = tuple[str, ...]
    return [
        StoredGate(
            row.at, _read(row.subjects, texts), row.use, bool(row.allowed), _read(row.reasons, texts), row.job,
            _read(row.signature, Signature),
        )
        for row in all_rows(ledger, ordered(schema.gates))
    ]  # fmt: skip


def call_times(ledger: Ledger) -> dict[str, list[str]]:
    """When each teacher was asked or answered, through collections and through the gateway, in order."""
    found: dict[str, list[str]] = {}
    for table in (schema.asked, schema.answers, schema.calls):
        for row in all_rows(ledger, select(table.c.teacher, table.c.at)):
            found.setdefault(row.teacher, []).append(row.at)
    return {teacher: sorted(times) for teacher, times in found.items()}


def step_shares(ledger: Ledger, training: str) -> dict[int, dict[int, int]]:
    """Answer tokens by stamp set of each step of a training; a step of an earlier version has none."""
    found: dict[int, dict[int, int]] = {}
    for row in all_rows(ledger, ordered(schema.steps).where(schema.steps.c.training == training)):
        shares = _read(row.shares, dict[str, int]) if row.shares else {}
        found.setdefault(row.step, {int(id): tokens for id, tokens in shares.items()})
    return dict(sorted(found.items()))


def _read(data: str, kind: Any) -> Any:
    return msgspec.json.decode(data, type=kind)
