"""Four weeks of a cluster that does not exist, as its scheduler, its exporter and its cloud would have written them.

Two pools: one whose largest effort stalled five days ago and still holds half of its GPUs, and one whose team waits.
Everything follows from a seed, and the end of the weeks.
"""

import random
from typing import NamedTuple

from stillhouse.compute.decisions.job_replay import Work, replay
from stillhouse.compute.importers.slurm_jobs import FIELDS

HOUR, DAY = 3600, 86_400
DAYS, STALLED_DAYS = 28, 5
LARGE, SMALL = 64, 16
POOLS = ("h100", "a100")
STALLED_JOB = "9000"
_SAMPLE_SECONDS = 600
_SAMPLED_DAYS = 7


class Cluster(NamedTuple):
    """What sacct and the exporter would have written, and from when to when."""

    sacct: str
    samples: str
    start: int
    end: int


class _Job(NamedTuple):
    id: str
    pool: str
    user: str
    team: str
    gpus: int
    submitted: int
    start: int
    end: int | None
    state: str
    use: float


def made_up(end: int, seed: int = 7) -> Cluster:
    """The weeks before a moment, in seconds since 1970."""
    chance = random.Random(seed)  # noqa: S311  a made-up cluster
    start = end - DAYS * DAY
    stall = end - STALLED_DAYS * DAY
    jobs = [
        _Job("8000", "h100", "petra", "pretrain", 32, start, start + HOUR, stall, "FAILED", 0.85),
        _Job(STALLED_JOB, "h100", "petra", "pretrain", 32, stall, stall + HOUR, None, "RUNNING", 0.0),
        *_days(chance, start, end),
        *_queue(chance, start, end),
    ]
    lines = ["|".join(FIELDS), *(_line(job, end) for job in jobs)]
    return Cluster("\n".join(lines) + "\n", _samples(jobs, end), start, end)


def _days(chance: random.Random, start: int, end: int) -> list[_Job]:
    """What two teams run beside it: much by day, little at night and at weekends."""
    found: list[_Job] = []
    free_from = dict.fromkeys(range(4), start)
    for moment in range(start, end - 6 * HOUR, HOUR):
        hour, weekday = moment // HOUR % 24, (moment // DAY + 3) % 7
        busy = 0.5 if 8 <= hour < 19 and weekday < 5 else 0.06
        for slot, free in free_from.items():
            if free <= moment and chance.random() < busy:
                seconds = int(chance.uniform(1, 5) * HOUR)
                team, user = (("vision", "vera"), ("nlp", "nils"))[slot % 2]
                state = "FAILED" if chance.random() < 0.12 else "COMPLETED"
                free_from[slot] = moment + seconds
                found.append(
                    _Job(str(100 + len(found)), "h100", user, team, 8, moment, moment, moment + seconds, state, 0.6)
                )
    return found


def _queue(chance: random.Random, start: int, end: int) -> list[_Job]:
    """What the other team runs on too few GPUs: it waits."""
    import numpy as np

    arrived, moment = [], start
    while moment < end - 8 * HOUR:
        moment += int(chance.expovariate(1 / (2.2 * HOUR)))
        arrived.append(moment)
    seconds = [int(chance.uniform(1, 6) * HOUR) for _ in arrived]
    work = Work(np.array(arrived), np.array(seconds), np.full(len(arrived), 8), ["agents"] * len(arrived))
    starts = replay(work, SMALL).started.tolist()
    return [
        _Job(str(20_000 + number), "a100", "ana", "agents", 8, came, begin, begin + ran, "COMPLETED", 0.9)
        for number, (came, begin, ran) in enumerate(zip(arrived, starts, seconds, strict=True))
        if begin + ran < end
    ]


def _line(job: _Job, now: int) -> str:
    values = {
        "JobIDRaw": job.id, "JobID": job.id, "User": job.user, "Account": job.team, "Partition": job.pool, "State": job.state,
        "Submit": job.submitted, "Eligible": job.submitted, "Start": job.start, "End": job.end or "Unknown",
        "ElapsedRaw": (job.end or now) - job.start, "NNodes": job.gpus // 8,
        "AllocTRES": f"billing={job.gpus},gres/gpu={job.gpus},gres/gpu:{job.pool}={job.gpus}",
    }  # fmt: skip
    return "|".join(str(values.get(name, "")) for name in FIELDS)


def _samples(jobs: list[_Job], end: int) -> str:
    """The last week of every GPU that a job held, as shares."""
    rows = ["time,pool,node,gpu,job,use"]
    for job in jobs:
        first = max(job.start, end - _SAMPLED_DAYS * DAY)
        for moment in range(first, job.end or end, _SAMPLE_SECONDS):
            rows += [f"{moment},{job.pool},,{job.id}-{gpu},{job.id},{job.use}" for gpu in range(job.gpus)]
    return "\n".join(rows) + "\n"
