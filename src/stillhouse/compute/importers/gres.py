"""How many GPUs of which type a scheduler's resource string means. Pure.

Slurm writes ``gres/gpu=8`` and ``gres/gpu:h100=8`` for the same eight GPUs: they are never added up. Source: slurm.conf(5),
AccountingStorageTRES; sacct(1), AllocTRES.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from stillhouse.compute.readings import MOST_GPUS, PARTS

# A MIG slice by its name: 1g.10gb, 3g.40gb.me, MIG 2g.20gb; a seventh of a GPU for each g.
_MIG = re.compile(r"(?:^|[^0-9a-z])(\d)g\.\d+gb", re.IGNORECASE)
_TRES = re.compile(r"^gres/gpu(?::(?P<type>.+))?$", re.IGNORECASE)
_GRES = re.compile(r"^gpu:(?:(?P<type>[^:()]+):)?(?P<count>\d+)", re.IGNORECASE)
_SUFFIX = {"": 1, "K": 1024, "M": 1024**2}
_COUNT = re.compile(r"^(\d{1,12})([KM]?)$")


class Gpus(NamedTuple):
    """GPUs in parts, and their type where it is known."""

    parts: int
    type: str = ""


class UnreadableCount(ValueError):
    """A count that is no whole number of at least 0, or of more GPUs than anybody has."""


def parts_of(type: str) -> int:
    """The parts of a GPU that one device of a type is: all of it, or some sevenths for a MIG slice."""
    found = _MIG.search(type)
    return PARTS * min(int(found.group(1)), 7) // 7 if found else PARTS


@lru_cache(maxsize=65536)
def gpus_of_tres(text: str) -> Gpus:
    """The GPUs of a TRES string such as ``billing=8,cpu=96,gres/gpu:h100=8,gres/gpu=8``. Raises UnreadableCount."""
    untyped, typed = 0, []
    for item in text.split(","):
        name, _, count = item.partition("=")
        found = _TRES.match(name.strip())
        if not found:
            continue
        number = count_of(count)
        if found["type"]:
            typed.append((found["type"], number))
        else:
            untyped += number
    if not typed:
        return Gpus(untyped * PARTS)
    # Where both are there, the untyped count is the sum of the typed ones; one that is larger has GPUs of unnamed types.
    named = sum(number for _, number in typed)
    parts = sum(number * parts_of(type) for type, number in typed) + max(untyped - named, 0) * PARTS
    return Gpus(parts, "+".join(sorted({type for type, number in typed if number})))


@lru_cache(maxsize=4096)
def gpus_of_gres(text: str) -> Gpus:
    """The GPUs of a node's Gres such as ``gpu:h100:8(S:0-1)``. Raises UnreadableCount."""
    parts, types = 0, set()
    for item in re.split(r",(?![^(]*\))", text):
        found = _GRES.match(item.strip())
        if found:
            type = found["type"] or ""
            parts += count_of(found["count"]) * parts_of(type)
            types.add(type)
    return Gpus(parts, "+".join(sorted(types - {""})))


def count_of(text: str) -> int:
    """A number of GPUs, such as 8 or 2K. Raises UnreadableCount."""
    found = _COUNT.match(text.strip())
    if not found:
        raise UnreadableCount(text)
    count = int(found[1]) * _SUFFIX[found[2]]
    if count > MOST_GPUS:
        raise UnreadableCount(text)
    return count


@lru_cache(maxsize=65536)
def usage_of_tres(text: str) -> float | None:
    """``gres/gpuutil`` of TRESUsageInAve in percent, a sum over the GPUs of the step; None where it is not gathered."""
    for item in text.split(","):
        name, _, value = item.partition("=")
        if name.strip().lower() == "gres/gpuutil":
            try:
                return float(value)
            except ValueError:
                return None
    return None


@lru_cache(maxsize=65536)
def nodes_of(text: str) -> tuple[str, ...]:
    """The nodes of a list such as ``gpu[01-03,7],login1``, at most 65,536 of them; empty where none is assigned."""
    if text in ("", "None assigned", "(null)", "None", "Unknown"):
        return ()
    return tuple(node for item in re.split(r",(?![^\[]*\])", text) for node in _expanded(item.strip()))[:65536]


def _expanded(item: str) -> list[str]:
    found = re.search(r"\[([^\]]*)\]", item)
    if not found:
        return [item] if item else []
    before, after = item[: found.start()], _expanded(item[found.end() :]) or [""]
    names = []
    for part in found[1].split(","):
        low, _, high = part.partition("-")
        if high.isdigit() and low.isdigit() and int(high) - int(low) < 65536:
            names += [f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1)]
        else:
            names.append(part)
    return [f"{before}{name}{rest}" for name in names for rest in after]
