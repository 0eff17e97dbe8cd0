"""A cluster in memory, with tenants that give GPUs back at notice: to see what a promise needs before anything is lent.

A request takes free GPUs first, then reclaims leases: those whose tenants lose least since their last checkpoint, per GPU. A
tenant stops within its notice, a node is wiped and checked before anybody else has it. The clock is virtual.
"""

import heapq
import random
from typing import NamedTuple

_SECONDS = 1.0


class Tenant(NamedTuple):
    """A lease on the cluster: GPUs, the notice in seconds, how often it saves its work."""

    name: str
    gpus: int
    notice: float
    checkpoint_every: float


class SimulatedCluster:
    """Implements ``Cluster``. ``wipe`` are the seconds that a node takes between two tenants."""

    def __init__(self, gpus: int, tenants: list[Tenant], wipe: float, seed: int = 0) -> None:
        self._time = 0.0
        self._random = random.Random(seed)  # noqa: S311  a simulation
        self._wipe = wipe
        self._tenants = list(tenants)
        self._free = gpus - sum(tenant.gpus for tenant in tenants)
        self._coming: list[tuple[float, int]] = []
        self._jobs: dict[str, tuple[int, float | None]] = {}
        self.lost_gpu_hours = 0.0

    def clock(self) -> float:
        """Virtual seconds since it began."""
        return self._time

    def request(self, gpus: int) -> str:
        """Take free GPUs, and reclaim what is missing."""
        job = f"owner-{len(self._jobs) + 1}"
        missing = gpus - self._free - sum(count for _, count in self._coming)
        since = {tenant: self._random.uniform(0, tenant.checkpoint_every) for tenant in self._tenants}
        for tenant in sorted(self._tenants, key=lambda one: (since[one], -one.gpus)):
            if missing <= 0:
                break
            self._tenants.remove(tenant)
            stops = self._random.uniform(0, tenant.notice)
            heapq.heappush(self._coming, (self._time + stops + self._wipe, tenant.gpus))
            self.lost_gpu_hours += max(since[tenant] - stops, 0) * tenant.gpus / 3600
            missing -= tenant.gpus
        self._jobs[job] = (gpus, None)
        self._start()
        return job

    def running_since(self, job: str) -> float | None:
        """When it started."""
        return self._jobs[job][1]

    def cancel(self, job: str) -> None:
        """Give its GPUs back."""
        gpus, since = self._jobs.pop(job)
        self._free += gpus if since is not None else 0

    def wait(self, seconds: float) -> None:
        """Let virtual time pass, second by second at most."""
        until = self._time + seconds
        while self._time < until:
            self._time = min(until, self._time + _SECONDS)
            while self._coming and self._coming[0][0] <= self._time:
                self._free += heapq.heappop(self._coming)[1]
            self._start()

    def _start(self) -> None:
        for job, (gpus, since) in self._jobs.items():
            if since is None and gpus <= self._free:
                self._free -= gpus
                self._jobs[job] = (gpus, self._time)
