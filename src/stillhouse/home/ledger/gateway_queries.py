"""The gateway's keys and calls."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import and_, func, select

from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.nouns import (
    GatewayKey,
    Outcome,
)


def gateway_keys(ledger: Ledger) -> dict[GatewayKey, str]:
    """All keys to the gateway, oldest first, with the reason why they were revoked (empty where they were not)."""
    revoked = {
        row.key: row.reason or "revoked" for row in as_written(all_rows(ledger, ordered(tables.key_revocations)))
    }
    found = {
        row.key: decode(row.issued, GatewayKey) for row in as_written(all_rows(ledger, ordered(tables.gateway_keys)))
    }
    return {key: revoked.get(key.id, "") for key in found.values()}


class EarlierCall(NamedTuple):
    """A call with the same idempotency key: what it asked, and its answer once there is one."""

    call: str
    request: str
    status: int
    outcome: str
    kind: str
    body: str
    base64: bool


def earlier_call(ledger: Ledger, key: str, idempotency: str) -> EarlierCall | None:
    """The first call of a gateway key under an idempotency key that was not surely free."""
    calls, returns = tables.calls, tables.returns
    query = (
        select(calls, returns.c.status, returns.c.outcome, returns.c.kind, returns.c.body)
        .join(returns, returns.c.call == calls.c.call, isouter=True)
        .where(and_(calls.c.key == key, calls.c.idempotency == idempotency))
        .order_by(calls.c.at)
    )
    for row in all_rows(ledger, query):
        body, base64 = msgspec.json.decode(row.body) if row.body else ("", False)
        if row.outcome not in (Outcome.NOT_SENT, Outcome.REFUSED):
            return EarlierCall(row.call, row.request, row.status or 0, row.outcome or "", row.kind or "", body, base64)
    return None


def calls_by_outcome(ledger: Ledger) -> dict[str, int]:
    """How many calls came through the gateway, by outcome; those without one were never seen to end."""
    calls, returns = tables.calls, tables.returns
    query = (
        select(returns.c.outcome, func.count().label("times"))
        .select_from(calls.join(returns, returns.c.call == calls.c.call, isouter=True))
        .group_by(returns.c.outcome)
    )
    return {row.outcome or "no end was seen": int(row.times) for row in all_rows(ledger, query)}


def key_of_call(ledger: Ledger, call: str) -> str:
    """The gateway key that a call was made with; "" where there is no such call."""
    rows = all_rows(ledger, select(tables.calls.c.key).where(tables.calls.c.call == call))
    return next((str(row.key) for row in rows), "")


class SessionOutcome(NamedTuple):
    """How a session ended, by whom it was said last, and when."""

    verdict: str
    reward: str
    why: str
    by: str
    at: str


class SaidOutcomes(NamedTuple):
    """What was said last of each session, by its name, or by one of its calls."""

    of_session: dict[str, SessionOutcome]
    of_call: dict[str, SessionOutcome]

    def of(self, session: str, calls: Iterable[str]) -> SessionOutcome | None:
        """What was said last of a session with these calls."""
        said = [self.of_call[call] for call in calls if call in self.of_call]
        said += [self.of_session[session]] if session in self.of_session else []
        return max(said, key=lambda one: one.at) if said else None


def session_outcomes(ledger: Ledger) -> SaidOutcomes:
    """What was said last of how each session ended."""
    said = SaidOutcomes({}, {})
    for row in as_written(all_rows(ledger, ordered(tables.session_outcomes))):
        outcome = SessionOutcome(row.verdict, row.reward, row.why, row.by, row.at)
        if row.session:
            said.of_session[row.session] = outcome
        else:
            said.of_call[row.call] = outcome
    return said
