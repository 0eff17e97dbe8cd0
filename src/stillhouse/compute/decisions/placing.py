"""Where a plan fits: GPU-hours put into forecast idle, and how likely they are done by a date. Pure.

Scenarios are what happened before: from now on the level moves as it did from the same hour of each of the last weeks' days.
That keeps how idleness persists, which a quantile for each hour alone would lose.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillhouse.compute.forecasts.idle_series import BINS_PER_DAY, BINS_PER_HOUR, STEP, IdleSeries

# What a preemption costs: a fresh start, and the work since the last checkpoint. Both from the notes of the Philly replay.
START_BINS = 2  # 20 minutes
LOST_BINS = 1.5  # 15 minutes
_DAYS_LEARNED = 56
FEWEST_SCENARIOS = 10


def place(series: IdleSeries, gpus: int, gpu_hours: float, by: int | None, horizon_days: int = 14) -> dict[str, Any]:
    """When a plan of so many GPU-hours on so many GPUs at once would be done in a pool's idle GPUs, over the scenarios.

    ``by`` is a moment in seconds since 1970. With fewer than ten scenarios the answer is unknown; with few, never certain: the
    probability counts one more scenario of each outcome (Laplace).
    """
    origin, span = len(series), horizon_days * BINS_PER_DAY
    paths = scenarios(series, span)
    value: dict[str, Any] = {"pool": series.pool, "gpus": gpus, "gpu_hours": gpu_hours, "from": series.at(origin),
                             "scenarios": len(paths)}  # fmt: skip
    most = int(np.nanmax(series.idle)) if np.isfinite(series.idle).any() else 0
    if gpus > most:
        return value | {"probability": 0.0, "because": f"never more than {most} GPUs of it were idle"}
    if len(paths) < FEWEST_SCENARIOS:
        return value | {
            "probability": None,
            "because": f"{len(paths)} scenarios, and {FEWEST_SCENARIOS} are needed: too short a history",
        }
    done = np.array([_finished(path, gpus, gpu_hours) for path in paths])
    finished = done[np.isfinite(done)]
    value |= {
        "done_within_horizon": round(len(finished) / len(done), 4),
        "half_done_by": _moment(series, origin, float(np.quantile(np.nan_to_num(done, posinf=span), 0.5)), span),
        "nine_in_ten_by": _moment(series, origin, float(np.quantile(np.nan_to_num(done, posinf=span), 0.9)), span),
        "horizon": series.at(origin + span),
    }
    if by is None:
        return value | {"probability": None, "because": "no date was given"}
    bins = (by - series.at(origin)) / STEP
    if bins > span:
        return value | {"probability": None, "because": f"the forecast reaches {horizon_days} days"}
    return value | {"by": by, "probability": round(float((done <= bins).sum() + 1) / (len(done) + 2), 4)}


def scenarios(series: IdleSeries, span: int) -> NDArray[np.float64]:
    """What could stand idle from now on: one row for each past day, as the level moved from this hour of that day."""
    idle = series.idle
    known = idle[np.isfinite(idle)]
    if not len(known):
        return np.empty((0, span))
    filled = _carried(idle)
    now = filled[-1]
    starts = np.arange(len(idle) - BINS_PER_DAY, 0, -BINS_PER_DAY)[:_DAYS_LEARNED]
    rows = []
    for start in starts:
        moved = filled[start : start + span] - filled[start - 1]
        if len(moved) < min(span, BINS_PER_DAY):
            continue
        # Where what is known ends, another day's moves go on from there.
        while len(moved) < span:
            again = filled[starts[-1] :] - filled[starts[-1] - 1]
            moved = np.concatenate([moved, moved[-1] + again])[:span]
        rows.append(np.clip(now + moved, 0, known.max()))
    return np.array(rows).reshape(len(rows), span)


def _carried(idle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaps filled with the level before them."""
    places = np.where(np.isfinite(idle), np.arange(len(idle)), -1)
    places = np.maximum.accumulate(places)
    return np.where(places >= 0, idle[np.maximum(places, 0)], 0.0)


def _finished(path: NDArray[np.float64], gpus: int, gpu_hours: float) -> float:
    """After how many bins a preemptible plan is done on one path; infinite where it never is."""
    left = gpu_hours * BINS_PER_HOUR / gpus  # bins of work
    fits = path >= gpus
    starting = START_BINS
    was = False
    for bin, room in enumerate(fits):
        if not room:
            if was:
                left += min(LOST_BINS, gpu_hours * BINS_PER_HOUR / gpus - left)
            was, starting = False, START_BINS
            continue
        if starting:
            starting -= 1
            continue
        was = True
        left -= 1
        if left <= 0:
            return bin + 1.0
    return float("inf")


def _moment(series: IdleSeries, origin: int, bins: float, span: int) -> int | None:
    return None if bins >= span else series.at(origin + int(np.ceil(bins)))
