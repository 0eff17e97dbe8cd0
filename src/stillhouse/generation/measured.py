"""Choose number format and batch size by trying: a short, remembered measurement.

bf16 is several times faster than fp32 in batches on CPUs with AMX, and no flag says by how much; where a CPU has no bf16, it is
ten times slower and not tried. The choice changes rounding and so the answers: it is kept beside the unpacked weights, per
machine type, so that the same recipe gives the same answers there.
"""

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stillhouse.canon import digest_value
from stillhouse.errors import ModelUnusable
from stillhouse.generation.caching import Caching
from stillhouse.generation.weights import weights_digest

if TYPE_CHECKING:
    from stillhouse.generation.load_model import LoadedModel

# Beyond 128 rows a CPU gains little, and the last unfinished rows of a batch wait longer for company.
BATCH_SIZES_CPU, BATCH_SIZES_CUDA = (32, 128), (128, 512)
_STEPS = 8
_PROMPT_TOKENS = 4  # a step costs the weights, hardly the tokens before it
# Of a trial whether the cache works: so many tokens, behind so much padding; rounding in float32 is a thousandth of this.
_TRIED_TOKENS, _PADDING, _SAME = 24, 5, 1e-3
# A larger batch must be worth its memory and its longer tail.
_WORTH_IT = 1.15


class Choice(msgspec.Struct, frozen=True):
    """What to run with, and why: tokens per second of everything that was tried.

    ``caching`` is how the model can be decoded.
    """

    dtype: str
    batch_size: int
    tokens_per_second: dict[str, float]
    caching: Caching = Caching.IN_PLACE


def choose(weights: Path, cache: Path) -> Choice:
    """The choice for these weights on this type of machine, from the cache or by measuring."""
    file = _file(weights, cache)
    if file.exists():
        try:
            return msgspec.json.decode(file.read_bytes(), type=Choice)
        except msgspec.MsgspecError:
            file.unlink()  # torn by a kill: measure again
    choice = _measure(weights, cache)
    _keep(choice, file)
    return choice


def inherit(weights: Path, child: Path, cache: Path) -> None:
    """Weights of the same shape are run as those that they came from, so that what is compared is the weights alone."""
    _keep(choose(weights, cache), _file(child, cache))


def training_dtype() -> str:
    """The number format to train in, and the one to try: bf16 where the machine computes in it, else float32."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _flags() & {"amx_bf16", "avx512_bf16"} else "float32"


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def _file(weights: Path, cache: Path) -> Path:
    name = digest_value({"weights": weights_digest(weights), "machine": machine_type()}).partition(":")[2][:32]
    return cache / "probes" / f"{name}.json"


def _keep(choice: Choice, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_suffix(f".{os.getpid()}")
    building.write_bytes(msgspec.json.encode(choice))
    building.replace(file)


def machine_type() -> dict[str, str]:
    """What makes floating point and speed alike: processor or GPU, threads, torch."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return {"device": device, "threads": str(torch.get_num_threads()), "torch": str(torch.__version__)}


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _measure(weights: Path, cache: Path) -> Choice:
    """The faster number format at the larger batch size, then the smaller size if the larger brings nothing."""
    from stillhouse.generation.load_model import load

    models = {"float32": load(weights, dtype="float32", cache=cache / "models")}
    caching = caching_of(models["float32"])
    if training_dtype() == "bfloat16":
        with contextlib.suppress(ModelUnusable):  # some compute a part in float32 whatever they are loaded as
            models["bfloat16"] = load(weights, dtype="bfloat16", cache=cache / "models")
    if caching is not Caching.IN_PLACE:
        # Rows of one prompt run together, and a batch seldom has many of those: what is tried here would not tell.
        dtype = training_dtype()
        return Choice(dtype if dtype in models else "float32", BATCH_SIZES_CPU[0], {}, caching)
    small, large = BATCH_SIZES_CUDA if models["float32"].device.type == "cuda" else BATCH_SIZES_CPU
    at_large = {dtype: _tokens_per_second(loaded, large) for dtype, loaded in models.items()}
    dtype = max(at_large, key=lambda name: at_large[name])
    at_small = _tokens_per_second(models[dtype], small)
    speeds = {f"{name} x {large}": round(speed, 1) for name, speed in at_large.items()}
    speeds[f"{dtype} x {small}"] = round(at_small, 1)
    return Choice(dtype, large if at_large[dtype] > at_small * _WORTH_IT else small, speeds)


def caching_of(loaded: "LoadedModel") -> Caching:
    """How a model can be decoded, tried on the model itself."""
    import torch

    from stillhouse.generation.own_cache import gives_the_same

    if works_in_place(loaded):
        return Caching.IN_PLACE
    vocabulary = int(loaded.model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(7, 7 + 2 * _TRIED_TOKENS, device=loaded.device) % vocabulary).view(2, -1)
    return next((own for own in (Caching.OWN, Caching.OWN_ALONE) if gives_the_same(loaded, ids, own)), Caching.NONE)


def works_in_place(loaded: "LoadedModel") -> bool:
    """Does a model, with the cache that is written in place and a padded row, say what it says without any cache?

    Tried on the model itself: a recurrent or hybrid one keeps a state besides, or none of this at all.
    """
    import torch

    from stillhouse.generation.in_place_cache import in_place_cache

    vocabulary = int(loaded.model.get_input_embeddings().weight.shape[0])
    ids = torch.arange(7, 7 + _TRIED_TOKENS, device=loaded.device).unsqueeze(0) % vocabulary
    padded = torch.cat([torch.full((1, _PADDING), loaded.pad, device=loaded.device), ids], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :_PADDING] = 0
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    try:
        with torch.inference_mode():
            plain = loaded.model(input_ids=ids, use_cache=False).logits[:, -1].float()
            cache = in_place_cache(loaded.layers, padded.shape[1])
            cut = padded.shape[1] - 3
            loaded.next_logits(ids=padded[:, :cut], mask=mask[:, :cut], positions=positions[:, :cut], cache=cache)
            for place in range(cut, padded.shape[1]):
                found = loaded.next_logits(
                    ids=padded[:, place : place + 1], mask=mask[:, : place + 1],
                    positions=positions[:, place : place + 1], cache=cache,
                )  # fmt: skip
        return bool(torch.linalg.norm(found.float() - plain) <= _SAME * torch.linalg.norm(plain))
    except Exception:  # whatever an architecture makes of a cache that is not its own
        return False


def _tokens_per_second(loaded: "LoadedModel", size: int) -> float:
    """By the quickest of a few decode steps: what else the machine does can slow a step down, and never speeds one up."""
    import torch

    from stillhouse.generation.in_place_cache import in_place_cache
    from stillhouse.generation.sampling import draw

    capacity = _PROMPT_TOKENS + _STEPS
    cache = in_place_cache(loaded.layers, capacity)
    uniforms = torch.full((size,), 0.5, device=loaded.device)
    seconds = []
    with torch.inference_mode():
        ids = torch.full((size, _PROMPT_TOKENS), loaded.pad, device=loaded.device)
        mask = torch.ones((size, capacity), dtype=torch.long, device=loaded.device)
        positions = torch.arange(_PROMPT_TOKENS, device=loaded.device).expand(size, -1)
        loaded.next_logits(ids=ids, mask=mask[:, :_PROMPT_TOKENS], positions=positions, cache=cache)
        for length in range(_PROMPT_TOKENS + 1, capacity + 1):
            started = time.perf_counter()
            logits = loaded.next_logits(
                ids=ids[:, :1], mask=mask[:, :length], positions=positions[:, :1] + length - 1, cache=cache
            )
            draw(logits, uniforms, 0.8).tolist()
            seconds.append(time.perf_counter() - started)
    return size / min(seconds)
