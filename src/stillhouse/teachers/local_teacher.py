"""A model on this machine as a teacher. The same path as any other: asked, answered, recorded."""

import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stillhouse.errors import MissingExtra, TeacherContradiction, TemplateRefused
from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.client import Admit, Deliver, Failure, Load, More, Reply, nothing_more

if TYPE_CHECKING:
    from stillhouse.generation.load_model import LoadedModel

# How the reason begins where a prompt and the longest answer do not fit into the context together.
NO_ROOM = "the prompt leaves no room"


class LocalTeacher:
    """Answers in a fixed plan of batches; a batch of which anything is wanted is generated whole."""

    def __init__(
        self,
        teacher: Teacher,
        cache: Path,
        on_tokens: Callable[[int], None] = lambda tokens: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """``on_tokens`` is called with every step's tokens, ``say`` with other things that take long."""
        self._teacher, self._cache, self._on_tokens, self._say = teacher, cache, on_tokens, say
        self._loaded: LoadedModel | None = None
        self._batch_size = 0

    def answer(
        self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver, more: More = nothing_more
    ) -> None:
        """Generate batch by batch; only what is wanted is handed on. What follows is another round of batches."""
        while asks:
            followed: list[Ask] = []

            def deliver_and_follow(item: Reply | Failure, followed: list[Ask] = followed) -> None:
                deliver(item)
                followed.extend(more(item))

            self._answer(asks, wanted, admit, deliver_and_follow)
            asks, wanted = followed, {ask.key for ask in followed}

    def load(self) -> Load:
        """One batch at a time."""
        return Load(self._batch_size, 0, self._batch_size)

    def _answer(self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver) -> None:
        from stillhouse.generation import decode as decoding
        from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of
        from stillhouse.generation.sampling import Sampling

        loaded = self._load()
        requests, by_key = [], {ask.key: ask for ask in asks}
        for ask in by_key.values():
            try:
                turns = [msgspec.structs.asdict(message) for message in ask.messages]
                prompt = loaded.render(turns, str(ask.parameters.more.get("chat_template", "")))
            except TemplateRefused as failure:  # of this conversation, and of no other
                if ask.key in wanted:
                    admit([ask])
                    deliver(Failure(ask, str(failure), charged=False))
                continue
            if len(loaded.encode(prompt)) + ask.parameters.max_tokens > loaded.context:
                if ask.key in wanted:
                    admit([ask])
                    reason = f"{NO_ROOM} in the model's {loaded.context} tokens"
                    deliver(Failure(ask, reason, charged=False))
                continue
            requests.append(GenerationRequest(ask.key, prompt, seed_of(ask.parameters.seed, prompt, ask.sample)))
        for batch in plan_batches(requests, self._batch_size):
            missing = [by_key[request.key] for request in batch.requests if request.key in wanted]
            if not missing:
                continue
            admit(missing)
            started = time.monotonic()
            parameters = missing[0].parameters
            sampling = Sampling(temperature=parameters.temperature, max_tokens=parameters.max_tokens)
            until = decoding.closed_code_block if parameters.stop_at_code else decoding.never
            finished = list(decoding.decode(loaded, batch, sampling, until, self._on_tokens))
            share = (time.monotonic() - started) / len(finished)
            for made in finished:
                if made.key in wanted:
                    usage = Usage(made.prompt_tokens, made.completion_tokens)
                    deliver(Reply(by_key[made.key], made.text, made.finish, usage, share, made.text))

    def close(self) -> None:
        """Free the model."""
        self._loaded = None

    def _load(self) -> "LoadedModel":
        if self._loaded is None:
            try:
                from stillhouse.generation import load_model, measured
            except ImportError as failure:
                raise MissingExtra(
                    f"Answering with a local model needs torch and transformers ({failure.name} is missing).",
                    next_step="pip install 'stillhouse[train]'",
                ) from failure
            self._say("reading the model; the first time, it is unpacked and its speed is measured")
            choice = measured.choose(Path(self._teacher.weights), self._cache)
            self._loaded = load_model.load(
                Path(self._teacher.weights), dtype=choice.dtype, cache=self._cache / "models"
            )
            self._loaded.caching = choice.caching
            self._batch_size = choice.batch_size
            if self._loaded.digest != self._teacher.weights_digest:
                raise TeacherContradiction(f"{self._teacher.name}: its weights have changed since it was registered.")
        return self._loaded
