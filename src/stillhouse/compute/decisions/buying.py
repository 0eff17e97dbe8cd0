"""Buy, keep or give up GPUs: replay the last weeks at other capacities, price the waiting, compare with what renting costs.
Pure.

A block of GPUs is worth owning where it would have been busy for a larger share of the time than its cost is of the rental
price; below that, renting its busy hours is cheaper. Nothing is recommended that does not hold in the tenth percentile of
resampled weeks.
"""

from decimal import Decimal
from typing import Any

import numpy as np

from stillhouse.compute.decisions.job_replay import Replayed, Work, busy_above, replay
from stillhouse.compute.importers.rental_prices import RentalPrice
from stillhouse.errors import UsageError

_WEEK = 7 * 86_400
_FEWEST_WEEKS = 3
_DRAWS = 2000
_SEED = 0
_SURE = 0.10


def buy_or_not(
    work: Work, capacity: int, block: int, own_cost: Decimal | None, rental: RentalPrice | None,
    waiting_hour: dict[str, Decimal],
) -> dict[str, Any]:  # fmt: skip
    """What another block, or one less, would have done in the weeks that were recorded. Raises UsageError where they are too
    few.

    ``waiting_hour`` is money for a GPU-hour of waiting, by team; teams without one make the price of waiting unknown.
    """
    weeks = _weeks(work)
    if len(weeks) < _FEWEST_WEEKS:
        raise UsageError(
            f"The jobs span {len(weeks)} whole weeks, and {_FEWEST_WEEKS} are needed.",
            next_step="Import a longer history.",
        )
    sizes = sorted({max(capacity - block, 1), capacity, capacity + block})
    runs = {size: replay(work, size) for size in sizes}
    rows = [_row(work, size, runs[size], weeks, waiting_hour) for size in sizes]
    more, less = (
        _block(work, runs, capacity, capacity + block, weeks),
        _block(work, runs, capacity - block, capacity, weeks),
    )
    break_even = None
    if own_cost is not None and rental is not None and rental.median > 0:
        break_even = float(own_cost / rental.median)
    return {
        "weeks": len(weeks),
        "capacity": capacity,
        "block": block,
        "sizes": rows,
        "next_block_busy": more,
        "last_block_busy": less,
        "own_cost": own_cost,
        "rental": None if rental is None else rental._asdict(),
        "break_even_busy": break_even,
        "recommendation": _recommendation(more, less, break_even, block),
    }


def _recommendation(more: dict[str, float], less: dict[str, float], break_even: float | None, block: int) -> str:
    if break_even is None:
        return "unknown: it takes a price for the pool in fleet.toml, and rental prices (--prices)"
    if more["p10"] > break_even:
        return (
            f"buy {block}: busy {more['p10']:.0%} of the time in the tenth percentile of weeks, above {break_even:.0%}"
        )
    if less["p90"] < break_even:
        return f"give up or lend {block}: busy {less['p90']:.0%} in the ninetieth percentile of weeks, below {break_even:.0%}"
    return (
        f"keep: another {block} would be busy {more['mean']:.0%} of the time ({more['p10']:.0%} in the tenth percentile), and "
        f"{break_even:.0%} pays for owning them; rent the peaks"
    )


def _weeks(work: Work) -> list[tuple[int, int]]:
    if not len(work.arrived):
        return []
    first, last = int(work.arrived.min()), int(work.arrived.max())
    return [(start, start + _WEEK) for start in range(first, last - _WEEK + 1, _WEEK)]


def _row(
    work: Work, size: int, run: Replayed, weeks: list[tuple[int, int]], waiting_hour: dict[str, Decimal]
) -> dict[str, Any]:
    waits = run.waits(work)
    fits = work.gpus <= size
    inside = fits & (work.arrived >= weeks[0][0]) & (work.arrived < weeks[-1][1])
    hours = waits * work.gpus / 3600
    by_team: dict[str, float] = {}
    for team, waited in zip((work.team[place] for place in np.flatnonzero(inside)), hours[inside], strict=True):
        by_team[team] = by_team.get(team, 0.0) + float(waited)
    priced = [
        Decimal(str(round(waited, 2))) * waiting_hour[team] for team, waited in by_team.items() if team in waiting_hour
    ]
    return {
        "gpus": size,
        "use": round(busy_above(work, run, 0, size, (weeks[0][0], weeks[-1][1])), 4),
        "mean_wait_hours": round(float(waits[inside].mean() / 3600), 3) if inside.any() else 0.0,
        "waited_gpu_hours": round(float(hours[inside].sum()), 1),
        "waiting_costs": sum(priced, Decimal(0)) if len(priced) == len(by_team) and by_team else None,
        "too_large": run.too_large,
    }


def _block(
    work: Work, runs: dict[int, Replayed], floor: int, most: int, weeks: list[tuple[int, int]]
) -> dict[str, float]:
    """How busy a block would have been, week by week: the mean, and what nine in ten draws of weeks are above and below."""
    shares = np.array([busy_above(work, runs[most], max(floor, 0), most, week) for week in weeks])
    draws = np.random.default_rng(_SEED).integers(0, len(shares), (_DRAWS, len(shares)))
    means = shares[draws].mean(axis=1)
    return {"mean": round(float(shares.mean()), 4), "p10": round(float(np.quantile(means, _SURE)), 4),
            "p90": round(float(np.quantile(means, 1 - _SURE)), 4)}  # fmt: skip
