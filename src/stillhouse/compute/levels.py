"""How many GPUs of each pool stood idle and how many were waited for, over time: from imported series, else from jobs and
capacity.
"""

import numpy as np
import polars as pl

from stillhouse.compute.accounting.allocations import Window, hold_levels, steps_of
from stillhouse.compute.forecasts.idle_series import STEP, IdleSeries, series_of
from stillhouse.compute.importers.trace_layouts import SeriesFile
from stillhouse.compute.imports import readings_of
from stillhouse.compute.readings import LEVELS, PARTS, Ended, Readings
from stillhouse.home.fleet import Fleet
from stillhouse.home.open_home import Home

# Jobs of so many GPUs take whole nodes.
_LARGE = 8


def levels_of(home: Home, fleet: Fleet, window: Window) -> pl.DataFrame:
    """Levels of every pool within a window (columns as in LEVELS)."""
    readings = readings_of(home, "jobs", "capacity", "levels")
    return all_levels(readings, fleet).filter(pl.col("time").is_between(window.start, window.end, closed="left"))


def series_in(home: Home, fleet: Fleet) -> list[IdleSeries]:
    """The idle series of every pool."""
    levels = all_levels(readings_of(home, "jobs", "capacity", "levels"), fleet)
    pools = levels["pool"].unique(maintain_order=True).to_list()
    return series_of([SeriesFile(pool, levels.filter(pl.col("pool") == pool), {}) for pool in pools]) if pools else []


def all_levels(readings: Readings, fleet: Fleet) -> pl.DataFrame:
    """Imported series as they are, and for other pools what jobs and capacity say, every ten minutes."""
    given = set(readings.levels["pool"].unique())
    computed = [
        _computed(readings, pool, fleet)
        for pool in sorted({*readings.jobs["pool"].unique()} - given)
        if fleet.pool(pool).gpus or readings.capacity.filter(pl.col("pool") == pool).height
    ]
    return pl.concat([readings.levels, *computed])


def _computed(readings: Readings, pool: str, fleet: Fleet) -> pl.DataFrame:
    jobs = readings.jobs.filter(pl.col("pool") == pool)
    capacity = readings.capacity.filter(pl.col("pool") == pool)
    times = [value for frame, column in ((jobs, "start"), (jobs, "end"), (jobs, "submitted"), (capacity, "time"))
             for value in (frame[column].min(), frame[column].max()) if isinstance(value, int)]  # fmt: skip
    if not times:
        return pl.DataFrame(schema=LEVELS)
    window = Window(min(times) // STEP * STEP, max(times) + 1)
    moments = np.arange(window.start, window.end, STEP)
    whole = readings.capacity.filter(pl.col("snapshot"))["time"].unique().to_list()
    steps = steps_of(capacity, window, whole if capacity.height else ())
    ran = jobs.filter(pl.col("start").is_not_null())
    held = hold_levels(ran, moments, window.end)
    up = np.full(len(moments), fleet.pool(pool).gpus * PARTS)
    if steps:
        place = np.searchsorted([step.time for step in steps], moments, side="right") - 1
        up = np.where(place >= 0, np.array([step.up for step in steps])[np.maximum(place, 0)], 0)
    # A job waits from its submission to its start; one that was cancelled in the queue, until then.
    queued = jobs.filter(
        pl.col("submitted").is_not_null() & (pl.col("ended") != Ended.CANCELLED) | pl.col("start").is_not_null()
    )
    waits = queued.with_columns(end=pl.col("start"), start=pl.col("submitted"), suspended=pl.lit(0, pl.Int64)).filter(
        pl.col("end").is_null() | (pl.col("end") > pl.col("start"))
    )
    large = waits.filter(pl.col("parts") >= _LARGE * PARTS)
    return pl.DataFrame(
        {
            "time": moments,
            "pool": [pool] * len(moments),
            "capacity": up // PARTS,
            "idle": np.maximum(up - held, 0) // PARTS,
            "waiting": hold_levels(waits, moments, window.end) // PARTS,
            "waiting_large": hold_levels(large, moments, window.end) // PARTS,
        },
        schema=LEVELS,
    )
