"""A wrapper for the job itself: every row must carry a stamp set that is allowed, or the job stops.

Covers: rows of `datasets` (map-style and streaming, and splits of them), of tables (pandas, polars, Arrow), of PyTorch's
map-style and iterable datasets, and of anything that gives rows one by one; a row without stamps, or with stamps that the home
does not know, is refused; so is known text that may not be used under stamps of others, in every shape that an import reads and
in every turn. Does not cover: a job that unwraps its data, and text that was changed (``access gate`` on the file finds that).
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

from stillhouse.access.loaded_rows import answers_of, rows_of_table, stamps_of
from stillhouse.errors import PolicyRefusal
from stillhouse.nouns import Decision, Use

# The marks of a question and of its answer.
Pair = tuple[str, str]
KnownByAlias = Callable[[Pair], bool] | None


class StampGate:
    """Lets rows pass whose stamp set may serve a use, as of when it was made."""

    def __init__(
        self,
        use: Use,
        decisions: Mapping[int, Decision],
        denied: Set[Pair] = frozenset(),
        known_by_alias: KnownByAlias = None,
    ) -> None:
        """``denied`` are the marks (question, answer) of texts that may not be used, whatever stamps a row has;
        ``known_by_alias`` tells whether a pair is of such a text of which the log has no words.
        """
        self.use, self._decisions, self._denied, self._known_by_alias = use, decisions, denied, known_by_alias
        self._answers = {answer for _, answer in denied}

    def check(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row, where it may be used. Raises PolicyRefusal."""
        self._check(stamps_of(row), 1)
        if self._looks_at_texts:
            self._check_text(row)
        return row

    @property
    def _looks_at_texts(self) -> bool:
        return bool(self._denied) or self._known_by_alias is not None

    def _check_text(self, row: Mapping[str, Any]) -> None:
        found = answers_of(row)
        pairs = [(question, answer) for answer, asked in found.items() if answer in self._answers for question in asked]
        denied = not self._denied.isdisjoint(pairs)
        if not denied and self._known_by_alias is not None:
            denied = any(
                self._known_by_alias((question, answer)) for answer, asked in found.items() for question in asked
            )
        if denied:
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
        if hasattr(dataset, "read_next_batch"):  # it can be read once, so it is looked at as it is read
            import pyarrow

            return pyarrow.RecordBatchReader.from_batches(dataset.schema, map(self._passed, dataset))
        if hasattr(dataset, "__arrow_c_stream__"):
            return self._passed(dataset)
        if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            return Guarded(dataset, self.check)
        return guarded_stream(dataset, self.check)

    def _guard_hugging_face(self, dataset: Any) -> Any:
        columns = dataset.column_names or []
        if not hasattr(dataset, "__len__"):
            return dataset.filter(self._may_pass)
        if self._looks_at_texts:
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

    def _may_pass(self, rows: Any) -> bool:
        """Raises PolicyRefusal where not."""
        self._passed(rows)
        return True

    def _passed(self, rows: Any) -> Any:
        """A row, or a table of some, that may pass."""
        if isinstance(rows, Mapping):
            return dict(self.check(rows))
        for row in rows_of_table(rows):
            self.check(row)
        return rows

    def _check(self, stamps: Any, rows: int) -> None:
        decision = self._decisions.get(stamps) if isinstance(stamps, int) else None
        if decision is None:
            what = "carry no stamps" if stamps is None else f"carry stamps {stamps} that this home does not know"
            raise PolicyRefusal(f"{rows} rows {what}, and unknown means no.")
        if not decision.allowed:
            raise PolicyRefusal(f"{rows} rows may not be used to {self.use}: {decision.reason}.")


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


class _Rebuilt:
    """What PyTorch sends to the processes that load for it is made again there: its class is made below, and has no name."""

    def __reduce__(self) -> tuple[Any, ...]:
        return guarded_stream, (self._dataset, self._check)  # type: ignore[attr-defined]


def guarded_stream(dataset: Iterable[Any], check: Callable[[Any], Any]) -> GuardedStream:
    """An iterable dataset whose rows are looked at. PyTorch's own stays one, since its loader takes no other."""
    torch_data: Any = sys.modules.get("torch.utils.data")
    if torch_data is None or not isinstance(dataset, torch_data.IterableDataset):
        return GuardedStream(dataset, check)
    stream: GuardedStream = type("GuardedStream", (_Rebuilt, GuardedStream, torch_data.IterableDataset), {})(
        dataset, check
    )
    return stream
