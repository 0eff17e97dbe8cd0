"""Jobs and capacity of Kubernetes: lists of Pods, Kueue Workloads and Nodes as ``kubectl get ... -A -o json`` writes them.
Pure.

A pod holds its GPUs from when it is scheduled until it ends. A Kueue workload that is not admitted waits; its pods say what
runs, so of workloads only those that wait are read. Sources: Kubernetes API v1; Kueue v1beta1 and v1beta2.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from stillhouse.compute.importers.gres import count_of, parts_of
from stillhouse.compute.readings import CAPACITY, JOBS, Ended, Readings
from stillhouse.errors import CorpusUnreadable

COMMAND = "kubectl get pods,nodes,workloads.kueue.x-k8s.io -A -o json"
# nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu, nvidia.com/gpu.shared
_GPU = re.compile(r"^(?:nvidia|amd)\.com/(?:gpu(?:\.shared)?|mig-(?P<mig>\S+))$")
_TEAM_LABELS = ("team", "owner", "kueue.x-k8s.io/queue-name", "app.kubernetes.io/part-of")
_PROJECT_LABELS = ("project", "app.kubernetes.io/name")
_TYPE_LABEL, _POOL_LABELS = (
    "nvidia.com/gpu.product",
    ("cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "pool"),
)


def read_objects(data: bytes, pool: str, time: int | None = None) -> Readings:
    """Read a list. ``time`` is when it was taken, for the nodes in it. Raises CorpusUnreadable."""
    try:
        said = msgspec.json.decode(data)
        items = said["items"] if said["kind"].endswith("List") else [said]
        if not isinstance(items, list):
            raise TypeError("items is no list")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as failure:
        raise CorpusUnreadable(
            f"It is no list of Kubernetes objects ({failure}).", next_step=f"Export with `{COMMAND}`."
        ) from failure
    left_out = Counter[str]()
    jobs: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    places = {
        str(one["metadata"].get("name")): _pool_of(one, pool)
        for one in items
        if _kind(one) == "Node" and isinstance(one.get("metadata"), dict)
    }
    for item in items:
        try:
            kind = _kind(item)
            if kind == "Pod":
                rows, target = [_pod(item, places, pool)], jobs
            elif kind == "Workload":
                rows, target = [_waiting(item, pool)], jobs
            elif kind == "Node":
                rows, target = [_node(item, places, time)], nodes
            else:
                left_out[f"an object of the kind {kind}"] += 1
                continue
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as failure:
            left_out[f"an object that cannot be read ({type(failure).__name__})"] += 1
            continue
        for row in rows:
            if isinstance(row, str):
                left_out[row] += 1
            else:
                target.append(row)
    return Readings(
        jobs=pl.DataFrame(jobs, schema=JOBS, orient="row") if jobs else pl.DataFrame(schema=JOBS),
        capacity=pl.DataFrame(nodes, schema=CAPACITY) if nodes else pl.DataFrame(schema=CAPACITY),
        left_out=dict(left_out),
    )


def _kind(item: Any) -> str:
    return str(item.get("kind", "none")) if isinstance(item, dict) else "none"


def _pod(pod: dict[str, Any], places: Mapping[str, str], pool: str) -> dict[str, Any] | str:
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    parts = _parts_of_pod(spec)
    if not parts:
        return "a pod without GPUs"
    phase = status.get("phase", "Unknown")
    conditions = {one["type"]: one for one in status.get("conditions") or [] if one.get("status") == "True"}
    scheduled = _seconds((conditions.get("PodScheduled") or {}).get("lastTransitionTime")) or _seconds(
        status.get("startTime")
    )
    finished = [
        _seconds((one.get("state") or {}).get("terminated", {}).get("finishedAt"))
        for one in status.get("containerStatuses") or []
    ]
    end = max((one for one in finished if one), default=None) if phase in ("Succeeded", "Failed") else None
    if phase in ("Succeeded", "Failed") and end is None:
        return "a pod that has ended, without the time"
    if end is not None and scheduled is not None and end < scheduled:
        return "a pod that ends before it starts"
    return _job(
        meta, f"{meta.get('namespace', 'default')}/{meta['name']}", places.get(spec.get("nodeName", ""), pool), parts,
        nodes=[spec["nodeName"]] if spec.get("nodeName") else [],
        start=None if phase == "Pending" and not spec.get("nodeName") else scheduled,
        end=end,
        ended=_ended(phase, status, "DisruptionTarget" in conditions),
        reason=str(status.get("reason") or ""),
    )  # fmt: skip


def _ended(phase: str, status: dict[str, Any], disrupted: bool) -> Ended:
    if disrupted or status.get("reason") in ("Preempted", "Preempting", "Evicted", "Shutdown", "Terminated"):
        return Ended.PREEMPTED
    if status.get("reason") in ("NodeLost", "NodeShutdown"):
        return Ended.NODE_FAIL
    if status.get("reason") == "DeadlineExceeded":
        return Ended.TIMEOUT
    known = {"Succeeded": Ended.COMPLETED, "Failed": Ended.FAILED, "Running": Ended.RUNNING, "Pending": Ended.PENDING}
    return known.get(phase, Ended.UNKNOWN)


def _waiting(workload: dict[str, Any], pool: str) -> dict[str, Any] | str:
    """A workload of Kueue, while it waits: all its pods at once."""
    status, spec, meta = workload.get("status") or {}, workload["spec"], workload["metadata"]
    conditions = {one["type"]: one.get("status") == "True" for one in status.get("conditions") or []}
    if conditions.get("Admitted") or conditions.get("Finished"):
        return "a workload that does not wait: its pods say what runs"
    parts = sum(_parts_of_pod(group["template"]["spec"]) * int(group.get("count", 1)) for group in spec["podSets"])
    if not parts:
        return "a workload without GPUs"
    name = f"{meta.get('namespace', 'default')}/{meta['name']}"
    row = _job(meta, name, pool, parts, nodes=[], start=None, end=None, ended=Ended.PENDING, reason="queued by Kueue")
    return row | {"team": row["team"] or str(spec.get("queueName") or "")}


def _job(
    meta: dict[str, Any], job: str, pool: str, parts: int, *, nodes: list[str], start: int | None, end: int | None,
    ended: Ended, reason: str,
) -> dict[str, Any]:  # fmt: skip
    labels = meta.get("labels") or {}
    return {
        "job": job, "pool": pool, "user": str((meta.get("annotations") or {}).get("user", "")),
        "team": _label(labels, _TEAM_LABELS) or str(meta.get("namespace", "")), "project": _label(labels, _PROJECT_LABELS),
        "gpu_type": "", "parts": parts, "nodes": nodes, "submitted": _seconds(meta.get("creationTimestamp")), "start": start,
        "end": end, "suspended": 0, "limit": None, "ended": str(ended), "mean_use": None,
        "reason": reason, "raw": "", "seen": None,
    }  # fmt: skip


def _parts_of_pod(spec: dict[str, Any]) -> int:
    """What its containers hold together, or the largest of those that only run before them: Kubernetes' effective request."""
    main = sum(_parts_of(one) for one in spec.get("containers") or [])
    first = max(
        (_parts_of(one) for one in spec.get("initContainers") or [] if one.get("restartPolicy") != "Always"), default=0
    )
    return max(main, first)


def _parts_of(container: dict[str, Any]) -> int:
    resources = container.get("resources") or {}
    return _parts_listed({**(resources.get("requests") or {}), **(resources.get("limits") or {})})


def _parts_listed(listed: Mapping[str, Any]) -> int:
    total = 0
    for name, count in listed.items():
        found = _GPU.match(name)
        if found:
            total += count_of(str(count)) * (parts_of(found["mig"]) if found["mig"] else parts_of(""))
    return total


def _node(node: dict[str, Any], places: Mapping[str, str], time: int | None) -> dict[str, Any] | str:
    status, meta = node["status"], node["metadata"]
    parts = _parts_listed(status.get("capacity") or {})
    if not parts:
        return "a node without GPUs"
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    moment = time or _seconds(ready.get("lastHeartbeatTime"))
    if moment is None:
        return "a node of which nobody says when it was seen"
    return {
        "pool": places[meta["name"]], "node": meta["name"], "gpu_type": str((meta.get("labels") or {}).get(_TYPE_LABEL, "")),
        "time": moment, "parts": parts,
        "up": ready.get("status") == "True" and not (node.get("spec") or {}).get("unschedulable", False), "snapshot": True,
    }  # fmt: skip


def _pool_of(node: dict[str, Any], pool: str) -> str:
    return _label(node["metadata"].get("labels") or {}, _POOL_LABELS) or pool


def _label(labels: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(labels[name]) for name in names if labels.get(name)), "")


def _seconds(text: str | None) -> int | None:
    return int(datetime.fromisoformat(text).timestamp()) if text else None
