"""Draw tokens from a model's distribution by inverse CDF over its sorted top part.

``softmax`` plus ``multinomial`` over the whole vocabulary is half of a decode step at batch 64 on a CPU. Here the
normaliser is still computed over the whole vocabulary, but only the ``TOP`` likeliest tokens are sorted; a draw that
falls beyond their mass (rare) sorts its own row. The distribution is exactly the model's at that temperature.
"""

from typing import TYPE_CHECKING

import msgspec
import numpy

if TYPE_CHECKING:
    from torch import Tensor

# Below temperature 1 the first 64 of 49k tokens held all but 1e-3 of the mass in the runs that were looked at;
# a larger sorted part costs every row, a smaller one sends more rows to the full sort.
TOP = 64


class Generated(msgspec.Struct, frozen=True):
    """One answer. ``finish`` is ``stop`` (end of turn or closing fence) or ``length`` (cut at ``max_tokens``)."""

    key: str
    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn; everything here changes the answers."""

    temperature: float = 0.8
    max_tokens: int = 512


def uniforms_of(seed: int, count: int) -> "numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]":
    """The row's own stream: counter-based, so it does not matter which rows run beside it."""
    return numpy.random.Generator(numpy.random.Philox(key=seed)).random(count)


def draw(logits: "Tensor", uniforms: "Tensor", temperature: float) -> "Tensor":
    """Token ids ``[rows]`` from ``logits [rows, vocabulary]`` and ``uniforms [rows]`` in ``[0, 1)``.

    Temperature 0 is greedy and ignores the uniforms.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.float() / temperature
    normaliser = scaled.logsumexp(dim=-1, keepdim=True)
    top, tokens = scaled.topk(min(TOP, scaled.shape[-1]), dim=-1)
    rank = _rank(top - normaliser, uniforms)
    beyond = rank >= top.shape[-1]
    drawn = tokens.gather(1, rank.clamp(max=top.shape[-1] - 1).unsqueeze(1)).squeeze(1)
    if beyond.any():
        ordered, order = scaled[beyond].sort(dim=-1, descending=True)
        rest = _rank(ordered - normaliser[beyond], uniforms[beyond]).clamp(max=ordered.shape[-1] - 1)
        drawn[beyond] = order.gather(1, rest.unsqueeze(1)).squeeze(1)
    return drawn


def _rank(log_probabilities: "Tensor", uniforms: "Tensor") -> "Tensor":
    """How many sorted tokens lie wholly below each uniform; doubles, so that 49k small terms still sum to one."""
    cumulative = log_probabilities.double().exp().cumsum(dim=-1)
    return (cumulative <= uniforms.double().unsqueeze(1)).sum(dim=-1)
