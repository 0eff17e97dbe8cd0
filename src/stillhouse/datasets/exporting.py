"""Write a version's rows into a file that others read, each with where it comes from.

What a format cannot say of a row's words leaves the row out, counted by reason; details that it never says (ids, times, ...) are
named once. That rows left the home is written down with the file's digest, so that it can be named when a source is revoked.
"""

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import msgspec

from stillhouse.canon import digest_file
from stillhouse.clock import now
from stillhouse.conversations.formats import (
    alpaca,
    anthropic_messages,
    atif,
    openai_chat,
    prompt_completion,
    responses,
    share_gpt,
)
from stillhouse.conversations.formats.format import CannotWrite, Detail, Format, as_object
from stillhouse.conversations.record import Conversation, Reasoning, Role, Text, Turn
from stillhouse.datasets.filter import Candidate
from stillhouse.datasets.shards import candidate_of, read_rows
from stillhouse.errors import StorageError, UsageError
from stillhouse.home import facts
from stillhouse.home.ledger import origin_queries
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import DatasetVersion, StampSet
from stillhouse.vault.objects import Objects

# So much text is one group of a table.
_GROUP_TEXT = 8 << 20


class ExportFormat(StrEnum):
    """What a row of an export is. ``TRL`` is OpenAI's chat with arguments of calls as objects, as chat templates want them."""

    OPENAI = "openai"
    TRL = "trl"
    ANTHROPIC = "anthropic"
    RESPONSES = "responses"
    SHARE_GPT = "sharegpt"
    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt-completion"
    ATIF = "atif"


class ExportDone(NamedTuple):
    """How many rows were written, how many were not, by reason, and what this format leaves out of each."""

    rows: int
    left_out: Counter[str]
    leaves_out: tuple[Detail, ...]


def export_rows(
    recorder: Recorder,
    objects: Objects,
    dataset: DatasetVersion,
    target: Path,
    wanted: ExportFormat = ExportFormat.OPENAI,
) -> ExportDone:
    """Write all rows that the format can say: as JSON lines, or as Parquet where the target is called so.

    Raises UsageError where the target is there, or nothing would be in it; StorageError.
    """
    if target.exists():
        raise UsageError(f"{target} exists already.", next_step="Name a file that does not exist yet.")
    if not dataset.rows:
        raise UsageError(
            f"{dataset.label} holds no rows.", next_step="`stillhouse dataset list` shows its other versions: name one."
        )
    in_table = target.suffix == ".parquet"
    if in_table and wanted is not ExportFormat.OPENAI:
        raise UsageError("A Parquet file has OpenAI's columns.", next_step=f"Leave out --format {wanted}.")
    sets = origin_queries.stamp_sets(recorder.ledger)
    left_out, count = Counter[str](), 0
    try:
        with _removed_where_it_fails(target), target.open("xb") as file, _sink(file, in_table=in_table) as sink:
            for row in read_rows(objects, dataset):
                candidate = candidate_of(row)
                origin = _origin(candidate, dataset, sets)
                if dataset.erasable and not count:  # or the file's digest, which stays in the log, would prove a guess
                    origin["nonce"] = secrets.token_hex(16)
                try:
                    sink.add(_with_origin(_written(candidate, wanted), origin, wanted))
                except CannotWrite as failure:
                    left_out[f"{wanted} cannot say {failure}"] += 1
                    continue
                count += 1
            if not count:
                reasons = "; ".join(f"{rows} rows: {why}" for why, rows in left_out.items())
                raise UsageError(
                    f"No row of {dataset.label} can be written: {reasons}.", next_step="Take another --format."
                )
    except OSError as failure:
        raise StorageError(f"{target} could not be written: {failure.strerror}.") from failure
    digest = digest_file(target)
    exported = facts.Exported(
        at=now(), by=recorder.by, dataset=dataset.label, digest=digest, name=target.name, rows=count
    )
    edge = {"parent": f"dataset:{dataset.label}", "child": f"export:{digest}", "kind": "exported"}
    recorder.record(exported, facts.Derived(at=now(), by=recorder.by, **edge))
    recorder.refresh()
    leaves_out = _FORMATS[wanted].leaves_out - _IN_ORIGIN
    return ExportDone(count, left_out, tuple(sorted(leaves_out)))


_FORMATS: Mapping[ExportFormat, Format] = {
    ExportFormat.OPENAI: openai_chat.FORMAT, ExportFormat.TRL: openai_chat.FORMAT,
    ExportFormat.ANTHROPIC: anthropic_messages.FORMAT, ExportFormat.RESPONSES: responses.FORMAT,
    ExportFormat.SHARE_GPT: share_gpt.FORMAT, ExportFormat.ALPACA: alpaca.FORMAT,
    ExportFormat.PROMPT_COMPLETION: prompt_completion.FORMAT, ExportFormat.ATIF: atif.FORMAT,
}  # fmt: skip
# What stands beside the words in every export.
_IN_ORIGIN = frozenset({Detail.STAMPS, Detail.KEYS})


def _written(candidate: Candidate, wanted: ExportFormat) -> dict[str, Any]:
    """A row in a format. Raises CannotWrite."""
    if candidate.conversation is None and wanted in (ExportFormat.OPENAI, ExportFormat.TRL):
        answer = {"role": "assistant", "content": candidate.text}
        thought = {"reasoning_content": candidate.reasoning} if candidate.reasoning else {}
        asked = [{"role": message.role, "content": message.content} for message in candidate.task.messages]
        return {"messages": [*asked, {**answer, **thought}]}
    row: dict[str, Any] = _FORMATS[wanted].write(conversation_of(candidate))
    if wanted is ExportFormat.TRL:
        for message in row["messages"]:
            for call in message.get("tool_calls") or ():
                if "function" in call:
                    call["function"]["arguments"] = as_object(call["function"]["arguments"])
    return row


def conversation_of(candidate: Candidate) -> Conversation:
    """All that a candidate says, as turns."""
    if candidate.conversation is not None:
        return candidate.conversation
    asked = [Turn(Role(message.role), (Text(message.content),)) for message in candidate.task.messages]
    thought = (Reasoning(candidate.reasoning),) if candidate.reasoning else ()
    answer = Turn(
        Role.ASSISTANT, (*thought, Text(candidate.text)), candidate.stamps, candidate.finish, key=candidate.key
    )
    return Conversation((*asked, answer))


def _origin(candidate: Candidate, dataset: DatasetVersion, sets: Mapping[int, StampSet]) -> dict[str, Any]:
    """Where a row comes from. The whole sets: another home can resolve them, and check them by their numbers.

    Of a conversation, ``answers`` are the sets of its answers, in order, of which the first ``shared`` count in another row.
    """
    origin: dict[str, Any] = {
        "key": candidate.key, "task": candidate.task.id, "stamps": candidate.stamps, "dataset": dataset.label,
        "origins": msgspec.to_builtins(sets[candidate.stamps].stamps),
    }  # fmt: skip
    said = candidate.conversation
    if said is not None:
        answers = [place for place, turn in enumerate(said.turns) if turn.role is Role.ASSISTANT]
        origin["answers"] = [said.turns[place].stamps for place in answers]
        origin["shared"] = sum(place < said.fork for place in answers)
        origin["sets"] = {
            str(id): msgspec.to_builtins(sets[id].stamps) for id in sorted(set(origin["answers"])) if id in sets
        }
        if said.outcome is not None:
            origin["outcome"] = msgspec.to_builtins(said.outcome)
    return origin


def _with_origin(row: dict[str, Any], origin: dict[str, Any], wanted: ExportFormat) -> dict[str, Any]:
    if wanted is not ExportFormat.ATIF:
        return {**row, "stillhouse": origin}
    extra = row.get("extra") or {}  # its validators allow no column of another name
    return {**row, "extra": {**extra, "stillhouse": {**extra.get("stillhouse", {}), **origin}}}


class _Sink(Protocol):
    def add(self, row: dict[str, Any]) -> None:
        """One row."""


class _Lines:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, row: dict[str, Any]) -> None:
        """One row."""
        self._file.write(msgspec.json.encode(row) + b"\n")


class _Table:
    """Parquet with the columns that Hugging Face's libraries read: arguments, tools and origins are JSON as text."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        text = pyarrow.string()
        function = pyarrow.struct([("name", text), ("arguments", text)])
        call = pyarrow.struct([("id", text), ("type", text), ("function", function)])
        fields = [("role", text), ("content", text), ("reasoning_content", text), ("tool_calls", pyarrow.list_(call)),
                  ("tool_call_id", text), ("name", text)]  # fmt: skip
        message = pyarrow.struct(fields)
        self._schema = pyarrow.schema([("messages", pyarrow.list_(message)), ("tools", text), ("stillhouse", text)])
        self._names = {name for name, _ in fields}
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._text = 0

    def add(self, row: dict[str, Any]) -> None:
        """One row. Raises CannotWrite."""
        for message in row["messages"]:
            custom = any("function" not in call for call in message.get("tool_calls") or ())
            if custom or set(message) - self._names or not isinstance(message.get("content") or "", str):
                raise CannotWrite("parts of other types than text, reasoning and calls of functions in a table")
        texts = [
            json.dumps(row[name], ensure_ascii=False) if row.get(name) else None for name in ("tools", "stillhouse")
        ]
        self._rows.append({"messages": row["messages"], "tools": texts[0], "stillhouse": texts[1]})
        self._text += len(texts[0] or "") + sum(len(str(message)) for message in row["messages"])
        if self._text >= _GROUP_TEXT:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        import pyarrow

        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._text = [], 0

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        self._writer.close()


@contextlib.contextmanager
def _sink(file: IO[bytes], *, in_table: bool) -> Iterator[_Sink]:
    if not in_table:
        yield _Lines(file)
        return
    table = _Table(file)
    yield table
    table.close()


@contextlib.contextmanager
def _removed_where_it_fails(target: Path) -> Iterator[None]:
    """Half a file looks like a whole one, and would be in the way of the next try."""
    try:
        yield
    except BaseException as failure:
        if not isinstance(failure, FileExistsError):
            target.unlink(missing_ok=True)
        raise
