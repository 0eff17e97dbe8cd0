"""A wrapper for the job itself: every row must carry a stamp set that is allowed, or the job stops.

Covers: rows of `datasets` (map-style and streaming, and splits of them), of tables (pandas, polars, Arrow), of PyTorch's
map-style and iterable datasets, and of anything that gives rows one by one; a row without stamps, or with stamps that the home
does not know, is refused; so is known text that may not be used under stamps of others, in every shape that an import reads and
in every turn. Does not cover: a job that unwraps its data, and text that was changed (``access gate`` on the file finds that).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from stillhouse.conversations.content import read_message
from stillhouse.conversations.text_marks import text_mark, turns_mark
from stillhouse.datasets.corpora.row_shapes import Skipped, read_row
from stillhouse.datasets.recognition import answers_in
from stillhouse.errors import PolicyRefusal
from stillhouse.nouns import Decision, Use

# Of a table, so many rows are held as objects at a time.
_ROWS_AT_ONCE = 1000


class StampGate:
    """Lets rows pass whose stamp set may serve a use, as of when it was made."""

    def __init__(self, use: Use, decisions: Mapping[int, Decision], denied: Set[tuple[str, str]] = frozenset()) -> None:
        """``denied`` are the marks (question, answer) of texts that may not be used, whatever stamps a row has."""
        self.use, self._decisions, self._denied = use, decisions, denied

    def check(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row, where it may be used. Raises PolicyRefusal."""
        self._check(stamps_of(row), 1)
        if self._denied:
            self._check_text(row)
        return row

    def _check_text(self, row: Mapping[str, Any]) -> None:
        if not self._denied.isdisjoint(_marks(row)):
            raise PolicyRefusal(
                f"1 row has text that may not be used to {self.use}, under other stamps than it has here."
            )

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Rows one by one, each looked at. Raises PolicyRefusal at the first that may not be used."""
        for row in rows:
            yield self.check(row)

    def mask(self, stamps: Any) -> Any:
        """Which rows may be used, from their column of stamp sets (pyarrow, of int64): one look-up per stamp set, then a join.

        A stamp set that the home does not know, and none at all, may not.
        """
        import pyarrow
        import pyarrow.compute

        encoded = pyarrow.compute.dictionary_encode(stamps)
        chunks = encoded.chunks if isinstance(encoded, pyarrow.ChunkedArray) else [encoded]
        found = []
        for chunk in chunks:
            allowed = pyarrow.array([self._allows(id) for id in chunk.dictionary.to_pylist()], pyarrow.bool_())
            found.append(pyarrow.compute.fill_null(allowed.take(chunk.indices), fill_value=False))
        return pyarrow.chunked_array(found, pyarrow.bool_())

    def _allows(self, stamps: int) -> bool:
        decision = self._decisions.get(stamps)
        return decision is not None and decision.allowed

    def guard(self, dataset: Any) -> Any:
        """A dataset of `datasets` or of PyTorch, or a table, whose rows are looked at. Raises PolicyRefusal at once where it can
        be looked at as a whole, else at the first row that may not be used.
        """
        if isinstance(dataset, dict):  # several splits
            return dataset.__class__({split: self.guard(rows) for split, rows in dataset.items()})
        if hasattr(dataset, "column_names") and hasattr(dataset, "with_format"):
            return self._guard_hugging_face(dataset)
        if hasattr(dataset, "__arrow_c_stream__"):
            self._check_table(dataset)
            return dataset
        if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            return Guarded(dataset, self.check)
        return GuardedStream(dataset, self.check)

    def _guard_hugging_face(self, dataset: Any) -> Any:
        columns = dataset.column_names or []
        if not hasattr(dataset, "__len__"):
            return dataset.map(lambda row: dict(self.check(row)))
        if self._denied:
            for row in dataset.with_format(None):
                self.check(row)
            return dataset
        if "stillhouse" in columns:
            found = Counter(stamps_of({"stillhouse": origin}) for origin in dataset.with_format(None)["stillhouse"])
        elif "stamps" in columns:
            import pyarrow.compute

            if pyarrow.compute.all(
                self.mask(dataset.select_columns(["stamps"]).with_format("arrow")[:]["stamps"])
            ).as_py():
                return dataset
            found = Counter(dataset.with_format(None)["stamps"])
        else:
            found = Counter({None: len(dataset)})
        for stamps, rows in found.items():
            self._check(stamps, rows)
        return dataset

    def _check_table(self, table: Any) -> None:
        import pyarrow

        for batch in pyarrow.table(table).to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                self.check(row)

    def _check(self, stamps: Any, rows: int) -> None:
        decision = self._decisions.get(stamps) if isinstance(stamps, int) else None
        if decision is None:
            what = "carry no stamps" if stamps is None else f"carry stamps {stamps} that this home does not know"
            raise PolicyRefusal(f"{rows} rows {what}, and unknown means no.")
        if not decision.allowed:
            raise PolicyRefusal(f"{rows} rows may not be used to {self.use}: {decision.reason}.")


def _marks(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The marks (question, answer) of every answer in a row: as an import reads it, and as exports and datasets lay it out."""
    said = read_row(row)
    if not isinstance(said, Skipped):
        yield from answers_in(said)
    found = row.get("messages")
    messages = list(found) if isinstance(found, Iterable) and not isinstance(found, str | Mapping) else []
    readable = all(isinstance(turn, Mapping) for turn in messages)
    turns = [(str(turn.get("role")), read_message(turn).text) for turn in messages] if readable else []
    answer = str(row["response"]) if "response" in row else turns.pop()[1] if turns else ""
    yield turns_mark(turns), text_mark(answer)


class Guarded:
    """A map-style dataset (``torch.utils.data.Dataset``) whose rows are looked at when they are taken."""

    def __init__(self, dataset: Any, check: Callable[[Any], Any]) -> None:
        self._dataset, self._check = dataset, check

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._check(self._dataset[index])


class GuardedStream:
    """An iterable dataset whose rows are looked at as they come."""

    def __init__(self, dataset: Iterable[Any], check: Callable[[Any], Any]) -> None:
        self._dataset, self._check = dataset, check

    def __iter__(self) -> Iterator[Any]:
        for row in self._dataset:
            yield self._check(row)


def stamps_of(row: Any) -> int | None:
    """The stamp set of a row, as exports and datasets hold it. What an export wrote of the row counts before a column of that
    name, which may have been added since.
    """
    if not isinstance(row, Mapping):
        return None
    origin = row.get("stillhouse")
    stamps = origin.get("stamps") if isinstance(origin, Mapping) else row.get("stamps")
    return int(stamps) if isinstance(stamps, int) else None
