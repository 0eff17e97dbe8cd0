"""Every GPU-second of a pool in exactly one state, with who held it. Pure.

The states of a pool sum to its capacity times the time, to the second; a test generates clusters and checks it. What is known
of activity comes from samples, and has their error: ``bound`` says how much of a row could belong to its neighbours.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec
import polars as pl

from stillhouse.compute.accounting.activity import activity_of
from stillhouse.compute.accounting.allocations import Held, Step, Window, hold, steps_of
from stillhouse.compute.readings import LOST, PARTS, SAMPLES, Ended, Readings, Span, merged


class State(StrEnum):
    """What a GPU-second was used for."""

    DOWN = "down"
    UNALLOCATED = "unallocated"
    INACTIVE = "allocated-inactive"
    UNPRODUCTIVE = "active-unproductive"
    PRODUCTIVE = "active-productive"
    UNKNOWN = "unknown"


# Why something is unknown that may not even have been held.
NOT_REPORTED = "no jobs were reported of that time"
NOT_IMPORTED = "nothing was imported about it"

STATES = pl.Schema(
    {
        "pool": pl.String,
        "state": pl.String,
        "why": pl.String,  # of what is unknown or unproductive
        "team": pl.String,
        "project": pl.String,
        "user": pl.String,
        "job": pl.String,
        "start": pl.Int64,
        "gpu_type": pl.String,
        "ended": pl.String,
        "rung": pl.String,
        "part_seconds": pl.Int64,
        "bound": pl.Int64,
    }
)


class Accounts(NamedTuple):
    """The states of one pool in a window."""

    pool: str
    window: Window
    states: pl.DataFrame
    capacity: int  # part-seconds
    conflict: int
    unrecorded: int  # seconds

    def total(self, *states: State) -> int:
        """The part-seconds in some states."""
        return int(self.states.filter(pl.col("state").is_in(list(map(str, states))))["part_seconds"].sum())


def account(readings: Readings, window: Window, declared: dict[str, int]) -> list[Accounts]:
    """The states of every pool. ``declared`` has the parts of pools whose capacity no scheduler reported."""
    readings = msgspec.structs.replace(readings, samples=placed(readings))
    named = (frame["pool"].unique() for frame in (readings.jobs, readings.capacity, readings.levels))
    pools = sorted({pool for names in named for pool in names} | set(declared))
    found = [_pool(readings, name, window, declared.get(name)) for name in pools]
    return [accounts for accounts in found if accounts.capacity]  # of others nothing is known in this window


def placed(readings: Readings) -> pl.DataFrame:
    """Samples with the pool of their node, or of the job that they name, where they name no pool themselves."""
    samples = readings.samples
    if not samples.height or not (samples["pool"] == "").any():
        return samples
    nodes = pl.concat(
        [
            readings.capacity.select("node", "pool"),
            readings.jobs.select(node="nodes", pool="pool").explode("node", empty_as_null=False).drop_nulls(),
        ]
    )
    by_node = _only_pool(nodes, "node")
    names = pl.concat([readings.jobs.select("job", "pool"), readings.jobs.select(job="raw", pool="pool")])
    by_job = _only_pool(names, "job")
    found = samples.join(by_node, on="node", how="left", maintain_order="left")
    found = found.join(by_job, on="job", how="left", maintain_order="left")
    said = pl.when(pl.col("pool") != "").then("pool")
    return found.with_columns(pool=pl.coalesce(said, "pool_of_node", "pool_of_job", "pool")).select(list(SAMPLES))


def _only_pool(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """The pool of each node or job that is in one pool alone."""
    grouped = table.group_by(name).agg(pl.col("pool").n_unique().alias("pools"), pl.col("pool").first())
    only = grouped.filter((pl.col("pools") == 1) & (pl.col(name) != ""))
    return only.select(pl.col(name).cast(pl.Categorical), pl.col("pool").cast(pl.Categorical).alias(f"pool_of_{name}"))


def _pool(readings: Readings, pool: str, window: Window, declared: int | None) -> Accounts:
    if (
        not readings.jobs.filter(pl.col("pool") == pool).height
        and not readings.capacity.filter(pl.col("pool") == pool).height
    ):
        return _without_jobs(readings.levels.filter(pl.col("pool") == pool), pool, window, declared)
    jobs = readings.jobs.filter((pl.col("pool") == pool) & pl.col("start").is_not_null())
    whole = readings.capacity.filter(pl.col("snapshot"))["time"].unique().to_list()
    own = readings.capacity.filter(pl.col("pool") == pool)
    steps = steps_of(own, window, whole if own.height else ())
    # Before the first snapshot, and without any, a pool has what is declared of it.
    if declared is not None and (not steps or steps[0].time > window.start):
        steps.insert(0, Step(window.start, declared, declared))
    covered = covered_of(readings, pool)
    # What still runs did so as far as was reported.
    until = window.end if covered is None else min(window.end, max((end for _, end in covered), default=window.start))
    ends = pl.coalesce(
        "end", pl.max_horizontal("start", pl.min_horizontal(pl.col("seen").fill_null(until), pl.lit(until)))
    )
    held = hold(jobs.with_columns(end=ends), steps, window, covered)
    samples = readings.samples.filter(
        (pl.col("pool") == pool) & pl.col("time").is_between(window.start, window.end, closed="left")
    )
    states = pl.concat([_of_jobs(held, activity_of(samples, held.by_job)), _of_pool(pool, held)])
    return Accounts(
        pool, window, states.filter(pl.col("part_seconds") > 0), held.capacity, held.conflict, held.unrecorded
    )


def covered_of(readings: Readings, pool: str) -> tuple[Span, ...] | None:
    """When jobs of a pool were reported. One that an export has no job of may be another scheduler's, or was free: exports of
    others tell of it only where its nodes are known.
    """
    if readings.covered is None:
        return None if readings.jobs.height or not readings.capacity.height else ()
    if pool in readings.covered:
        return readings.covered[pool]
    return merged(span for spans in readings.covered.values() for span in spans)


def _without_jobs(levels: pl.DataFrame, pool: str, window: Window, declared: int | None) -> Accounts:
    """A pool of which nobody reported a job: what a series says stood idle, and the rest is not known."""
    whole = (declared or 0) * window.seconds
    inside = levels.filter(pl.col("time").is_between(window.start, window.end, closed="left")).sort("time")
    gaps = inside["time"].diff().shift(-1)
    step = int(gaps.median() or 0)  # type: ignore[arg-type]
    rows = inside.with_columns(
        seconds=pl.min_horizontal(gaps.fill_null(step).clip(0, step), window.end - pl.col("time")),
        size=pl.col("capacity").fill_null((declared or 0) // PARTS),
    )
    read = rows.select(
        idle=(pl.min_horizontal("idle", "size") * pl.col("seconds")).sum(), whole=(pl.col("size") * pl.col("seconds")).sum(),
        seconds=pl.col("seconds").sum(),
    ).row(0)  # fmt: skip
    idle, sized, seconds = (int(value or 0) for value in read)
    unread = (declared or 0) * (window.seconds - seconds)
    held = sized * PARTS - idle * PARTS
    states = _nobodys(
        pool,
        (State.UNALLOCATED, "", idle * PARTS),
        (State.UNKNOWN, "held; by whom and for what was not reported", held),
        (State.UNKNOWN, NOT_IMPORTED, unread if declared else 0),
    )
    capacity = int(states["part_seconds"].sum()) if seconds or not declared else whole
    return Accounts(pool, window, states, capacity, 0, window.seconds - seconds if not declared else 0)


def _of_pool(pool: str, held: Held) -> pl.DataFrame:
    """What nobody held."""
    return _nobodys(
        pool,
        (State.DOWN, "", held.down),
        (State.UNALLOCATED, "", held.unallocated),
        (State.UNKNOWN, NOT_REPORTED, held.uncovered),
    )


def _nobodys(pool: str, *rows: tuple[State, str, int]) -> pl.DataFrame:
    """Part-seconds of states that are no job's, and why."""
    empty = {name: "" for name, kind in STATES.items() if kind == pl.String} | {"bound": 0, "start": None}
    listed = [
        empty | {"pool": pool, "state": str(state), "why": why, "part_seconds": parts} for state, why, parts in rows
    ]
    return pl.DataFrame(listed, schema=STATES).filter(pl.col("part_seconds") > 0)


def _of_jobs(held: Held, activity: pl.DataFrame) -> pl.DataFrame:
    """What jobs held: inactive, active and lost, active and kept, or not known."""
    jobs = (
        held.by_job.with_row_index("run")
        .join(activity, on="run", how="left", maintain_order="left")
        .with_columns(pl.col("active", "inactive", "bound").fill_null(0), pl.col("rung").fill_null(""))
    )
    # A mean of zero over the whole run needs no samples: nothing was ever used.
    never = (pl.col("mean_use") == 0) & (pl.col("rung") == "")
    jobs = jobs.with_columns(
        inactive=pl.when(never).then(pl.col("held")).otherwise(pl.min_horizontal("inactive", "held")),
        rung=pl.when(never).then(pl.lit("GPU_UTIL")).otherwise(pl.col("rung")),
    )
    # What was cut because more was claimed than there is is taken off what is not known, then off what was inactive.
    jobs = jobs.with_columns(active=pl.min_horizontal("active", "held"))
    jobs = jobs.with_columns(inactive=pl.min_horizontal("inactive", pl.col("held") - pl.col("active")))
    jobs = jobs.with_columns(unknown=pl.col("held") - pl.col("active") - pl.col("inactive"))
    lost = pl.col("ended").is_in([str(one) for one in LOST])
    undecided = pl.col("ended") == Ended.UNKNOWN
    unnamed = pl.lit("no samples name it, or are of its nodes alone")
    not_sampled = pl.when(pl.col("rung") == "").then(unnamed).otherwise(pl.lit("between samples"))
    parts = (
        (State.INACTIVE, pl.col("inactive"), pl.lit(""), pl.lit(value=True)),
        (State.UNPRODUCTIVE, pl.col("active"), pl.col("ended"), lost),
        (State.UNKNOWN, pl.col("active"), pl.lit("active; how the job ended is not known"), undecided),
        (State.PRODUCTIVE, pl.col("active"), pl.lit(""), ~lost & ~undecided),
        (State.UNKNOWN, pl.col("unknown"), not_sampled, pl.lit(value=True)),
    )
    rows = [
        jobs.filter(which & (amount > 0)).select(
            "pool", "team", "project", "user", "job", "start", "gpu_type", "ended", "rung",
            state=pl.lit(str(state)), why=why, part_seconds=amount, bound=pl.min_horizontal("bound", "held"),
        )
        for state, amount, why, which in parts
    ]  # fmt: skip
    return pl.concat(rows).select(list(STATES)).cast(STATES)
