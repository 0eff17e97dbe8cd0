"""What a cluster must do for a reclaim drill: take an owner's job, and say since when it runs."""

from typing import Protocol


class Cluster(Protocol):
    """A scheduler, as far as a drill needs it. Times are seconds on the cluster's own clock."""

    def clock(self) -> float:
        """What time it is."""

    def request(self, gpus: int) -> str:
        """Ask for GPUs as their owner; returns the job's id. Raises StorageError where the scheduler refuses."""

    def running_since(self, job: str) -> float | None:
        """When a job started to run; None while it waits. Raises StorageError where it ended without running."""

    def cancel(self, job: str) -> None:
        """End a job, whatever it does."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""
