"""Decode with the cache that a model brings itself: for recurrent and hybrid models, whose state is no list of keys and values.

transformers' own ``generate`` runs the model, with the draws and the stop rules of ``decode`` hung into it: it is slower, and
works for most of what transformers can generate with. Where it does not, every token takes a pass over everything before it.
Rows of one batch have the same prompt, so that nothing is padded: a state that has read padding is another state.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy
import torch
import transformers

from stillhouse.generation.caching import Caching
from stillhouse.generation.sampling import Generated, Sampling, draw, uniforms_of

# Enough for a state that is carried on wrongly to show; rounding in float32 is a thousandth of the difference.
_TRIED_TOKENS, _SAME = 8, 1e-3

if TYPE_CHECKING:
    from torch import Tensor

    from stillhouse.generation.batches import Batch, GenerationRequest
    from stillhouse.generation.load_model import LoadedModel


def decode_with_own_cache(
    loaded: "LoadedModel",
    batch: "Batch",
    sampling: Sampling,
    until: Callable[[str], bool],
    on_step: Callable[[int], None],
) -> Iterator[Generated]:
    """Yield the answers of a batch, prompt by prompt."""
    by_prompt: dict[str, list[GenerationRequest]] = {}
    for request in batch.requests:
        by_prompt.setdefault(request.prompt, []).append(request)
    for prompt, requests in _together(by_prompt, loaded.caching):
        ids = torch.tensor([loaded.encode(prompt)] * len(requests), device=loaded.device)
        rules = _Rules(loaded, requests, sampling, until, ids.shape[1], on_step)
        if loaded.caching is Caching.NONE:
            _pass_by_pass(loaded, ids, rules)
        else:
            with _plain_generation(loaded):
                loaded.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=sampling.max_tokens,
                    logits_processor=transformers.LogitsProcessorList([rules.draw]),
                    stopping_criteria=transformers.StoppingCriteriaList([rules.stop]),
                )
        yield from rules.answers()


def _pass_by_pass(loaded: "LoadedModel", ids: "Tensor", rules: "_Rules") -> None:
    done = False
    while not done:
        scores = loaded.model(input_ids=ids, use_cache=False).logits[:, -1].float()
        ids = torch.cat([ids, rules.draw(ids, scores).argmax(dim=-1, keepdim=True)], dim=1)
        done = bool(rules.stop(ids, None).all())


def _together(
    by_prompt: "dict[str, list[GenerationRequest]]", caching: Caching
) -> "Iterator[tuple[str, list[GenerationRequest]]]":
    for prompt, requests in by_prompt.items():
        if caching is Caching.OWN_ALONE:
            yield from ((prompt, [request]) for request in requests)
        else:
            yield prompt, requests


def gives_the_same(loaded: "LoadedModel", ids: "Tensor", caching: Caching) -> bool:
    """Does decoding some rows ``[rows, tokens]`` with the model's own cache give the logits of a pass over everything?"""
    rows = ids[:1] if caching is Caching.OWN_ALONE else ids
    try:
        with torch.inference_mode(), _plain_generation(loaded):
            made = loaded.model.generate(
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=_TRIED_TOKENS,
                output_logits=True,
                return_dict_in_generate=True,
            )
            found = torch.stack(made.logits, dim=1).float()
            right = (
                loaded.model(input_ids=made.sequences[:, :-1], use_cache=False).logits[:, rows.shape[1] - 1 :].float()
            )
        return bool(((found - right).norm(dim=-1) <= _SAME * right.norm(dim=-1)).all())
    except Exception:  # whatever an architecture makes of its cache
        return False


@contextlib.contextmanager
def _plain_generation(loaded: "LoadedModel") -> Iterator[None]:
    """Greedy, and nothing else: what a model's own generation config asks for besides (a penalty on repetition, forced and
    suppressed tokens) would change the distribution that a recipe asks for, and only where this way of decoding is taken.
    """
    own = loaded.model.generation_config
    loaded.model.generation_config = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, pad_token_id=loaded.pad, bos_token_id=own.bos_token_id
    )
    try:
        yield
    finally:
        loaded.model.generation_config = own


class _Rules:
    """What is drawn, and when a row is done, for the rows of one prompt."""

    def __init__(
        self,
        loaded: "LoadedModel",
        requests: "list[GenerationRequest]",
        sampling: Sampling,
        until: Callable[[str], bool],
        width: int,
        on_step: Callable[[int], None],
    ) -> None:
        self._loaded, self._requests, self._sampling, self._until = loaded, requests, sampling, until
        self._width, self._on_step = width, on_step
        draws = [uniforms_of(request.seed, sampling.max_tokens) for request in requests]
        self._uniforms = torch.from_numpy(numpy.stack(draws)).to(loaded.device)
        self._tokens: list[list[int]] = [[] for _ in requests]
        self._finish = [""] * len(requests)

    def draw(self, ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Scores by which a greedy choice is the one that was drawn."""
        step = ids.shape[1] - self._width
        chosen = draw(scores, self._uniforms[:, step], self._sampling.temperature)
        return torch.full_like(scores, float("-inf")).scatter(1, chosen.unsqueeze(1), 0.0)

    def stop(self, ids: "Tensor", scores: Any, **more: Any) -> "Tensor":
        """Which rows are done, now that they have one more token."""
        for row, token in enumerate(ids[:, -1].tolist()):
            if not self._finish[row]:
                self._take(row, token)
        self._on_step(sum(not finish for finish in self._finish))
        return torch.tensor([bool(finish) for finish in self._finish], device=ids.device)

    def answers(self) -> Iterator[Generated]:
        """What came of the rows."""
        for row, request in enumerate(self._requests):
            tokens = self._tokens[row]
            yield Generated(
                request.key, self._loaded.decode(tokens), self._finish[row] or "length", self._width, len(tokens)
            )

    def _take(self, row: int, token: int) -> None:
        if token in self._loaded.end_tokens:
            self._finish[row] = "stop"
            return
        tokens = self._tokens[row]
        tokens.append(token)
        if token in self._loaded.back_ticks and self._until(self._loaded.decode(tokens)):
            self._finish[row] = "stop"
        elif len(tokens) == self._sampling.max_tokens:
            self._finish[row] = "length"
