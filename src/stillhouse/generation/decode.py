"""The decode loop: one batch in, its finished answers out."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy
import torch

from stillhouse.conversations.code_blocks import blocks, is_python, without_reasoning
from stillhouse.generation.batches import Batch
from stillhouse.generation.caching import Caching
from stillhouse.generation.in_place_cache import in_place_cache, take_rows
from stillhouse.generation.own_cache import decode_with_own_cache
from stillhouse.generation.sampling import Generated, Sampling, draw, uniforms_of

if TYPE_CHECKING:
    from torch import Tensor

    from stillhouse.generation.load_model import LoadedModel

# Compacting copies the cache; waiting until a quarter of the rows are done bounds that to a few copies per batch.
COMPACT_BELOW = 0.75
IDLE = -1


def closed_code_block(text: str) -> bool:
    """Has a fenced block of Python been opened and closed, in the answer itself? What follows it is talk, and costs as much as
    code. A draft within reasoning, or a block of another language, is not what was asked for.
    """
    found = blocks(without_reasoning(text))
    return any(block.closed and is_python(block.language) and block.code.strip() for block in found)


def never(text: str) -> bool:
    """Stop at the end of the turn only."""
    return False


def decode(
    loaded: "LoadedModel",
    batch: Batch,
    sampling: Sampling,
    until: Callable[[str], bool] = never,
    on_step: Callable[[int], None] = lambda tokens: None,
) -> Iterator[Generated]:
    """Yield the answers of one batch as they finish.

    ``until`` is asked whenever a row has just produced a back-tick, which is the only character any stop rule here
    looks for; ``on_step`` is called with the number of tokens of each step.
    """
    with torch.inference_mode():
        if loaded.caching is not Caching.IN_PLACE:
            yield from decode_with_own_cache(loaded, batch, sampling, until, on_step)
        else:
            yield from _Rows(loaded, batch, sampling, until).run(on_step)


class _Rows:
    """The state of one batch; ``alive`` maps a place in the tensors to a request."""

    def __init__(self, loaded: "LoadedModel", batch: Batch, sampling: Sampling, until: Callable[[str], bool]) -> None:
        self.loaded, self.batch, self.sampling, self.until = loaded, batch, sampling, until
        self.prompts = list(dict.fromkeys(request.prompt for request in batch.requests))
        encoded = [loaded.encode(prompt) for prompt in self.prompts]
        self.prompt_lengths = dict(zip(self.prompts, map(len, encoded), strict=True))
        self.width = max(map(len, encoded))
        capacity = self.width + sampling.max_tokens
        self.cache = in_place_cache(loaded.layers, capacity)
        self.mask = torch.zeros((len(encoded), capacity), dtype=torch.long, device=loaded.device)
        self.ids = torch.full((len(encoded), self.width), loaded.pad, dtype=torch.long, device=loaded.device)
        for row, tokens in enumerate(encoded):
            self.ids[row, self.width - len(tokens) :] = torch.tensor(tokens)
            self.mask[row, self.width - len(tokens) : self.width] = 1
        self.mask[:, self.width :] = 1
        self.alive = list(range(len(batch.requests)))
        self.tokens: list[list[int]] = [[] for _ in batch.requests]
        draws = [uniforms_of(request.seed, sampling.max_tokens) for request in batch.requests]
        self.uniforms = torch.from_numpy(numpy.stack(draws)).to(loaded.device)

    def run(self, on_step: Callable[[int], None]) -> Iterator[Generated]:
        logits, positions = self._prefill()
        for step in range(self.sampling.max_tokens):
            chosen = draw(logits, self.uniforms[self.alive, step], self.sampling.temperature)
            finished = self._append(chosen.tolist(), step)
            on_step(sum(row != IDLE for row in self.alive))
            for place, reason in finished.items():
                yield self._answer(self.alive[place], reason)
            living = [place for place, row in enumerate(self.alive) if row != IDLE and place not in finished]
            if not living:
                return
            chosen, positions = self._compact(living, chosen, positions)
            logits = self._forward(chosen, positions, self.width + step + 1)
            positions = positions + 1

    def _prefill(self) -> "tuple[Tensor, Tensor]":
        """Read each distinct prompt once, then spread its cache over its samples."""
        mask = self.mask[:, : self.width]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = self.loaded.next_logits(ids=self.ids, mask=mask, positions=positions, cache=self.cache)
        place = {prompt: row for row, prompt in enumerate(self.prompts)}
        spread = torch.tensor([place[request.prompt] for request in self.batch.requests], device=self.loaded.device)
        take_rows(self.cache, spread)
        self.mask = self.mask[spread]
        return logits[spread], positions[spread, -1] + 1

    def _forward(self, chosen: "Tensor", positions: "Tensor", length: int) -> "Tensor":
        return self.loaded.next_logits(
            ids=chosen.unsqueeze(1), mask=self.mask[:, :length], positions=positions.unsqueeze(1), cache=self.cache
        )

    def _append(self, chosen: list[int], step: int) -> dict[int, str]:
        """Take the new tokens; returns which places in the tensors are now finished, and why."""
        finished: dict[int, str] = {}
        for place, token in enumerate(chosen):
            row = self.alive[place]
            if row == IDLE:
                continue
            if token in self.loaded.end_tokens:
                finished[place] = "stop"
                continue
            self.tokens[row].append(token)
            if token in self.loaded.back_ticks and self.until(self.loaded.decode(self.tokens[row])):
                finished[place] = "stop"
            elif step + 1 == self.sampling.max_tokens:
                finished[place] = "length"
        return finished

    def _compact(self, living: list[int], chosen: "Tensor", positions: "Tensor") -> "tuple[Tensor, Tensor]":
        """Forget finished rows: at once in the bookkeeping, in the tensors when enough of them are idle."""
        if len(living) > COMPACT_BELOW * len(self.alive):
            keep = set(living)
            self.alive = [row if place in keep else IDLE for place, row in enumerate(self.alive)]
            return chosen, positions
        rows = torch.tensor(living, device=self.loaded.device)
        take_rows(self.cache, rows)
        self.mask = self.mask[rows]
        self.alive = [self.alive[place] for place in living]
        return chosen[rows], positions[rows]

    def _answer(self, row: int, finish: str) -> Generated:
        request = self.batch.requests[row]
        return Generated(
            key=request.key,
            text=self.loaded.decode(self.tokens[row]),
            finish=finish,
            prompt_tokens=self.prompt_lengths[request.prompt],
            completion_tokens=len(self.tokens[row]),
        )
