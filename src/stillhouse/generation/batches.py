"""Which answers are generated together. Pure: the same requests always give the same plan."""

from collections.abc import Sequence

import msgspec
from blake3 import blake3


class GenerationRequest(msgspec.Struct, frozen=True):
    """One answer wanted: ``prompt`` is the rendered text, ``seed`` the key of the row's own random stream."""

    key: str
    prompt: str
    seed: int


class Batch(msgspec.Struct, frozen=True):
    """Rows that run together. ``index`` is the place in the plan; rows of one prompt are adjacent."""

    index: int
    requests: tuple[GenerationRequest, ...]


def seed_of(run_seed: int, prompt: str, sample: int) -> int:
    """The 64-bit key of one row's random stream: it depends on nothing but the run's seed, the prompt and the sample."""
    material = f"{run_seed}\x00{sample}\x00{prompt}".encode()
    return int.from_bytes(blake3(material).digest(length=8), "little")


def plan_batches(requests: Sequence[GenerationRequest], size: int) -> tuple[Batch, ...]:
    """Sort by prompt length, then cut into batches of ``size`` rows.

    Prompts of like length waste little padding, and rows of one prompt stay together so that it is read only once.
    Floating point depends on the shape of a batch, so the plan is over *all* requests of a run, answered or not: a
    resumed run repeats whole batches and gets the answers it would have got.
    """
    ordered = sorted(requests, key=lambda request: (len(request.prompt), request.prompt, request.key))
    return tuple(
        Batch(index=number, requests=tuple(ordered[start : start + size]))
        for number, start in enumerate(range(0, len(ordered), size))
    )
