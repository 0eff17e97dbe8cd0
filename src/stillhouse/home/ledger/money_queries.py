"""What was spent, what is reserved, and what a provider billed above its bound."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import ColumnElement, Subquery, Table, and_, func, select

from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, by_keys


class Spending(NamedTuple):
    """Money of a run, in USD: paid for answers, and held for calls whose fate is not known."""

    paid: Decimal
    held: Decimal
    unsettled: int


def spending(ledger: Ledger, run: str) -> Spending:
    """What a run has cost, and what it may have cost besides."""
    return _spending(ledger, "run", run)


def spending_of_lease(ledger: Ledger, lease: str) -> Spending:
    """What was asked under a lease, and what it cost or may have cost."""
    return _spending(ledger, "lease", lease)


def unleased_spending(ledger: Ledger, run: str) -> Spending:
    """What a run spent before caps were leased."""
    return _spending(ledger, "run", run, leased=False)


def _spending(ledger: Ledger, column: str, value: str, *, leased: bool = True) -> Spending:
    def of(table: Table) -> ColumnElement[bool]:
        match = table.c[column] == value
        return match if leased else and_(match, table.c.lease == "")

    open_calls = _open_calls(
        ledger,
        _times(tables.asked, of(tables.asked)),
        _times(tables.answers, of(tables.answers)),
        _times(tables.failures, and_(of(tables.failures), tables.failures.c.charged == 0)),
    )
    worst: dict[str, Decimal] = {}
    for row in by_keys(ledger, tables.asked, tables.asked.c.key, open_calls):
        worst[row.key] = max(worst.get(row.key, Decimal(0)), Decimal(row.worst_case_usd))
    # Added up as they are written: a database would add them as fractions of two.
    cost = tables.answers.c.cost_usd
    costs = select(cost, func.count().label("times")).where(of(tables.answers)).group_by(cost)
    paid = sum((Decimal(row.cost_usd) * int(row.times) for row in all_rows(ledger, costs)), Decimal(0))
    held = sum((worst[key] * count for key, count in open_calls.items()), Decimal(0))
    return Spending(paid, held, sum(open_calls.values()))


def _times(table: Table, condition: ColumnElement[bool]) -> Subquery:
    """How often each key stands in a table."""
    return select(table.c.key, func.count().label("times")).where(condition).group_by(table.c.key).subquery()


def _open_calls(ledger: Ledger, asked: Subquery, settled: Subquery, free: Subquery) -> dict[str, int]:
    """The keys that were asked more often than their calls ended, and how much more often."""
    left = asked.c.times - func.coalesce(settled.c.times, 0) - func.coalesce(free.c.times, 0)
    joined = asked.join(settled, settled.c.key == asked.c.key, isouter=True)
    joined = joined.join(free, free.c.key == asked.c.key, isouter=True)
    query = select(asked.c.key, left.label("left")).select_from(joined).where(left > 0)
    return {str(row.key): int(row.left) for row in all_rows(ledger, query)}


class OpenLease(NamedTuple):
    """A lease that nobody has returned: who holds it, and what it takes of one cap, in USD."""

    lease: str
    holder: str
    usd: Decimal


def open_leases(ledger: Ledger, scope: str) -> list[OpenLease]:
    """The leases of a cap that are not returned; their slices are added up."""
    leases, returned = tables.leases, tables.lease_returns
    query = select(leases.c.lease, leases.c.holder, leases.c.usd).where(
        and_(leases.c.scope == scope, leases.c.lease.not_in(select(returned.c.lease)))
    )
    found: dict[str, OpenLease] = {}
    for row in all_rows(ledger, query):
        before = found.get(row.lease, OpenLease(row.lease, row.holder, Decimal(0)))
        found[row.lease] = before._replace(usd=before.usd + Decimal(row.usd))
    return list(found.values())


def returned_spending(ledger: Ledger, scope: str) -> Decimal:
    """What the ended leases of a cap used, in USD, calls of unknown fate at their worst case."""
    leases, returned = tables.leases, tables.lease_returns
    query = select(returned.c.used_usd).where(
        returned.c.lease.in_(select(leases.c.lease).where(leases.c.scope == scope))
    )
    return sum((Decimal(row.used_usd) for row in all_rows(ledger, query)), Decimal(0))


def returned_of_lease(ledger: Ledger, lease: str) -> Decimal:
    """What a lease was said to have used, in USD; 0 where it was not returned yet."""
    query = select(tables.lease_returns.c.used_usd).where(tables.lease_returns.c.lease == lease)
    return sum((Decimal(row.used_usd) for row in all_rows(ledger, query)), Decimal(0))


class Bill(NamedTuple):
    """A call that cost more than was held for it, in USD."""

    held: Decimal
    paid: Decimal


def bill_above_its_bound(ledger: Ledger, scope: str, checked: Mapping[str, int]) -> tuple[Bill | None, dict[str, int]]:
    """The first call under a cap that cost more than was held for it, after the entries of each writer that were checked
    before; and what is checked now.
    """
    answers, asked = tables.answers.c, tables.asked.c
    under = select(tables.leases.c.lease).where(tables.leases.c.scope == scope)
    now_checked = {row.writer: row.number for row in all_rows(ledger, select(tables.cursors))}
    for writer, number in now_checked.items():
        query = select(answers.cost_usd, asked.worst_case_usd).where(
            and_(
                answers.writer == writer, answers.number >= checked.get(writer, 0), answers.number < number,
                answers.lease.in_(under), asked.key == answers.key, asked.lease == answers.lease,
            )
        )  # fmt: skip
        for row in all_rows(ledger, query):
            bill = Bill(Decimal(row.worst_case_usd), Decimal(row.cost_usd))
            if bill.paid > bill.held:
                return bill, now_checked
    return None, now_checked


def lease_of(ledger: Ledger, keys: Iterable[str]) -> dict[str, str]:
    """Under which lease keys were last asked for."""
    return {row.key: row.lease for row in by_keys(ledger, tables.asked, tables.asked.c.key, keys)}
