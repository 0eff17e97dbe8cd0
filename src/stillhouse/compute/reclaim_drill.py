"""A reclaim drill: how long from the owner's request until the owner's job runs, against what was promised."""

from typing import Any

from stillhouse.compute.clusters.cluster import Cluster

# So often a waiting job is looked at, in seconds.
_LOOKS_EVERY = 1.0


def drill(cluster: Cluster, gpus: int, promised: float, patience: float) -> dict[str, Any]:
    """Ask for GPUs as their owner, and wait until the job runs, for ``patience`` seconds at most. The job is always cancelled.

    ``kept`` says whether it ran within ``promised`` seconds. Raises StorageError where the scheduler refuses.
    """
    asked = cluster.clock()
    job = cluster.request(gpus)
    try:
        since = cluster.running_since(job)
        while since is None and cluster.clock() - asked < patience:
            cluster.wait(_LOOKS_EVERY)
            since = cluster.running_since(job)
    finally:
        cluster.cancel(job)
    seconds = None if since is None else max(since - asked, 0.0)
    return {"gpus": gpus, "promised_seconds": promised, "seconds": seconds if seconds is None else round(seconds, 1),
            "waited_at_most": patience, "kept": seconds is not None and seconds <= promised}  # fmt: skip
