"""Sketches of what a training changed, by which weights are known again that were renamed, cast or disturbed a little.

Of each tensor that differs from the model's own base, the values at 256 fixed positions are kept, and the base's there. Weights
are the same where they have the known values at most positions, as far as their own number format can say, and nearer than a
tenth of what the training changed there. The base and siblings have not: they lack the change there, or have another.

Covered: other names of files and tensors, tensors in other files, a cast to a narrower format, noise of a few percent of the
change, some values or up to half of the tensors replaced. Not covered: quantised files (GGUF) and formats so narrow that no
position can show the change; tensors that were cut, reshaped or transposed; weights that were trained on for long.
"""

import importlib.util
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillhouse.errors import MissingExtra, ModelUnusable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

POSITIONS = 256
# Multiplied with a count, it spreads positions over a tensor of any size: 2**32 divided by the golden ratio.
_SPREAD = 2654435761
# A position tells something where the change there is some times what rounding can do.
_TOLD, _FEWEST, _FEWEST_IN_TENSOR = 4.0, 64, 8
_NEAR, _MOST, _HALF = 0.1, 0.9, 0.5


class Sampled(NamedTuple):
    """A tensor's values at its positions, as float32; its shape, and the machine epsilon of its format."""

    shape: tuple[int, ...]
    dtype: str
    epsilon: float
    values: "NDArray[Any]"


class Likeness(NamedTuple):
    """How many of a known model's changed tensors some weights have, of how many that could tell."""

    tensors: int
    of: int

    @property
    def is_same(self) -> bool:
        """Are these that model's weights?"""
        return self.of > 0 and self.tensors >= _HALF * self.of


def sample_weights(path: Path) -> dict[str, Sampled]:
    """The samples of a model folder's tensors by name; none of a file that is not of tensors (GGUF).

    Raises MissingExtra without torch, ModelUnusable for a file that cannot be read.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra(
            "torch", next_step="pip install 'stillhouse[train]': weights are compared with known models."
        )
    found = {}
    for file in _files(path):
        try:
            for name, tensor in _tensors(file):
                if tensor.is_floating_point() and tensor.numel():
                    found[name] = _sample(tensor)
        except Exception as failure:  # whatever the libraries raise
            raise ModelUnusable(f"{file}: {failure}") from failure
    return found


def make_sketch(base: Mapping[str, Sampled], trained: Mapping[str, Sampled]) -> bytes:
    """A sketch of what differs between a model and its base; empty where nothing that both have does."""
    import numpy
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, found in trained.items():
        before = base.get(name)
        if before is None or before.shape != found.shape:
            continue
        # As training began: what the cast changed says nothing of what was learned.
        cast = _as(before.values, found.dtype)
        if numpy.any(cast != found.values):
            arrays[f"base.{name}"], arrays[f"known.{name}"] = cast, found.values
            shapes[name] = found.shape
    return save(arrays, {"shapes": json.dumps(shapes)}) if arrays else b""


def likeness(sketch: bytes, weights: Mapping[str, Sampled]) -> Likeness:
    """Do some weights have what a sketch knows?"""
    import numpy
    from safetensors.numpy import load

    arrays = load(sketch)
    size = int.from_bytes(sketch[:8], "little")
    shapes = json.loads(json.loads(sketch[8 : 8 + size])["__metadata__"]["shapes"])
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, sampled in weights.items():
        by_shape.setdefault(sampled.shape, []).append(name)
    told = matched = 0
    left: list[NDArray[Any]] = []
    for name, shape in shapes.items():
        same_shape = by_shape.get(tuple(shape), [])
        candidates = [name] if name in same_shape else same_shape
        near = [_near(arrays[f"known.{name}"], arrays[f"base.{name}"], weights[candidate]) for candidate in candidates]
        telling = [float(numpy.mean(found)) for found in near if len(found) >= _FEWEST_IN_TENSOR]
        if telling:
            told += 1
            matched += max(telling) >= _MOST
        elif name in same_shape:
            left += near
    if told:
        return Likeness(matched, told)
    # A cast to a narrow format leaves few positions in each tensor that tell anything: then all are taken together.
    together = numpy.concatenate(left) if left else numpy.zeros(0)
    if len(together) < _FEWEST:
        return Likeness(0, 0)
    return Likeness(int(float(numpy.mean(together)) >= _MOST), 1)


def _near(known: "NDArray[Any]", base: "NDArray[Any]", candidate: Sampled) -> "NDArray[Any]":
    """Where a position tells something: has the candidate the known value there?"""
    import numpy

    change = numpy.abs(known - base)
    rounding = candidate.epsilon / 2 * numpy.abs(known) + numpy.finfo(numpy.float32).tiny
    near = _NEAR * float(numpy.sqrt(numpy.mean(change**2)))
    same = numpy.abs(candidate.values - known) <= rounding + near
    found: NDArray[Any] = same[(change > _TOLD * rounding) & (change > 2 * near)]
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))  # as they are loaded


def _tensors(file: Path) -> "Iterator[tuple[str, Tensor]]":
    """The tensors of a file, one at a time where the format allows it. Nothing in it is run."""
    import torch
    from safetensors import safe_open

    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
    else:
        try:
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written by a torch of before 1.6
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # it holds something else, such as a trainer's settings
            return
        yield from ((name, value) for name, value in tensors.items() if isinstance(value, torch.Tensor))


def _sample(tensor: "Tensor") -> Sampled:
    import torch

    size = tensor.numel()
    places = torch.tensor(sorted({count * _SPREAD % size for count in range(POSITIONS)}))
    values = tensor.reshape(-1)[places].to(torch.float32).numpy()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Sampled(tuple(tensor.shape), dtype, float(torch.finfo(tensor.dtype).eps), values)


def _as(values: "NDArray[Any]", dtype: str) -> "NDArray[Any]":
    """Values as another number format has them."""
    import torch

    cast: NDArray[Any] = torch.from_numpy(values).to(getattr(torch, dtype)).to(torch.float32).numpy()
    return cast
