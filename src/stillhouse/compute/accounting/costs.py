"""Money for GPU-seconds: by price, or by a bill, to the last cent. Decimal throughout. Pure.

What a bill says is shared out to the states of the pools that it names; what it names no pool for is a row of its own, so
that the rows sum to the bill. An unknown price makes an unknown cost, never zero.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

import polars as pl

from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.accounting.states import Accounts
from stillhouse.compute.readings import PARTS
from stillhouse.home.fleet import Fleet

CENT = Decimal("0.01")
_PARTS_PER_GPU_HOUR = PARTS * 3600
# Pool, state, team, project, currency, what it is if it is no pool's.
_Key = tuple[str, str, str, str, str, str]


class Charge(NamedTuple):
    """A row of a bill: an amount over a period, and the names by which its pool is found."""

    amount: Decimal
    currency: str
    start: int
    end: int
    names: tuple[str, ...]
    description: str = ""


class Cost(NamedTuple):
    """What something cost. ``amount`` is None where no price and no bill says it; ``what`` says why it is no pool's."""

    pool: str
    state: str
    team: str
    project: str
    currency: str
    amount: Decimal | None
    what: str = ""


def gpu_hours(part_seconds: int) -> Decimal:
    """Part-seconds as GPU-hours, to a hundredth."""
    return (Decimal(int(part_seconds)) / _PARTS_PER_GPU_HOUR).quantize(CENT, ROUND_HALF_EVEN)


def cost_of(price: Decimal | None, part_seconds: int) -> Decimal:
    """What part-seconds cost at a price for a GPU-hour, to the cent; nothing where there is no price."""
    whole = (price or Decimal(0)) * part_seconds / _PARTS_PER_GPU_HOUR
    return whole.quantize(CENT, ROUND_HALF_EVEN)


def shared_out(amount: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """An amount in shares that sum to it exactly, each within one smallest unit of its exact share (largest remainders
    first).
    """
    total = sum(weights)
    if not total:
        return [Decimal(0)] * len(weights)
    exponent = amount.as_tuple().exponent
    unit = Decimal(1).scaleb(min(exponent if isinstance(exponent, int) else 0, -2))
    whole = int(abs(amount) / unit)
    floors = [whole * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(whole * weights[place] % total), place))
    for place in by_remainder[: whole - sum(floors)]:
        floors[place] += 1
    sign = -1 if amount < 0 else 1
    return [sign * unit * units for units in floors]


def by_price(accounts: Accounts, fleet: Fleet) -> list[Cost]:
    """What each team's share of each state cost by the price of its pool; the shares sum to price times capacity, to the
    cent.
    """
    pool = fleet.pool(accounts.pool)
    rows = _grouped(accounts)
    if pool.cost is None:
        return [Cost(accounts.pool, *row[:3], pool.currency, None, "the pool has no price") for row in rows]
    whole = cost_of(pool.cost, accounts.capacity)
    shares = shared_out(whole, [row[3] for row in rows])
    return [Cost(accounts.pool, *row[:3], pool.currency, share) for row, share in zip(rows, shares, strict=True)]


def by_bill(all_of: Sequence[Accounts], charges: Sequence[Charge], fleet: Fleet, window: Window) -> list[Cost]:
    """A bill, shared out: to the states of the pools it names, and as rows of their own what it names none for or lies
    outside.
    """
    named = {name: pool for pool, said in fleet.pools.items() for name in (pool, *said.billed_as)}
    rows = {accounts.pool: _grouped(accounts) for accounts in all_of}
    found: dict[_Key, Decimal] = {}
    for charge in charges:
        pool = next((named[name] for name in charge.names if name in named), "")
        inside, outside = _within(charge, window)
        if outside:
            _add(found, ("", "", "", "", charge.currency, "outside the window"), outside)
        if not pool or not rows.get(pool):
            what = f"unexplained: {charge.description or 'a charge'} (billed_as of no pool names it)"
            _add(found, ("", "", "", "", charge.currency, what), inside)
            continue
        shares = shared_out(inside, [row[3] for row in rows[pool]])
        for row, share in zip(rows[pool], shares, strict=True):
            _add(found, (pool, *row[:3], charge.currency, ""), share)
    return [Cost(pool, state, team, project, currency, amount, what)
            for (pool, state, team, project, currency, what), amount in found.items()]  # fmt: skip


def hours_by(all_of: Sequence[Accounts]) -> dict[tuple[str, str, str, str], Decimal]:
    """GPU-hours by pool, state, team and project."""
    return {(one.pool, *row[:3]): gpu_hours(row[3]) for one in all_of for row in _grouped(one)}


def _within(charge: Charge, window: Window) -> tuple[Decimal, Decimal]:
    """The part of a charge that is of the window, by time, and the rest. A charge for a moment is of the moment."""
    if charge.end <= charge.start:
        inside = window.start <= charge.start < window.end
        return (charge.amount, Decimal(0)) if inside else (Decimal(0), charge.amount)
    overlap = max(0, min(charge.end, window.end) - max(charge.start, window.start))
    parts = shared_out(charge.amount, [overlap, charge.end - charge.start - overlap])
    return parts[0], parts[1]


def _add(found: dict[_Key, Decimal], key: _Key, amount: Decimal) -> None:
    if amount:
        found[key] = found.get(key, Decimal(0)) + amount


def _grouped(accounts: Accounts) -> list[tuple[str, str, str, int]]:
    """State, team, project and part-seconds, in a fixed order."""
    grouped = accounts.states.group_by("state", "team", "project").agg(pl.col("part_seconds").sum())
    return [tuple(row) for row in grouped.sort("state", "team", "project").iter_rows()]
