"""Checkpoints of a training: whole or absent, checked when read, independent of how many processes wrote them.

A folder ``step-000123`` holds ``parameters.safetensors`` (what is trained), ``optimizer.safetensors`` (its state, whole) and
``checkpoint.json``, which names the others' digests and comes last: a folder without it is no checkpoint. It is made beside
its place and renamed into it. Random numbers are not in it: every step draws its own from the seed and its number.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stillhouse.canon import digest_file
from stillhouse.errors import CheckpointForeign, CorruptCheckpoint, StorageError
from stillhouse.vault.files import storage_errors, sync_file, sync_folder, write_whole

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
PARAMETERS, OPTIMIZER, STATE = "parameters.safetensors", "optimizer.safetensors", "checkpoint.json"
# The newest may be the one that a failing disk has hit; the one before it costs little.
KEPT = 2


class TrainingState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a checkpoint but its tensors. ``plan`` is the digest of the steps that the training takes."""

    format: int
    training: str
    plan: str
    step: int
    files: dict[str, str]


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint in memory."""

    state: TrainingState
    parameters: dict[str, Any]
    optimizer: dict[str, Any]


def write(
    folder: Path,
    *,
    training: str,
    plan: str,
    step: int,
    parameters: "dict[str, Tensor]",
    optimizer: "dict[str, Tensor]",
) -> Path:
    """Write a checkpoint below ``folder`` and forget the oldest. Raises StorageError; what was there stays."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    place = folder / f"step-{step:06d}"
    building = folder / f".building-{os.getpid()}"
    try:
        files = {}
        with storage_errors(f"{building} could not be made"):
            building.mkdir(parents=True, exist_ok=True)
        for name, tensors in ((PARAMETERS, parameters), (OPTIMIZER, optimizer)):
            with storage_errors(f"{building / name} could not be written"):
                save_file(_once(tensors), building / name)
                sync_file(building / name)
                files[name] = digest_file(building / name)
        state = TrainingState(format=FORMAT, training=training, plan=plan, step=step, files=files)
        write_whole(building / STATE, msgspec.json.encode(state))
        with storage_errors(f"{place} could not be written"):
            shutil.rmtree(place, ignore_errors=True)
            building.replace(place)
            sync_folder(folder)
    except SafetensorError as failure:  # it words the system's refusal itself
        raise StorageError(f"{place} could not be written: {failure}.") from failure
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def _once(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Each tensor once: tied weights are one tensor under two names, and stay tied in the model that they return to.

    Parts of one storage (a fused matrix that a model cuts into queries, keys and values) are tensors of their own.
    """
    kept: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        kept.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)
    return {name: tensors[name].contiguous() for name in sorted(kept.values())}


def found(folder: Path) -> list[Path]:
    """The checkpoints below a folder, oldest first."""
    return sorted(place for place in folder.glob("step-*") if (place / STATE).is_file())


def newest(folder: Path, most: int) -> Checkpoint | None:
    """The newest checkpoint of at most step ``most``, checked. Raises CorruptCheckpoint, CheckpointForeign."""
    places = [place for place in found(folder) if int(place.name.removeprefix("step-")) <= most]
    return read(places[-1]) if places else None


def read(place: Path) -> Checkpoint:
    """A checkpoint, every byte of it checked. Raises CorruptCheckpoint, CheckpointForeign."""
    from safetensors.torch import load_file

    data = (place / STATE).read_bytes()
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise CheckpointForeign(f"({place} has format {version}, this one knows {FORMAT})")
        state = msgspec.json.decode(data, type=TrainingState)
    except msgspec.MsgspecError as failure:
        raise CorruptCheckpoint(f"{place / STATE} cannot be read: {failure}.") from failure
    tensors = {}
    for name, digest in state.files.items():
        try:
            found_digest = digest_file(place / name)
        except OSError as failure:
            raise CorruptCheckpoint(f"{place / name} cannot be read: {failure.strerror}.") from failure
        if found_digest != digest:
            raise CorruptCheckpoint(f"{place / name} has other bytes than were written.")
        tensors[name] = load_file(place / name)
    return Checkpoint(state, tensors[PARAMETERS], tensors[OPTIMIZER])
