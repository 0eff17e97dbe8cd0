"""The tables that every importer makes, whatever it read: jobs, samples of activity, capacity, charges.

Times are whole seconds since 1970 in UTC. GPUs are counted in parts, PARTS to a GPU, so that MIG slices and shared GPUs add up
exactly. What an importer could not read is in ``left_out``: how many rows, by reason.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
import polars as pl

# Divisible by 1 to 10 and by the sevenths of MIG.
PARTS = 5040
# A row with more than this many GPUs is a mistake, and would drown all others.
MOST_GPUS = 100_000


class Ended(StrEnum):
    """How a run of a job ended, as far as its work is concerned."""

    COMPLETED = "completed"
    RUNNING = "running"
    PENDING = "pending"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    FAILED = "failed"
    PREEMPTED = "preempted"
    NODE_FAIL = "node_fail"
    UNKNOWN = "unknown"


# A run that ended so left nothing that its owner asked for. A cancelled run, or one at its time limit, may have: whoever stops a
# run when it has converged cancels it, too.
LOST = (Ended.FAILED, Ended.PREEMPTED, Ended.NODE_FAIL)

_JOBS: dict[str, Any] = {
    "job": pl.String,
    "raw": pl.String,  # another id of it, by which samples may name it; "" where there is none
    "pool": pl.String,
    "user": pl.String,
    "team": pl.String,
    "project": pl.String,
    "gpu_type": pl.String,
    "parts": pl.Int64,  # of GPUs, all nodes together
    "nodes": pl.List(pl.String),
    "submitted": pl.Int64,
    "start": pl.Int64,  # null: it never started
    "end": pl.Int64,  # null: it still runs
    "suspended": pl.Int64,  # seconds of [start, end) in which it held nothing; when exactly is not known
    "limit": pl.Int64,  # seconds; null: none
    "ended": pl.String,  # an Ended
    "mean_use": pl.Float64,  # of its GPUs over the whole run, 0 to 1; null: not measured
    "reason": pl.String,
    "seen": pl.Int64,  # until when it was seen running, where it has no end; null: as long as anything was reported
}
JOBS = pl.Schema(_JOBS)

# Names are categories: a thousand GPUs have 45 million samples a month, and few names.
_SAMPLES: dict[str, Any] = {
    "time": pl.Int64,
    "pool": pl.Categorical(),
    "node": pl.Categorical(),
    "gpu": pl.Categorical(),  # its UUID or index, unique with the node
    "parts": pl.Int64,
    "job": pl.Categorical(),  # "" where the sample does not say
    "use": pl.Float32,  # 0 to 1
    "rung": pl.Categorical(),  # which measure it is: a Rung
}
SAMPLES = pl.Schema(_SAMPLES)

CAPACITY = pl.Schema(
    {
        "pool": pl.String,
        "node": pl.String,
        "gpu_type": pl.String,
        "time": pl.Int64,  # from when on
        "parts": pl.Int64,
        "up": pl.Boolean,
        "snapshot": pl.Boolean,  # of a whole cluster at once: a node that a later one lacks is gone
    }
)

# Where GPUs wait and stand idle in numbers only, without jobs: a series of a pool.
LEVELS = pl.Schema(
    {
        "time": pl.Int64,
        "pool": pl.String,
        "capacity": pl.Int64,  # GPUs
        "idle": pl.Int64,
        "waiting": pl.Int64,  # GPUs that queued jobs ask for; null: not known
        "waiting_large": pl.Int64,  # of these, for jobs of 8 GPUs and more
    }
)


class Rung(StrEnum):
    """By which measure activity is known, the best first. GPU_UTIL only says that some kernel ran."""

    SM_ACTIVE = "SM_ACTIVE"
    GR_ENGINE = "GR_ENGINE"
    GPU_UTIL = "GPU_UTIL"
    POWER = "POWER"


LADDER = tuple(Rung)


# From when to when, in seconds; the end is not part of it.
Span = tuple[int, int]


class Readings(msgspec.Struct, frozen=True):
    """What was read of one source."""

    jobs: pl.DataFrame = pl.DataFrame(schema=JOBS)
    samples: pl.DataFrame = pl.DataFrame(schema=SAMPLES)
    capacity: pl.DataFrame = pl.DataFrame(schema=CAPACITY)
    levels: pl.DataFrame = pl.DataFrame(schema=LEVELS)
    left_out: dict[str, int] = {}
    # From when to when jobs were reported: of which pools jobs are in it, and the spans. None: always, of every pool.
    covered: dict[str, tuple[Span, ...]] | None = None

    @property
    def rows(self) -> int:
        """How many rows were kept."""
        return self.jobs.height + self.samples.height + self.capacity.height + self.levels.height


TABLES = {"jobs": JOBS, "samples": SAMPLES, "capacity": CAPACITY, "levels": LEVELS}


def together(readings: Iterable[Readings]) -> Readings:
    """Several readings as one: rows that two exports have in common count once, and of a job's run the newest word counts."""
    all_of = list(readings)
    if not all_of:
        return Readings()
    left_out: Counter[str] = Counter()
    for one in all_of:
        left_out.update(one.left_out)
    covered: dict[str, tuple[Span, ...]] = {}
    for one in all_of:
        for pool, spans in (one.covered or {}).items():
            covered[pool] = merged((*covered.get(pool, ()), *spans))
    frames = {name: pl.concat([getattr(one, name) for one in all_of]) for name in TABLES}
    jobs, repeated = newest_of_each_run(frames["jobs"])
    if repeated:
        left_out["a job that another row says, too"] += repeated
    return Readings(
        jobs=jobs,
        samples=frames["samples"].unique(["time", "pool", "node", "gpu", "rung"], keep="last", maintain_order=True),
        capacity=frames["capacity"].unique(["pool", "node", "time"], keep="last", maintain_order=True),
        levels=frames["levels"].unique(["pool", "time"], keep="last", maintain_order=True),
        left_out=dict(left_out),
        covered=covered if any(one.covered is not None for one in all_of) else None,
    )


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, those that meet as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def newest_of_each_run(jobs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Each run of a job once, and how many rows were repeats. A requeued job has several runs, which start at other times."""
    if not jobs.height:
        return jobs, 0
    # What has ended is newer than what still runs; among equals the later row is.
    kept = (
        jobs.with_row_index("row")
        .sort(pl.col("end").is_null().not_(), pl.col("end").fill_null(0), "row")
        .unique(["pool", "job", "start"], keep="last", maintain_order=True)
        .sort("row")
        .drop("row")
    )
    # A run that was still going when another of its job began was ended by that: nobody runs twice at once.
    after = pl.col("start").sort().shift(-1).over("pool", "job", order_by="start")
    kept = kept.with_columns(next_start=after)
    requeued = pl.col("end").is_null() & pl.col("start").is_not_null() & (pl.col("next_start") > pl.col("start"))
    kept = kept.with_columns(
        end=pl.when(requeued).then("next_start").otherwise("end"),
        ended=pl.when(requeued).then(pl.lit(str(Ended.PREEMPTED))).otherwise("ended"),
    ).drop("next_start")
    # A job that is pending in one export and runs in another was seen twice, too.
    started = kept.filter(pl.col("start").is_not_null()).select("pool", "job").unique()
    waiting = kept.filter(pl.col("start").is_null()).join(started, on=["pool", "job"], how="anti")
    kept = pl.concat([kept.filter(pl.col("start").is_not_null()), waiting])
    return kept, jobs.height - kept.height
