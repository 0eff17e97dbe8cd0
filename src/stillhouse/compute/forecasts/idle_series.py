"""How many GPUs of a pool stood idle, on a grid of ten minutes: what forecasts learn from. Pure."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillhouse.compute.importers.trace_layouts import SeriesFile
from stillhouse.errors import UsageError

STEP = 600
BINS_PER_HOUR = 3600 // STEP
BINS_PER_DAY = 24 * BINS_PER_HOUR
_DAY = 86_400
# Older readings say nothing of today, and one wrong date would make years of nothing.
LONGEST_DAYS = 400


class IdleSeries:
    """A pool's idle GPUs: the fewest in each bin, NaN where nothing was recorded.

    ``start`` is the time of the first bin; ``boundaries`` are the bins in which a further file begins, ``left_out`` how many
    readings were too old to be used.
    """

    def __init__(
        self, pool: str, start: int, idle: NDArray[np.float64], boundaries: tuple[int, ...] = (), left_out: int = 0
    ) -> None:
        self.pool, self.start, self.idle, self.boundaries, self.left_out = pool, start, idle, boundaries, left_out
        self.idle.setflags(write=False)

    def __len__(self) -> int:
        return len(self.idle)

    def days_of(self, bins: NDArray[np.int64]) -> NDArray[np.int64]:
        """The day, counted from 1970, that each bin is in."""
        return (self.start + bins * STEP) // _DAY

    def at(self, bin: int) -> int:
        """When a bin begins, in seconds since 1970."""
        return self.start + bin * STEP


def series_of(files: list[SeriesFile]) -> list[IdleSeries]:
    """One series for each pool; files with the same pool continue one. Raises UsageError where a pool has no reading."""
    found = []
    for pool in dict.fromkeys(file.pool for file in files):
        parts = [file.levels for file in files if file.pool == pool]
        starts = sorted(int(part["time"].min()) for part in parts if part.height)  # type: ignore[arg-type]
        if not starts:
            raise UsageError(f"The series of {pool} has no reading.", next_step="It takes the columns time and idle.")
        every = pl.concat(parts).drop_nulls(["time", "idle"])
        levels = every.filter(pl.col("time") > pl.col("time").max() - LONGEST_DAYS * _DAY)
        # The fewest in a bin is what could have been promised; so do two readings of one moment, as where clocks go back.
        binned = levels.group_by((pl.col("time") // STEP).alias("bin")).agg(pl.col("idle").min()).sort("bin")
        first = int(binned["bin"][0])
        idle = np.full(int(binned["bin"][-1]) - first + 1, np.nan)
        idle[binned["bin"].to_numpy() - first] = binned["idle"].to_numpy()
        boundaries = tuple(start // STEP - first for start in starts[1:] if start // STEP > first)
        found.append(IdleSeries(pool, first * STEP, idle, boundaries, every.height - levels.height))
    return found
