"""What a job's row carries: its stamps, and every text in it that could be an answer. Pure.

Covers: rows as exports, datasets and training libraries lay them out, several conversations in one row, JSON as text, arrays of
numpy and torch. Does not cover: text that was changed.
"""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from stillhouse.conversations.content import decoded, read_message
from stillhouse.conversations.text_marks import text_mark, turns_mark
from stillhouse.datasets.corpora.carried_stamps import own_stamps
from stillhouse.datasets.corpora.row_shapes import Skipped, read_row
from stillhouse.datasets.row_marks import answers_in

# Of a table, so many rows are held as objects at a time.
_ROWS_AT_ONCE = 1000
# Turns of these roles ask; of any other, whatever it is called, they may be answers.
_ASK = frozenset({"user", "human", "system", "developer"})


def stamps_of(row: Any) -> int | None:
    """The stamp set of a row, as exports and datasets hold it. What an export wrote of the row counts before a column of that
    name, which may have been added since.
    """
    if not isinstance(row, Mapping):
        return None
    own = own_stamps(row)
    stamps = row.get("stamps") if own is None else own.get("stamps") if isinstance(own, Mapping) else None
    if isinstance(stamps, bool):
        return None
    try:
        return int(stamps) if isinstance(stamps, str) else operator.index(stamps)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def answers_of(row: Mapping[str, Any]) -> dict[str, set[str]]:
    """The mark of every text that can be an answer, with the marks of all that it can answer: what stands before it in its
    conversation, and every other text of the row, whatever their columns are called.
    """
    columns = [_read(value) for value in row.values()]
    texts = [column for column in columns if isinstance(column, str)]
    conversations = [turns for column in columns if (turns := _turns(column))]
    asked = {turns_mark([("user", text)]) for text in texts} | {turns_mark(turns) for turns in conversations}
    found: dict[str, set[str]] = {text_mark(text): set(asked) for text in texts}
    for turns in conversations:
        for place, (role, text) in enumerate(turns):
            if role not in _ASK:
                before = {turns_mark(turns[:place]), turns_mark(turns[max(0, place - 1) : place])}
                found.setdefault(text_mark(text), set()).update(before | asked)
    said = read_row(row)
    for question, answer in () if isinstance(said, Skipped) else answers_in(said):
        found.setdefault(answer, set()).add(question)
    found.pop("", None)
    return found


def rows_of_table(table: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a table of Arrow, pandas, polars, or whatever else offers itself as a stream of Arrow."""
    import pyarrow

    try:
        read = pyarrow.Table.from_batches([table]) if isinstance(table, pyarrow.RecordBatch) else pyarrow.table(table)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # values of several kinds in a column: pandas holds such
        yield from table.to_dict(orient="records")
        return
    for batch in read.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _read(value: Any) -> Any:
    """A column's value; a conversation that is JSON as text is read, and an array is a list."""
    if isinstance(value, str):
        try:
            return decoded(value) if value.lstrip().startswith("[") else value
        except (ValueError, RecursionError):
            return value
    return value.tolist() if hasattr(value, "tolist") else value


def _turns(value: Any) -> list[tuple[str, str]]:
    """The turns (role, text) of a conversation; none where it is no such thing."""
    turns = list(value) if isinstance(value, list | tuple) else []
    if not all(isinstance(turn, Mapping) for turn in turns):
        return []
    return [(str(turn.get("role", turn.get("from"))), _text(turn)) for turn in turns]


def _text(turn: Mapping[str, Any]) -> str:
    return read_message(turn).text or str(turn.get("value") or turn.get("text") or "")
