"""What a student reads, and in which order: records become documents, documents become steps. Pure.

A step is a list of packs, a pack a list of documents that go through the model as one row without any padding. Since
``attention`` keeps documents apart, a pack need not be full and no bin-packing is needed: the shuffled sequence is cut.
"""

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from stillhouse.errors import TemplateRefused
from stillhouse.nouns import Message

# Long enough that a step's fixed costs vanish, short enough that logits of a large vocabulary fit beside the model.
PACK_TOKENS = 1024
# At least so many steps an epoch: a small dataset in a few large steps learns nothing; and a bound for large ones.
STEPS_PER_EPOCH, BATCH_TOKENS = 16, (1024, 131_072)


class Record(NamedTuple):
    """A row of a dataset, as a student needs it; ``place`` is its task and sample. One that is ``unusable`` says why."""

    key: str
    messages: tuple[Message, ...]
    response: str
    stamps: int
    place: tuple[str, int] = ("", 0)
    unusable: str = ""


class Document(NamedTuple):
    """Token ids of a prompt and its answer, four bytes each; the answer, which the loss looks at, begins at ``answer``."""

    key: str
    tokens: Sequence[int]
    answer: int
    stamps: int = 0
    place: tuple[str, int] = ("", 0)

    @property
    def answer_tokens(self) -> int:
        """How many tokens the loss looks at."""
        return len(self.tokens) - self.answer


class DocumentPack(NamedTuple):
    """Documents that go through the model as one row."""

    documents: tuple[Document, ...]

    @property
    def tokens(self) -> int:
        """Length of the row."""
        return sum(len(document.tokens) for document in self.documents)


class Step(NamedTuple):
    """Everything that one update of the weights learns from. Numbers count from 1."""

    number: int
    packs: tuple[DocumentPack, ...]

    @property
    def records(self) -> tuple[str, ...]:
        """The keys of its records, in order."""
        return tuple(document.key for pack in self.packs for document in pack.documents)

    @property
    def tokens(self) -> int:
        """Tokens that go through the model."""
        return sum(pack.tokens for pack in self.packs)

    @property
    def answer_tokens(self) -> int:
        """Tokens that the loss looks at."""
        return sum(document.answer_tokens for pack in self.packs for document in pack.documents)


class LeftOutRecords(NamedTuple):
    """A record that no step learns from, and why."""

    key: str
    reason: str


class Language(NamedTuple):
    """How a model writes: its template and tokenizer, as functions, and what is to be known of them."""

    render: Callable[[Sequence[Message]], str]
    encode: Callable[[str], Sequence[int]]
    end: int
    context: int
    vocabulary: int


def documents(records: Iterable[Record], language: Language) -> tuple[list[Document], list[LeftOutRecords]]:
    """Records as the model reads them, and those that no step can learn from."""
    found: list[Document] = []
    left_out: list[LeftOutRecords] = []
    for record in records:
        made = tokenise(record, language)
        if isinstance(made, Document):
            found.append(made)
        else:
            left_out.append(made)
    return found, left_out


def tokenise(record: Record, language: Language) -> Document | LeftOutRecords:
    """A record as the model reads it: the prompt by its template, the answer, the end of the turn.

    Prompt and answer are encoded apart, as they are when the model answers. A record that does not fit into the context
    is left out whole: a cut answer would teach to stop in the middle.
    """
    if record.unusable:
        return LeftOutRecords(record.key, record.unusable)
    try:
        prompt = language.encode(language.render(record.messages))
    except TemplateRefused as failure:
        return LeftOutRecords(record.key, f"the chat template refuses it {failure.detail}")
    tokens = array("I", [*prompt, *language.encode(record.response), language.end])
    if len(tokens) > language.context:
        return LeftOutRecords(record.key, f"longer than the context of {language.context} tokens")
    if not prompt:
        return LeftOutRecords(record.key, "an empty prompt")
    if max(tokens) >= language.vocabulary:
        return LeftOutRecords(record.key, f"a token beyond the vocabulary of {language.vocabulary}")
    return Document(record.key, tokens, len(prompt), record.stamps, record.place)


def in_order(documents: Iterable[Document]) -> list[Document]:
    """Documents as a training takes them: by task, sample and key, in whatever files and order a dataset has its rows."""
    return sorted(documents, key=lambda document: (document.place, document.key))


def take_answer_tokens(
    documents: Sequence[Document], limit: int, seed: int
) -> tuple[list[Document], list[LeftOutRecords]]:
    """Documents drawn by the seed until their answers hold ``limit`` tokens; the last may go a little beyond."""
    order = list(documents)
    random.Random(f"{seed}/drawn").shuffle(order)  # noqa: S311 - an order, no secret
    kept: list[Document] = []
    count = 0
    for document in order:
        if count >= limit:
            break
        kept.append(document)
        count += document.answer_tokens
    return kept, [LeftOutRecords(document.key, "beyond the number of tokens wanted") for document in order[len(kept) :]]


def plan_steps(documents: Sequence[Document], *, epochs: int, seed: int, together: bool = True) -> list[Step]:
    """Which documents feed which step: every document once an epoch, in an order that only the seed decides.

    ``together`` false gives every document a pack of its own, for models that cannot keep them apart.
    """
    epoch_tokens = sum(len(document.tokens) for document in documents)
    # Large datasets take larger steps, so that an epoch has about STEPS_PER_EPOCH of them.
    batch = min(max(epoch_tokens // STEPS_PER_EPOCH, BATCH_TOKENS[0]), BATCH_TOKENS[1])
    pack = min(PACK_TOKENS, batch) if together else 1
    steps: list[Step] = []
    for epoch in range(epochs):
        order = list(documents)
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, no secret
        for members in _cut(order, batch):
            packs = tuple(DocumentPack(tuple(part)) for part in _cut(members, pack))
            steps.append(Step(len(steps) + 1, packs))
    return steps


def _cut(documents: Sequence[Document], most: int) -> Iterator[list[Document]]:
    """Runs of at most ``most`` tokens; a longer document is a run of its own."""
    run: list[Document] = []
    length = 0
    for document in documents:
        if run and length + len(document.tokens) > most:
            yield run
            run, length = [], 0
        run.append(document)
        length += len(document.tokens)
    if run:
        yield run
