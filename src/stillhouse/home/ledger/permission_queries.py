"""What the ledger holds of permission: rosters, approvals, grants and revocations, waivers, exports, gates, runs.

It returns rows with their signatures as they stand; whether those hold is for whoever knows the roster (``identity``).
"""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, select

from stillhouse.errors import ForgedEntry
from stillhouse.home import facts
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, ordered, recorded
from stillhouse.nouns import Signature
from stillhouse.permission.acts import act_called
from stillhouse.permission.chain import ChainEntry


class SignedAct(NamedTuple):
    """An act of permission as it stands in the ledger."""

    at: str
    entry: ChainEntry


def acts(ledger: Ledger) -> list[SignedAct]:
    """All acts of permission, by when they were written down; their chain says in which order.

    Raises HomeNewer for one of a kind that this version does not know, ForgedEntry for one that cannot be read.
    """
    return [SignedAct(row.at, _entry(row)) for row in all_rows(ledger, ordered(tables.acts))]


def _entry(row: Row[Any]) -> ChainEntry:
    kind = act_called(row.kind)
    try:
        content, signatures = _read(row.content, kind.content), _read(row.signatures, tuple[Signature, ...])
    except msgspec.MsgspecError as failure:
        raise ForgedEntry(f"(a {kind.tag} in the ledger cannot be read: {failure})") from failure
    return ChainEntry(content, row.plan, row.previous, signatures)


def approvals(ledger: Ledger, plan: str) -> list[tuple[str, Signature]]:
    """Who said yes to a plan, and when."""
    found = recorded(ledger, facts.PlanApproved, tables.approvals.c.plan == plan)
    return [(one.at, one.signature) for one in found]


def exports(ledger: Ledger) -> list[facts.Exported]:
    """All exports, oldest first."""
    return recorded(ledger, facts.Exported)


def passports(ledger: Ledger) -> list[facts.PassportWritten]:
    """Passports that were given out."""
    return recorded(ledger, facts.PassportWritten)


def run_opened(ledger: Ledger, run: str) -> facts.RunOpened | None:
    """What was written down when a run last began."""
    return next(reversed(recorded(ledger, facts.RunOpened, tables.runs.c.run == run)), None)


def runs(ledger: Ledger) -> list[str]:
    """The runs that could be replayed."""
    return sorted({row.run for row in all_rows(ledger, select(tables.runs.c.run))})


def gates(ledger: Ledger) -> list[facts.GateDecided]:
    """What the training-launch gate decided, oldest first."""
    return recorded(ledger, facts.GateDecided)


def call_times(ledger: Ledger) -> dict[str, list[str]]:
    """When each teacher was asked or answered, through collections and through the gateway, in order."""
    found: dict[str, list[str]] = {}
    for table in (tables.asked, tables.answers, tables.calls):
        for row in all_rows(ledger, select(table.c.teacher, table.c.at)):
            found.setdefault(row.teacher, []).append(row.at)
    return {teacher: sorted(times) for teacher, times in found.items()}


def step_shares(ledger: Ledger, training: str) -> dict[int, dict[int, int]]:
    """Answer tokens by stamp set of each step of a training; a step of an earlier version has none."""
    found: dict[int, dict[int, int]] = {}
    for row in all_rows(ledger, ordered(tables.steps).where(tables.steps.c.training == training)):
        shares = _read(row.shares, dict[str, int])
        found.setdefault(row.step, {int(id): tokens for id, tokens in shares.items()})
    return dict(sorted(found.items()))


def _read(data: str, kind: Any) -> Any:
    return msgspec.json.decode(data, type=kind)
