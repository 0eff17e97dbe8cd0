"""Replay past jobs on another number of GPUs: how long each would have waited. Pure.

First come, first served, with backfill: whenever GPUs are free, the job that has waited longest among those that fit starts. No
priorities, no node shapes; the same is true on both sides of a comparison.
"""

import heapq
from collections import deque
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stillhouse.compute.readings import PARTS

Whole = NDArray[np.int64]


class Work(NamedTuple):
    """Jobs in the order of their arrival: when each arrived, how long it ran, how many GPUs it held."""

    arrived: Whole
    seconds: Whole
    gpus: Whole
    team: list[str]


class Replayed(NamedTuple):
    """When each job started, and which were too large ever to start."""

    started: Whole
    too_large: int

    def waits(self, work: Work) -> Whole:
        """Seconds that each job waited."""
        return np.asarray(self.started - work.arrived)


def work_of(jobs: pl.DataFrame) -> Work:
    """The jobs that ran, in whole GPUs: a part of one counts as one."""
    ran = jobs.filter(pl.col("start").is_not_null() & pl.col("end").is_not_null()).with_columns(
        arrived=pl.min_horizontal(pl.col("submitted").fill_null(pl.col("start")), "start")
    )
    ran = ran.sort("arrived", maintain_order=True)
    return Work(
        ran["arrived"].to_numpy(),
        (ran["end"] - ran["start"] - ran["suspended"]).clip(lower_bound=0).to_numpy(),
        np.maximum(-(-ran["parts"].to_numpy() // PARTS), 1),
        ran["team"].to_list(),
    )


def replay(work: Work, capacity: int) -> Replayed:
    """Start every job on so many GPUs as soon as it fits; what never fits is left out and counted."""
    free = capacity
    running: list[tuple[int, int]] = []
    # Jobs that wait, by how many GPUs they need; each queue in the order of arrival.
    waiting: dict[int, deque[int]] = {}
    started = np.array(work.arrived, copy=True)
    arrivals, seconds, gpus = work.arrived.tolist(), work.seconds.tolist(), work.gpus.tolist()
    too_large = next_job = 0
    while next_job < len(arrivals) or any(waiting.values()):
        ends = running[0][0] if running else None
        if next_job < len(arrivals) and (ends is None or arrivals[next_job] <= ends):
            clock = arrivals[next_job]
            if gpus[next_job] > capacity:
                too_large += 1
            else:
                waiting.setdefault(gpus[next_job], deque()).append(next_job)
            next_job += 1
        else:
            clock, freed = heapq.heappop(running)
            free += freed
        while (
            free
            and (job := min((queue[0] for need, queue in waiting.items() if queue and need <= free), default=-1)) >= 0
        ):
            waiting[gpus[job]].popleft()
            started[job] = clock
            free -= gpus[job]
            heapq.heappush(running, (clock + seconds[job], gpus[job]))
    return Replayed(started, too_large)


def busy_above(work: Work, replayed: Replayed, floor: int, most: int, window: tuple[int, int]) -> float:
    """Of the GPUs numbered from ``floor`` to ``most``, the share of the window in which they were busy: the lowest are used
    first.
    """
    fits = work.gpus <= most
    begins = np.clip(replayed.started[fits], *window)
    ends = np.clip(replayed.started[fits] + work.seconds[fits], *window)
    moments = np.concatenate([begins, ends])
    changes = np.concatenate([work.gpus[fits], -work.gpus[fits]])
    order = np.argsort(moments, kind="stable")
    moments, level = moments[order], np.cumsum(changes[order])
    if not len(moments) or most <= floor:
        return 0.0
    length = np.diff(np.concatenate([moments, [window[1]]]))
    return float((np.clip(level - floor, 0, most - floor) * length).sum() / ((most - floor) * (window[1] - window[0])))
