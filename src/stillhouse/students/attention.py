"""Attention that keeps the documents of a pack apart, by never putting two of them into one product.

The usual way is a block-diagonal mask over the whole row, which computes all pairs and throws most of them away. Here the
documents of a row are gathered into batches of similar length, each attends to itself alone, and the results go back to
their places. ``why_not_apart`` tries on the model itself whether this is so, and changes nothing else.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

if TYPE_CHECKING:
    from torch import Tensor

NAME = "stillhouse-documents"
# Below this a product of matrices is faster than the fused kernel on a CPU, whose backward pass is slow (three times at 120
# tokens in bf16, even at 700); above, its quadratic memory costs more than it brings.
_BY_HAND = 512
# Rounding of bf16 through a deep network, between two ways to compute the same attention.
_TOLERANCE = 0.05
# What another document may change of a token: nothing, but for the rounding of products whose sizes it decides (experts).
_LEAK = {torch.float32: 1e-3}
_LEAK_OF_HALVES = 2e-2
# Lengths of the document that is looked at: what a convolution or a state carries over is largest at its first token.
_TRIED_LENGTHS = (4, 16, 48)
# Layers that look at the row by more than attention, or by one with borders of its own, which no mask from outside keeps apart.
_ATTENTION = frozenset({"full_attention", "sliding_attention"})
# What transformers hands to every attention and what changes nothing here: positions are in the states already.
_WITHOUT_EFFECT = {
    "is_causal",
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
}


class Group(NamedTuple):
    """Documents of similar length: ``gather [documents, longest]`` places in the row, ``places`` which of them are real."""

    gather: "Tensor"
    places: "Tensor"


class Layout(NamedTuple):
    """A row of documents: its groups, and for each token of the row where in the groups' results it stands."""

    groups: tuple[Group, ...]
    back: "Tensor"
    positions: "Tensor"


def layout(lengths: Sequence[int], device: "torch.device | str" = "cpu") -> Layout:
    """The layout of a row of documents of these lengths; a group's longest is less than twice its shortest."""
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    classes: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        classes.setdefault(length.bit_length(), []).append(place)  # by powers of two: at most half is padding
    groups, offset = [], 0
    back = torch.empty(sum(lengths), dtype=torch.long)
    for members in classes.values():
        longest = max(lengths[place] for place in members)
        steps = torch.arange(longest)
        sizes = torch.tensor([lengths[place] for place in members]).unsqueeze(1)
        real = steps < sizes
        # What stands beyond a document's end repeats its last token: nothing real attends to it, as attention is causal.
        gather = torch.tensor([starts[place] for place in members]).unsqueeze(1) + steps.minimum(sizes - 1)
        back[gather[real]] = offset + torch.arange(real.numel()).view_as(real)[real]
        offset += real.numel()
        groups.append(Group(gather.to(device), real.to(device)))
    # Every document begins at position 0, as it would alone.
    positions = torch.cat([torch.arange(length) for length in lengths])
    return Layout(tuple(groups), back.to(device), positions.to(device))


def attend(
    module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: Any,
    *,
    documents: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> "tuple[Tensor, None]":
    """Causal attention within each document. ``query [1, heads, row, size]``; returns ``[1, row, heads, size]``.

    Raises TypeError for anything else that an architecture wants of its attention (a cap of the scores, sinks ...).
    """
    unknown = sorted(name for name, given in more.items() if given is not None and name not in _WITHOUT_EFFECT)
    if unknown:
        raise TypeError(f"its attention takes {', '.join(unknown)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    results = []
    for group in documents.groups:
        q, k, v = (_spread(states, group) for states in (query, key, value))
        found = _by_group(q, k, v, scale, sliding_window, dropout)
        results.append(found.transpose(1, 2).flatten(0, 1))
    return torch.cat(results)[documents.back].unsqueeze(0), None


def _spread(states: "Tensor", group: Group) -> "Tensor":
    """``[1, heads, row, size]`` to ``[documents, heads, longest, size]``."""
    return states[0][:, group.gather].transpose(0, 1)


def _by_group(q: "Tensor", k: "Tensor", v: "Tensor", scale: float, window: int | None, dropout: float) -> "Tensor":
    length = q.shape[2]
    mask = None
    if window is not None and window < length:
        distance = torch.arange(length, device=q.device).unsqueeze(1) - torch.arange(length, device=q.device)
        mask = (distance >= 0) & (distance < window)
    if mask is not None or length > _BY_HAND or q.device.type != "cpu":
        return scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    repeat = q.shape[1] // k.shape[1]  # grouped-query attention: several query heads share a key head
    k, v = (states.repeat_interleave(repeat, dim=1) if repeat > 1 else states for states in (k, v))
    later = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    shares = softmax(torch.matmul(q * scale, k.transpose(-1, -2)) + later, dim=-1)
    return (torch.dropout(shares, dropout, train=True) if dropout else shares) @ v


def why_not_apart(model: Any, tokens: Sequence[int]) -> str:
    """Does this model, with documents in one row, say of each what it says of it alone with its own attention?

    Empty where it does, and the model is left with this attention; else the reason, and it keeps its own. ``tokens`` are
    any valid ids.
    """
    own = model.config._attn_implementation
    if own == NAME:
        return ""
    others = sorted(set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - _ATTENTION)
    if others or _has_convolutions(model):
        return f"its layers look at a row by more than attention ({', '.join(others) or 'convolutions'})"
    # Two documents in one row must give the logits of each alone.
    halves = [list(tokens[: len(tokens) // 2]), list(tokens[len(tokens) // 2 :])]
    reason = ""
    with torch.no_grad():
        try:
            alone = torch.cat([_logits(model, [half]) for half in halves])
            model.set_attn_implementation(NAME)
            row = _logits(model, halves, documents=layout([len(half) for half in halves], model.device))
            difference = float((alone - row).norm() / row.norm())
            if not difference < _TOLERANCE:
                reason = f"in one row its logits differ by {100 * difference:.1f} % from those of each document alone"
            leak = 0.0 if reason else max(_leak(model, tokens, length) for length in _TRIED_LENGTHS)
            if leak > _LEAK.get(model.dtype, _LEAK_OF_HALVES):
                reason = f"another document in its row changes its logits by {100 * leak:.2f} %"
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as failure:  # wired in another way
            reason = f"its architecture takes no attention from outside ({failure})"
    if reason:
        model.set_attn_implementation(own)
    return reason


def _has_convolutions(model: Any) -> bool:
    return any(isinstance(module, torch.nn.Conv1d) for module in model.modules())


def _leak(model: Any, tokens: Sequence[int], length: int) -> float:
    """By how much, at most, the logits of a token of this document change when the one before it says something else."""
    before = list(tokens[: len(tokens) // 2])
    document = list(tokens[-length:])
    documents = layout([len(before), len(document)], model.device)
    one, other = (
        _logits(model, [first, document], documents=documents)[len(before) :] for first in (before, before[::-1])
    )
    return float(((one - other).norm(dim=-1) / one.norm(dim=-1).clamp(min=1e-9)).max())


def _logits(model: Any, row: Sequence[Sequence[int]], documents: Layout | None = None) -> "Tensor":
    ids = torch.tensor([[token for document in row for token in document]], device=model.device)
    more = {"documents": documents, "position_ids": documents.positions.unsqueeze(0)} if documents else {}
    logits: Tensor = model(input_ids=ids, use_cache=False, **more).logits[0].float()
    return logits


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, lambda *arguments, **named: None)
