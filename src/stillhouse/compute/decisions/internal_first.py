"""Who waited while others had GPUs to spare: the first use of idle GPUs is inside. Pure.

It is a bound: what was spare may have been on nodes that do not fit. Where it is known how much of the waiting was for jobs
of eight GPUs and more, those take whole blocks of eight of one pool. The same work would have run earlier; nothing more would
have been used.
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillhouse.compute.readings import PARTS

GANG = 8
_GAP = 3.0  # readings that are this many steps apart say nothing of what lies between


class _Moment(NamedTuple):
    """Pools in columns, moments in rows."""

    idle: NDArray[np.float64]
    waiting: NDArray[np.float64]
    large: NDArray[np.float64] | None


def internal_first(levels: pl.DataFrame) -> dict[str, Any]:
    """GPU-hours that jobs waited, and how many of them a pool with GPUs to spare could have taken. Columns as in LEVELS."""
    known = levels.filter(pl.col("waiting").is_not_null() & pl.col("idle").is_not_null())
    pools = sorted(known["pool"].unique())
    if len(pools) < 2:
        return {"pools": pools, "waited_gpu_hours": None, "because": "it takes two pools whose queues are known"}
    hours, moment = _grid(known, pools)
    short = np.maximum(moment.waiting - moment.idle, 0)
    spare = np.maximum(moment.idle - moment.waiting, 0)
    lent = np.minimum(short.sum(axis=1), spare.sum(axis=1))
    waited = float((moment.waiting.sum(axis=1) * hours).sum())
    bound = float((lent * hours).sum())
    gang = _gang(moment, short, spare, hours) if moment.large is not None else None
    return {
        "pools": pools,
        "hours": round(float(hours.sum()), 2),
        "idle_gpu_hours": round(float((moment.idle.sum(axis=1) * hours).sum()), 1),
        "waited_gpu_hours": round(waited, 1),
        "own_pool_had_room": round(float((np.minimum(moment.waiting, moment.idle).sum(axis=1) * hours).sum()), 1),
        "others_had_room": round(bound, 1),
        "others_had_room_share": round(bound / waited, 4) if waited else None,
        "others_had_whole_blocks": None if gang is None else round(gang, 1),
        "share_of_time_with_waiting": round(float(hours[moment.waiting.sum(axis=1) > 0].sum() / max(hours.sum(), 1e-9)), 4),
        "by_pool": [
            {"pool": pool, "waited_gpu_hours": round(float((moment.waiting[:, place] * hours).sum()), 1),
             "short_gpu_hours": round(float((short[:, place] * hours).sum()), 1),
             "spare_gpu_hours": round(float((spare[:, place] * hours).sum()), 1)}
            for place, pool in enumerate(pools)
        ],
        "removes": "waiting, not idleness: the same work would have run earlier",
    }  # fmt: skip


def waited_by_team(jobs: pl.DataFrame, start: int, end: int) -> list[dict[str, Any]]:
    """GPU-hours that each team's jobs waited within a span, the longest first: from submission to start, or on until its end."""
    begins = pl.col("submitted").clip(start, end)
    ends = pl.col("start").fill_null(end).clip(start, end)
    waits = jobs.filter(pl.col("submitted").is_not_null()).with_columns(
        hours=(ends - begins) * pl.col("parts") / (PARTS * 3600)
    )
    rows = waits.filter(pl.col("hours") > 0).group_by("team").agg(pl.col("hours").sum(), jobs=pl.len())
    return [
        {"team": team, "waited_gpu_hours": round(hours, 1), "jobs": count}
        for team, hours, count in rows.sort("hours", "team", descending=[True, False]).iter_rows()
    ]


def _grid(levels: pl.DataFrame, pools: list[str]) -> tuple[NDArray[np.float64], _Moment]:
    """The moments at which every pool was read, with the hours that each stands for."""
    wide = [
        levels.filter(pl.col("pool") == pool).select(
            "time", pl.col("idle", "waiting", "waiting_large").name.suffix(f"/{pool}")
        )
        for pool in pools
    ]
    joined = wide[0]
    for other in wide[1:]:
        joined = joined.join(other, on="time", how="inner")
    joined = joined.sort("time").unique("time", keep="last", maintain_order=True)
    gaps = np.diff(joined["time"].to_numpy())
    step = float(np.median(gaps)) if len(gaps) else 0.0
    seconds = np.append(np.where(gaps <= _GAP * step, gaps, step), step)

    def columns(name: str) -> NDArray[np.float64]:
        return np.stack([joined[f"{name}/{pool}"].cast(pl.Float64).to_numpy() for pool in pools], axis=1)

    large = columns("waiting_large")
    return seconds / 3600, _Moment(columns("idle"), columns("waiting"), large if np.isfinite(large).all() else None)


def _gang(moment: _Moment, short: NDArray[np.float64], spare: NDArray[np.float64], hours: NDArray[np.float64]) -> float:
    """The same bound where jobs of eight GPUs and more take whole blocks of eight of one pool, and the others what is left."""
    assert moment.large is not None
    large = np.minimum(moment.large, short)
    blocks = (spare // GANG).sum(axis=1) * GANG
    in_blocks = np.minimum(large.sum(axis=1) // GANG * GANG, blocks)
    rest = np.minimum(short.sum(axis=1) - large.sum(axis=1), spare.sum(axis=1) - in_blocks)
    return float(((in_blocks + rest) * hours).sum())
