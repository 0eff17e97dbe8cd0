"""From jobs and capacity to who held how much of a pool when: exact, to the second. Pure.

What is claimed beyond the capacity of a pool is in conflict: jobs that started earlier keep what they have, and the rest is
counted apart, never twice. What lies outside the window is cut off.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillhouse.compute.readings import Span

Whole = NDArray[np.int64]


class Window(NamedTuple):
    """From when to when, in seconds since 1970; the end is not part of it."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.end - self.start


class Step(NamedTuple):
    """A pool's capacity from a moment on: all of it, and how much of it is up, in parts."""

    time: int
    total: int
    up: int


class Held(NamedTuple):
    """How a pool was held in a window, in part-seconds; ``by_job`` has a row for each run that held anything."""

    capacity: int
    down: int
    unallocated: int
    uncovered: int  # nobody held it as far as is known, at a time of which no jobs were reported
    unrecorded: int  # seconds without a record of the capacity: only what jobs held is counted of them
    conflict: int  # claimed beyond the capacity, and counted nowhere else
    by_job: pl.DataFrame  # of ``jobs``: with held, the part-seconds, and begins and ends, the seconds within the window


def steps_of(capacity: pl.DataFrame, window: Window, snapshots: Sequence[int] = ()) -> list[Step]:
    """The capacity of one pool over time, from snapshots of its nodes: what was said last of each node holds until it is said
    anew.
    """
    nodes: dict[str, tuple[int, bool]] = {}
    found: list[Step] = []
    by_time: dict[int, list[tuple[str, int, bool]]] = {time: [] for time in snapshots}
    whole: dict[int, set[str]] = {time: set() for time in snapshots}
    for time, node, parts, is_up, snapshot in capacity.select("time", "node", "parts", "up", "snapshot").iter_rows():
        by_time.setdefault(time, []).append((node, parts, is_up))
        if snapshot:
            whole.setdefault(time, set()).add(node)
    for time in sorted(by_time):
        # A node that a snapshot of the whole cluster lacks is gone, or in another pool.
        if time in whole:
            nodes = {node: was for node, was in nodes.items() if node in whole[time]}
        nodes |= {node: (parts, is_up) for node, parts, is_up in by_time[time]}
        moment = max(time, window.start)
        if moment >= window.end:
            break
        if found and found[-1].time == moment:
            found.pop()
        total = sum(parts for parts, _ in nodes.values())
        found.append(Step(moment, total, sum(parts for parts, is_up in nodes.values() if is_up)))
    return found


def hold(jobs: pl.DataFrame, steps: list[Step], window: Window, covered: tuple[Span, ...] | None = None) -> Held:
    """Who held how much of one pool. Before the first step nothing is known of its capacity; what nobody held outside of
    ``covered`` may have been held.
    """
    clipped = jobs.with_columns(
        begins=pl.col("start").clip(window.start, window.end),
        # What was suspended held nothing; when that was is not known, so it is cut off at the end.
        ends=(pl.col("end").fill_null(window.end) - pl.col("suspended")).clip(window.start, window.end),
    ).filter((pl.col("begins") < pl.col("ends")) & (pl.col("parts") > 0))
    begins, ends, parts = (clipped[name].to_numpy() for name in ("begins", "ends", "parts"))
    times, total, up, recorded = _levels(steps, window)
    edges = np.unique(
        np.concatenate(
            [times, begins, ends, [window.start, window.end], [edge for span in covered or () for edge in span]]
        )
    )
    edges = edges[(edges >= window.start) & (edges <= window.end)]
    length = np.diff(edges)
    place = np.searchsorted(times, edges[:-1], side="right") - 1
    total, up, recorded = total[place], up[place], recorded[place]
    claimed = _claimed(edges[:-1], begins, ends, parts)
    # Where no capacity was recorded, what jobs held is what there was at least.
    total = np.where(recorded, total, claimed)
    held = np.minimum(claimed, total)
    # A job on a node that is drained holds it: what is down is what nobody holds.
    down = np.where(recorded, np.minimum(total - up, total - held), 0)
    over = claimed - held
    free = (total - held - down) * length
    reported = np.ones(len(free), dtype=bool)
    if covered is not None:
        reported = np.zeros(len(free), dtype=bool)
        for start, end in covered:
            reported |= (edges[:-1] >= start) & (edges[:-1] < end)
    cut = _cut(edges, over, begins, ends, parts)
    return Held(
        capacity=int((total * length).sum()),
        down=int((down * length).sum()),
        unallocated=int(free[reported].sum()),
        uncovered=int(free[~reported].sum()),
        unrecorded=int(length[~recorded].sum()),
        conflict=int((over * length).sum()),
        by_job=clipped.with_columns(
            held=pl.Series(parts * (ends - begins) - cut, dtype=pl.Int64), cut=pl.Series(cut, dtype=pl.Int64)
        ),
    )


def hold_levels(jobs: pl.DataFrame, moments: Whole, now: int) -> Whole:
    """How many parts jobs hold at each moment; what has no end goes on until ``now``."""
    held = jobs.with_columns(end=pl.col("end").fill_null(now) - pl.col("suspended")).filter(
        pl.col("start").is_not_null()
    )
    begins, ends, parts = (held[name].to_numpy() for name in ("start", "end", "parts"))
    return _claimed(moments, begins, ends, parts)


def _levels(steps: list[Step], window: Window) -> tuple[Whole, Whole, Whole, NDArray[np.bool_]]:
    """Times, capacity, what of it is up, and whether it was recorded, beginning with the window."""
    rows = [(step.time, step.total, step.up, True) for step in steps if step.time < window.end]
    if not rows or rows[0][0] > window.start:
        rows.insert(0, (window.start, 0, 0, False))
    times, total, up, recorded = zip(*rows, strict=True)
    return np.array(times), np.array(total), np.array(up), np.array(recorded)


def _claimed(moments: Whole, begins: Whole, ends: Whole, parts: Whole) -> Whole:
    """How many parts jobs claim at each moment."""
    order, closing = np.argsort(begins, kind="stable"), np.argsort(ends, kind="stable")
    opened = np.concatenate([[0], np.cumsum(parts[order])])
    closed = np.concatenate([[0], np.cumsum(parts[closing])])
    return np.asarray(
        opened[np.searchsorted(begins[order], moments, side="right")]
        - closed[np.searchsorted(ends[closing], moments, side="right")]
    )


def _cut(edges: Whole, over: Whole, begins: Whole, ends: Whole, parts: Whole) -> Whole:
    """The part-seconds that each job loses where more is claimed than there is: those that started last lose first."""
    cut = np.zeros(len(begins), dtype=np.int64)
    if not over.any():
        return cut
    order = np.argsort(begins, kind="stable")
    running: list[tuple[int, int]] = []  # by end
    alive: list[tuple[int, int]] = []  # by start, the latest first
    next_job = 0
    for place, start in enumerate(edges[:-1]):
        while next_job < len(order) and begins[order[next_job]] <= start:
            job = int(order[next_job])
            heapq.heappush(running, (int(ends[job]), job))
            heapq.heappush(alive, (-next_job, job))
            next_job += 1
        while running and running[0][0] <= start:
            heapq.heappop(running)
        if not over[place]:
            continue
        while alive and ends[alive[0][1]] <= start:
            heapq.heappop(alive)
        missing, seconds, set_aside = int(over[place]), int(edges[place + 1] - start), []
        while missing > 0 and alive:
            rank, job = heapq.heappop(alive)
            if ends[job] <= start:
                continue
            taken = min(missing, int(parts[job]))
            cut[job] += taken * seconds
            missing -= taken
            set_aside.append((rank, job))
        for one in set_aside:
            heapq.heappush(alive, one)
    return cut
