"""Where candidates for a dataset come from: their heads first, which are small, and their texts where those are needed."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from blake3 import blake3

import stillhouse
from stillhouse.datasets.filter import Candidate
from stillhouse.datasets.shards import candidate_of, read_shard, shards_of
from stillhouse.home.ledger import answer_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.nouns import DatasetVersion
from stillhouse.vault.objects import Objects

if TYPE_CHECKING:
    import pyarrow

ROW_BYTES = 16


@functools.cache
def examining_code() -> bytes:
    """What stands for the code that reads, extracts and examines: with another one, rows and findings can be others."""
    hasher, root = blake3(), Path(stillhouse.__file__).parent
    files = [path for folder in ("conversations", "datasets") for path in (root / folder).rglob("*.py")]
    for path in sorted([*files, root / "canon.py", root / "home" / "ledger" / "clean.py"]):
        hasher.update(path.read_bytes())
    return hasher.digest(ROW_BYTES)


class Head(NamedTuple):
    """What is known of a candidate without its text.

    ``row`` is 16 bytes that stand for all that its row is made of: what was found of it once holds for ever, and a row of an
    earlier version with the same 16 bytes is the same. ``tokens`` are its answer's where somebody counted them, else -1;
    ``answers`` are those of a conversation by stamp set, as ``Candidate`` has them.
    """

    place: int
    row: bytes
    task: str
    sample: int
    key: str
    stamps: int
    tokens: int
    answers: str = ""


class CandidateSource(Protocol):
    """Candidates in an order of their own, which is always the same."""

    @property
    def is_erasable(self) -> bool:
        """Can they be erased? Then nothing of them may be kept elsewhere."""

    def heads(self) -> Iterator[Head]:
        """Every candidate's head; ``place`` counts from 0."""

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The candidates at some places, which ascend. Called with a few at a time, in order: a source may go on where it was."""


class ListSource:
    """Candidates that are in memory."""

    is_erasable = False

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates

    def heads(self) -> Iterator[Head]:
        """Every candidate's head."""
        for place, one in enumerate(self._candidates):
            row = blake3(b"%d/" % place + repr(one).encode("utf-8", "surrogatepass")).digest(ROW_BYTES)
            yield Head(place, row, one.task.id, one.sample, one.key, one.stamps, one.tokens, one.answers)

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The candidates at some places."""
        return (self._candidates[place] for place in places)


class VersionSource:
    """The rows of a dataset version."""

    def __init__(self, ledger: Ledger, objects: Objects, version: DatasetVersion) -> None:
        """``objects`` are those that have its words."""
        self._ledger, self._objects, self._version = ledger, objects, version
        self._batches: Iterator[pyarrow.RecordBatch] | None = None
        self._batch: Any = None
        self._first = 0

    @property
    def is_erasable(self) -> bool:
        """Can the version be erased?"""
        return bool(self._version.erasable)

    def heads(self) -> Iterator[Head]:
        """Every row's head. Raises CorruptObject."""
        columns = ("key", "task", "sample", "stamps", "tokens", "answers")
        place = 0
        for digest in shards_of(self._version):
            number = 0
            for batch in read_shard(self._objects, digest, columns):
                for key, task, sample, stamps, tokens, answers in self._rows(batch, columns):
                    row = blake3(f"{digest} {number}".encode()).digest(ROW_BYTES)
                    yield Head(place, row, task, sample, key, stamps, tokens, answers)
                    place, number = place + 1, number + 1

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The rows at some places; who goes on where the last call ended reads no shard twice. Raises CorruptObject."""
        here: list[int] = []
        for place in places:
            if here and place >= self._first + self._batch.num_rows:
                yield from self._candidates(here)
                here = []
            self._go_to(place)
            here.append(place - self._first)
        yield from self._candidates(here)

    def _go_to(self, place: int) -> None:
        """Have the batch that holds a row."""
        if self._batches is None or place < self._first:
            self._batches = (
                batch for digest in shards_of(self._version) for batch in read_shard(self._objects, digest)
            )
            self._first, self._batch = 0, next(self._batches)
        while place >= self._first + self._batch.num_rows:
            self._first += self._batch.num_rows
            self._batch = next(self._batches)

    def _candidates(self, here: list[int]) -> Iterator[Candidate]:
        if here:
            yield from map(candidate_of, self._batch.take(here).to_pylist())

    def _rows(
        self, batch: "pyarrow.RecordBatch", names: Sequence[str]
    ) -> Iterator[tuple[str, str, int, int, int, str]]:
        """Rows as tuples; files of before do not say the tokens, the answers do."""
        found = {name: batch.column(name).to_pylist() for name in names if name in batch.schema.names}
        tokens, answers = found.get("tokens"), found.get("answers") or [""] * batch.num_rows
        if tokens is None or -1 in tokens:
            counted = answer_queries.answer_tokens(self._ledger, found["key"])
            said = tokens or [-1] * batch.num_rows
            tokens = [
                count if count >= 0 else counted.get(key, -1) for key, count in zip(found["key"], said, strict=True)
            ]
        yield from zip(found["key"], found["task"], found["sample"], found["stamps"], tokens, answers, strict=True)
