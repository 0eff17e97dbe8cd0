"""Capacity from ``scontrol show node --json``: a snapshot of what a cluster has, and what of it is up. Source: scontrol(1).

A snapshot holds until the next one. A node in several partitions is counted once, in the first of them that ``pool_of`` names
or, by default, in its first partition.
"""

import re
from collections import Counter
from typing import Any

import msgspec
import polars as pl

from stillhouse.compute.importers.gres import gpus_of_gres, gpus_of_tres
from stillhouse.compute.readings import CAPACITY, Readings
from stillhouse.errors import CorpusUnreadable

COMMAND = "scontrol show node --json"
_DOWN = {"DOWN", "DRAIN", "DRAINED", "FAIL", "FAILING", "NOT_RESPONDING", "MAINT", "MAINTENANCE", "POWERED_DOWN", "POWER_DOWN",
         "POWERING_DOWN", "UNKNOWN", "ERROR", "REBOOT_ISSUED", "NO_RESPOND", "INVALID_REG", "FUTURE"}  # fmt: skip


def read_nodes(data: bytes, time: int | None = None) -> Readings:
    """Read a snapshot. ``time`` is when it was taken, where it does not say so itself. Raises CorpusUnreadable."""
    try:
        said = msgspec.json.decode(data)
        nodes = said["nodes"]
        if not isinstance(nodes, list):
            raise TypeError("nodes is no list")
        moment = _taken(said, nodes) or time
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as failure:
        raise CorpusUnreadable(
            f"It is no output of scontrol show node --json ({failure}).", next_step=f"Export with `{COMMAND}`."
        ) from failure
    if moment is None:
        raise CorpusUnreadable("The snapshot does not say when it was taken.", next_step="Say it with --at.")
    left_out, rows = Counter[str](), []
    for node in nodes:
        row = _row(node, moment) if isinstance(node, dict) else None
        if row is None:
            left_out["a node that cannot be read"] += 1
        elif not row["parts"]:
            left_out["a node without GPUs"] += 1
        else:
            rows.append(row)
    return Readings(capacity=pl.DataFrame(rows, schema=CAPACITY), left_out=dict(left_out))


def _row(node: dict[str, Any], time: int) -> dict[str, Any] | None:
    name = node.get("name") or node.get("hostname")
    if not isinstance(name, str) or not name:
        return None
    try:
        # Tres has what is configured now; Gres is what slurm.conf says.
        gpus = gpus_of_tres(str(node.get("tres") or ""))
        listed = gpus_of_gres(str(node.get("gres") or ""))
    except ValueError:
        return None
    parts = gpus.parts or listed.parts
    # Only Gres says that devices are MIG slices where Tres counts them untyped.
    if listed.parts and not gpus.type and listed.type:
        parts = listed.parts
    partitions = node.get("partitions") or []
    return {
        "pool": str(partitions[0]) if partitions else "",
        "node": name,
        "gpu_type": gpus.type or listed.type,
        "time": time,
        "parts": parts,
        "up": not _states(node) & _DOWN,
        "snapshot": True,
    }


def _states(node: dict[str, Any]) -> set[str]:
    """All states and flags of a node, as any version writes them: a text such as idle*, or a list."""
    state, flags = node.get("state"), node.get("state_flags") or []
    words = state if isinstance(state, list) else re.split(r"[+ ]", str(state or "UNKNOWN"))
    marks = {"*": "NOT_RESPONDING", "~": "POWERED_DOWN", "%": "POWERING_DOWN", "$": "MAINT"}
    found = set()
    for word in [*words, *flags]:
        text = str(word).upper()
        found |= {meaning for mark, meaning in marks.items() if text.endswith(mark)}
        found.add(text.rstrip("*~#!%$@^-"))
    return found


def _taken(said: dict[str, Any], nodes: list[Any]) -> int | None:
    """When the snapshot was taken: what it says of itself, else the newest time at which a node was seen busy."""
    moment = said.get("last_update")
    if isinstance(moment, dict):
        moment = moment.get("number") if moment.get("set") else None
    if isinstance(moment, int) and moment:
        return moment
    seen = []
    for node in nodes:
        busy = node.get("last_busy") if isinstance(node, dict) else None
        busy = busy.get("number") if isinstance(busy, dict) and busy.get("set") else busy
        if isinstance(busy, int) and busy:
            seen.append(busy)
    return max(seen, default=None)
