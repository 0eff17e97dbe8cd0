"""How GPUs were used: by pool, team, project and job, layer by layer, with who to ask about those that are held and idle.
Pure.
"""

from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl

from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.accounting.costs import Charge, Cost, by_bill, by_price, cost_of, gpu_hours, shared_out
from stillhouse.compute.accounting.states import (
    NOT_IMPORTED,
    NOT_REPORTED,
    Accounts,
    State,
    account,
    covered_of,
    placed,
)
from stillhouse.compute.readings import PARTS, Readings
from stillhouse.home.fleet import Fleet, per_week

# A job that leaves less than half a GPU idle is not worth a call.
_WORTH_ASKING = Decimal("0.5")
# What was idle last week may be used today.
_LAST_DAY = 86_400
_SHOWN = 50


class Layers(NamedTuple):
    """GPU-hours by layer: each is a part of the one before."""

    capacity: Decimal
    up: Decimal
    allocated: Decimal
    active: Decimal
    productive: Decimal


class HeldIdle(NamedTuple):
    """A job that holds GPUs and does not use them: which, whose, whom to ask, and what it costs."""

    job: str
    pool: str
    user: str
    team: str
    contact: str
    gpus: Decimal
    idle_gpus: Decimal
    since: int
    rung: str
    cost_a_week: Decimal | None
    currency: str


def use_report(readings: Readings, fleet: Fleet, window: Window, charges: list[Charge]) -> dict[str, Any]:
    """The whole account of a window as one value."""
    declared = {name: pool.gpus * PARTS for name, pool in fleet.pools.items() if pool.gpus}
    all_of = account(readings, window, declared)
    costs = [cost for accounts in all_of for cost in by_price(accounts, fleet)]
    billed = by_bill(all_of, charges, fleet, window) if charges else []
    states = pl.concat([accounts.states for accounts in all_of]) if all_of else None
    return {
        "window": {"start": window.start, "end": window.end, "seconds": window.seconds},
        "pools": [_pool(accounts, fleet, costs) for accounts in all_of],
        "teams": _grouped(states, ["team"], all_of, fleet),
        "projects": _grouped(states, ["team", "project"], all_of, fleet),
        "jobs": _grouped(states, ["pool", "job", "team", "user"], [], fleet)[:_SHOWN],
        "held_idle": [one._asdict() for one in held_idle(readings, fleet, window, declared)],
        "bill": _bill(billed, charges),
        "samples_of_no_pool": int((placed(readings)["pool"] == "").sum()),
    }


def _pool(accounts: Accounts, fleet: Fleet, costs: list[Cost]) -> dict[str, Any]:
    said = fleet.pool(accounts.pool)
    own = [cost for cost in costs if cost.pool == accounts.pool]
    known = [cost.amount for cost in own if cost.amount is not None]
    total = sum(known, Decimal(0)) if known or not own else None
    layers = layers_of(accounts.states)
    not_measured = layers.allocated - layers.active - gpu_hours(accounts.total(State.INACTIVE))
    rungs = sorted(set(accounts.states["rung"].to_list()) - {""})
    whys = accounts.states.filter(pl.col("state") == State.UNKNOWN).group_by("why").agg(pl.col("part_seconds").sum())
    return {
        "pool": accounts.pool,
        "owner": said.owner,
        "states": {
            str(state): {
                "gpu_hours": gpu_hours(accounts.total(state)),
                "share": _share(accounts.total(state), accounts.capacity),
                "bound": gpu_hours(int(accounts.states.filter(pl.col("state") == state)["bound"].sum())),
                "cost": _sum(cost.amount for cost in own if cost.state == state),
            }
            for state in State
        },
        "unknown_because": {why: gpu_hours(parts) for why, parts in whys.sort("why").iter_rows()},
        "layers": layers._asdict(),
        "measured_by": rungs,
        "price": said.cost,
        "currency": said.currency,
        "cost": total,
        # Where some of what was held was not measured, a used hour costs something between these two.
        "cost_per_used_hour": [
            _per_hour(total, layers.active + max(not_measured, Decimal(0))),
            _per_hour(total, layers.active),
        ],
        "mfu": None,  # no metric says it; only a run's own log does
        "claimed_beyond_capacity": gpu_hours(accounts.conflict),
        "seconds_without_capacity_record": accounts.unrecorded,
    }


def _per_hour(total: Decimal | None, hours: Decimal) -> Decimal | None:
    return None if total is None or not hours else (total / hours).quantize(Decimal("0.01"))


def layers_of(states: pl.DataFrame) -> Layers:
    """Capacity, what was up, surely allocated, surely active, surely productive."""
    by = dict(states.group_by("state").agg(pl.col("part_seconds").sum()).iter_rows())
    total = sum(by.values())
    up = total - by.get(State.DOWN, 0)
    free = states.filter(pl.col("why").is_in([NOT_REPORTED, NOT_IMPORTED]))["part_seconds"].sum()
    allocated = up - by.get(State.UNALLOCATED, 0) - int(free)
    active = by.get(State.PRODUCTIVE, 0) + by.get(State.UNPRODUCTIVE, 0)
    undecided = states.filter((pl.col("state") == State.UNKNOWN) & pl.col("why").str.starts_with("active"))
    active += int(undecided["part_seconds"].sum())
    hours = (gpu_hours(parts) for parts in (total, up, allocated, active, by.get(State.PRODUCTIVE, 0)))
    return Layers(*hours)


def _grouped(
    states: pl.DataFrame | None, keys: list[str], all_of: list[Accounts], fleet: Fleet
) -> list[dict[str, Any]]:
    """GPU-hours in each state by some columns, those that held most first; nobody's hours are no row."""
    if states is None or not states.height:
        return []
    wide = _held(states).group_by(*keys, "state").agg(pl.col("part_seconds").sum())
    rows: dict[tuple[str, ...], dict[str, int]] = {}
    for *key, state, parts in wide.iter_rows():
        rows.setdefault(tuple(key), {})[state] = parts
    costs = _costs_by(keys, all_of, fleet)
    found = []
    for row_key, by in sorted(rows.items(), key=lambda item: (-sum(item[1].values()), item[0])):
        row: dict[str, Any] = dict(zip(keys, row_key, strict=True))
        row |= {
            "gpu_hours": gpu_hours(sum(by.values())),
            "states": {state: gpu_hours(by[state]) for state in sorted(by)},
        }
        found.append(row | ({"cost": costs.get(row_key, {})} if all_of else {}))
    return found


def _held(states: pl.DataFrame) -> pl.DataFrame:
    """What somebody held."""
    nobodys = pl.col("state").is_in([State.DOWN, State.UNALLOCATED]) | pl.col("why").is_in([NOT_REPORTED, NOT_IMPORTED])
    return states.filter(~nobodys)


def _costs_by(
    keys: list[str], all_of: list[Accounts], fleet: Fleet
) -> dict[tuple[str, ...], dict[str, Decimal | None]]:
    """What each group's hours cost by currency, at the prices of their pools, to the cent; unknown where one has none."""
    found: dict[tuple[str, ...], dict[str, Decimal | None]] = {}
    for accounts in all_of:
        pool = fleet.pool(accounts.pool)
        rows = _held(accounts.states).group_by(*keys).agg(pl.col("part_seconds").sum()).sort(keys).rows()
        parts = [row[-1] for row in rows]
        shares = shared_out(cost_of(pool.cost, accounts.capacity), [*parts, accounts.capacity - sum(parts)])
        for row, share in zip(rows, shares, strict=False):
            by = found.setdefault(row[:-1], {})
            before = by.get(pool.currency, Decimal(0))
            by[pool.currency] = None if pool.cost is None or before is None else before + share
    return found


def held_idle(readings: Readings, fleet: Fleet, window: Window, declared: dict[str, int]) -> list[HeldIdle]:
    """Jobs that still ran when the window ended, and left GPUs idle in its last day: the most expensive first."""
    last = Window(max(window.start, window.end - _LAST_DAY), window.end)
    found = []
    for accounts in account(readings, last, declared):
        by_run = accounts.states.group_by("job", "start").agg(
            held=pl.col("part_seconds").sum(),
            inactive=pl.col("part_seconds").filter(pl.col("state") == State.INACTIVE).sum(),
            rung=pl.col("rung").max(),
        )
        covered = covered_of(readings, accounts.pool)
        known = window.end if covered is None else min(window.end, max((end for _, end in covered), default=window.end))
        own = readings.jobs.filter((pl.col("pool") == accounts.pool) & (pl.col("start") < window.end))
        running = own.filter(pl.coalesce("end", pl.col("seen").fill_null(known), pl.lit(known)) >= known)
        said = fleet.pool(accounts.pool)
        for row in running.join(by_run.filter(pl.col("inactive") > 0), on=["job", "start"]).iter_rows(named=True):
            gpus = Decimal(row["parts"]) / PARTS
            idle = (gpus * row["inactive"] / row["held"]).quantize(Decimal("0.1"))
            if idle >= _WORTH_ASKING:
                whom = fleet.contact(row["team"], accounts.pool) or row["user"]
                found.append(HeldIdle(
                    row["job"], accounts.pool, row["user"], row["team"], whom, gpus.quantize(Decimal("0.1")), idle, row["start"],
                    row["rung"], per_week(said.cost, idle), said.currency,
                ))  # fmt: skip
    return sorted(found, key=lambda one: (-(one.cost_a_week or Decimal(0)), -one.idle_gpus, one.job))


def _bill(billed: list[Cost], charges: list[Charge]) -> list[dict[str, Any]]:
    """The bill by currency: what pools' states took, and every part that is no pool's, by name."""
    found = []
    for currency in sorted({charge.currency for charge in charges}):
        rows = [cost for cost in billed if cost.currency == currency]
        found.append({
            "currency": currency,
            "billed": sum((charge.amount for charge in charges if charge.currency == currency), Decimal(0)),
            "explained": [{"pool": cost.pool, "state": cost.state, "team": cost.team, "project": cost.project,
                           "amount": cost.amount} for cost in rows if cost.pool],
            "unexplained": [{"what": cost.what, "amount": cost.amount} for cost in rows if not cost.pool],
        })  # fmt: skip
    return found


def _sum(amounts: Any) -> Decimal | None:
    """A sum in which one unknown makes the whole unknown."""
    listed = list(amounts)
    return None if any(amount is None for amount in listed) else sum(listed, Decimal(0))


def _share(parts: int, whole: int) -> float | None:
    return round(parts / whole, 4) if whole else None
