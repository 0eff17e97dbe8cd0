"""What was spent, what is reserved, and what a provider billed above its bound."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, and_, select

from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, by_keys, count_by_key


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

    asked = count_by_key(ledger, tables.asked, of(tables.asked))
    settled = count_by_key(ledger, tables.answers, of(tables.answers))
    free = count_by_key(ledger, tables.failures, and_(of(tables.failures), tables.failures.c.charged == 0))
    worst = {
        row.key: Decimal(row.worst_case_usd) for row in all_rows(ledger, select(tables.asked).where(of(tables.asked)))
    }
    open_calls = {key: count - settled.get(key, 0) - free.get(key, 0) for key, count in asked.items()}
    open_calls = {key: count for key, count in open_calls.items() if count > 0}
    paid = sum(
        (
            Decimal(row.cost_usd)
            for row in all_rows(ledger, select(tables.answers.c.cost_usd).where(of(tables.answers)))
        ),
        Decimal(0),
    )
    held = sum((worst[key] * count for key, count in open_calls.items()), Decimal(0))
    return Spending(paid, held, sum(open_calls.values()))


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
