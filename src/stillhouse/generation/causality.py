"""Does a model predict a token from those before it alone? Tried on the model itself: its config does not tell.

transformers loads encoders (BERT, RoBERTa, XLNet ...) as causal language models, and without ``is_decoder`` they look at the
tokens that they are asked to predict: what they learn and write is worth nothing.
"""

from typing import TYPE_CHECKING, Any

from stillhouse.errors import ModelUnusable

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS = 8
# Of the logits' spread, by how much another last token may move every one before it. Causal models of all architectures: at most
# 4e-7 in float32 and 0 in bfloat16 (experts compute other groups: some places move, not all). Encoders, small and random: 1e-3.
_MOVES = 1e-4


def check_causal(model: Any) -> None:
    """Raises ModelUnusable where what comes later changes what is predicted, or where nothing can be computed."""
    import torch

    embeddings = model.get_input_embeddings().weight
    vocabulary = int(embeddings.shape[0])
    ids = torch.arange(7, 7 + _TOKENS, device=embeddings.device).unsqueeze(0) % vocabulary
    other = ids.clone()
    other[0, -1] = (other[0, -1] + vocabulary // 2) % vocabulary
    name = type(model).__name__
    try:
        with torch.inference_mode():
            first, second = (_before_the_last(model, tokens) for tokens in (ids, other))
    except Exception as failure:  # whatever an architecture raises that wants more than tokens
        raise ModelUnusable(f"A {name} computes nothing from tokens alone ({str(failure).strip()[:200]}).") from failure
    moved = (first - second).norm(dim=-1) / first.norm(dim=-1)
    if bool(moved.min() > _MOVES):
        raise ModelUnusable(
            f"This {name} looks at the tokens after the one that it predicts, as an encoder does: it cannot write text.",
            next_step="Use a causal model. Where it was trained as a decoder, its config.json must say is_decoder: true.",
        )


def _before_the_last(model: Any, ids: "Tensor") -> "Tensor":
    """Logits ``[tokens - 1, vocabulary]``, without what is common to all tokens."""
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    return logits - logits.mean(dim=-1, keepdim=True)
