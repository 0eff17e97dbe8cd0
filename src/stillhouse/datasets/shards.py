"""The files of a dataset: rows in Parquet, in shards that are written and read as streams.

A shard holds some 256 MB of text, fewer where that does not compress; whoever writes or reads a dataset of any size has one shard
and one group of rows in memory. Shards are complete in themselves: what was stored when a process is killed is not made again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stillhouse.conversations.record import decode, encode
from stillhouse.datasets.conversation_rows import conversation_candidate
from stillhouse.datasets.filter import Candidate
from stillhouse.nouns import DatasetVersion, Message, Task, Verdict, VerdictStatus
from stillhouse.vault.objects import Objects

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

ROWS, DROPPED = "rows", "dropped"
# While a shard is stored its bytes are in memory three times.
_SHARD_TEXT, _SHARD_STORED = 256 << 20, 32 << 20
# Its lines of the index are in memory together.
_SHARD_ROWS = 200_000
# Large enough to compress well, small enough that a reader holds little.
_GROUP_TEXT, _GROUP_ROWS = 8 << 20, 20_000
_READ_ROWS = 1024
_TEXTS = ("key", "task", "family", "response", "reasoning", "code", "finish", "verdict", "verdict_reason", "trust")
_FEW = ["family", "finish", "verdict", "verdict_reason", "trust", "step", "reason", "stamps"]


class ShardWriter:
    """Writes candidates as the shards of one kind; ``stored`` are those that are complete, by name."""

    def __init__(self, objects: Objects, kind: str, stored: Mapping[str, str] = MappingProxyType({})) -> None:
        """``stored`` are the shards that an earlier process completed."""
        self._objects, self._kind, self._number = objects, kind, len(stored)
        self.stored = dict(stored)
        self._group: dict[str, list[Any]] = {}
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._sink: pyarrow.BufferOutputStream | None = None
        self._group_text = self._shard_text = self._shard_rows = 0
        self._new_group()

    def add(self, candidate: Candidate, step: str = "", reason: str = "", rest: str = "") -> bool:
        """Take a row; ``rest`` is what it says besides, as JSON. Returns whether that completed a shard."""
        task, verdict, group = candidate.task, candidate.verdict, self._group
        said = candidate.conversation
        row = (
            candidate.key, task.id, task.family, candidate.text if said is None else "", candidate.reasoning, candidate.code,
            candidate.finish, str(verdict.status), verdict.reason, verdict.trust,
        )  # fmt: skip
        for name, value in zip(_TEXTS, row, strict=False):  # as many, by the line above
            group[name].append(value)
        group["sample"].append(candidate.sample)
        group["stamps"].append(candidate.stamps)
        group["tokens"].append(candidate.tokens)
        group["rest"].append(rest)
        group["answers"].append(candidate.answers)
        group["conversation"].append(encode(said).decode() if said is not None else "")
        if self._kind == DROPPED:
            group["step"].append(step)
            group["reason"].append(reason)
        size = len(candidate.text) + len(candidate.reasoning) + len(candidate.code) + len(rest)
        size += len(group["conversation"][-1])
        for message in task.messages if said is None else ():
            group["role"].append(message.role)
            group["content"].append(message.content)
            size += len(message.content)
        group["turns"].append(len(group["role"]))
        self._group_text += size
        if self._group_text >= _GROUP_TEXT or len(group["key"]) >= _GROUP_ROWS:
            self._write_group()
            stored = self._sink.tell() if self._sink is not None else 0
            if self._shard_text >= _SHARD_TEXT or stored >= _SHARD_STORED or self._shard_rows >= _SHARD_ROWS:
                self.end_shard()
                return True
        return False

    def end_shard(self) -> None:
        """Store what was taken since the last shard. Raises StorageError."""
        if self._group["key"]:
            self._write_group()
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        data = self._sink.getvalue().to_pybytes()
        self._writer = self._sink = None
        self._shard_text = self._shard_rows = 0
        self.stored[shard_name(self._kind, self._number)] = self._objects.put(data)
        self._number += 1

    def end(self) -> dict[str, str]:
        """Store the rest; all shards by name, at least one. Raises StorageError."""
        if not self._number and self._writer is None:
            self._write_group()
        self.end_shard()
        return self.stored

    def _new_group(self) -> None:
        names = (
            *_TEXTS,
            "sample",
            "stamps",
            "tokens",
            "rest",
            "conversation",
            "answers",
            "role",
            "content",
            *(("step", "reason") * (self._kind == DROPPED)),
        )
        self._group = {name: [] for name in names}
        self._group["turns"] = [0]
        self._group_text = 0

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = _schema(self._kind)
        if self._writer is None:
            self._sink = pyarrow.BufferOutputStream()
            self._writer = pyarrow.parquet.ParquetWriter(
                self._sink, schema, compression="zstd", compression_level=1, use_dictionary=_dictionaries(schema),
                write_statistics=False,
            )  # fmt: skip
        self._shard_text += self._group_text
        self._shard_rows += len(self._group["key"])
        self._writer.write_table(pyarrow.Table.from_arrays(list(_columns(self._group, schema)), schema=schema))
        self._new_group()


def _dictionaries(schema: "pyarrow.Schema") -> list[str]:
    return [name for name in _FEW if name in schema.names] + ["messages.list.element.role"]


def _columns(group: Mapping[str, list[Any]], schema: "pyarrow.Schema") -> Iterator["pyarrow.Array"]:
    import pyarrow

    text = pyarrow.string()
    for field in schema:
        if field.name == "messages":
            turns = [pyarrow.array(group["role"], text), pyarrow.array(group["content"], text)]
            said = pyarrow.StructArray.from_arrays(turns, names=["role", "content"])
            yield pyarrow.ListArray.from_arrays(pyarrow.array(group["turns"], pyarrow.int32()), said)
        else:
            yield pyarrow.array(group[field.name], field.type)


def _schema(kind: str) -> "pyarrow.Schema":
    import pyarrow

    text, message = pyarrow.string(), pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    fields = [(name, text) for name in ("key", "task", "family")]
    fields += [("sample", pyarrow.int32()), ("messages", pyarrow.list_(message))]
    fields += [(name, text) for name in _TEXTS[3:]]
    fields += [
        ("stamps", pyarrow.int64()),
        ("tokens", pyarrow.int64()),
        ("rest", text),
        ("conversation", text),
        ("answers", text),
    ]
    fields += [("step", text), ("reason", text)] if kind == DROPPED else []
    return pyarrow.schema(fields)


def shards_of(dataset: DatasetVersion, kind: str = ROWS) -> list[str]:
    """The digests of a version's shards of a kind, in order."""
    numbered = {
        _number(name): digest for name, digest in dataset.files.items() if name.startswith((f"{kind}.", f"{kind}-"))
    }
    return [numbered[number] for number in sorted(numbered)]


def shard_name(kind: str, number: int) -> str:
    """What a version calls one of its shards."""
    return f"{kind}-{number:05}.parquet" if number else f"{kind}.parquet"


def _number(name: str) -> int:
    return int(name.partition(".")[0].partition("-")[2] or 0)


def read_rows(objects: Objects, dataset: DatasetVersion, kind: str = ROWS) -> Iterator[dict[str, Any]]:
    """The rows of a version, one after the other. Raises CorruptObject where stored bytes are not those that were written."""
    return read_shards(objects, shards_of(dataset, kind))


def read_shards(objects: Objects, digests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of some shards. Raises CorruptObject."""
    for digest in digests:
        for batch in read_shard(objects, digest):
            yield from batch.to_pylist()


def read_shard(objects: Objects, digest: str, columns: Sequence[str] = ()) -> "Iterator[pyarrow.RecordBatch]":
    """A shard in batches, all columns or those of some names that it has. Raises CorruptObject."""
    import pyarrow
    import pyarrow.parquet

    # In memory already: threads would have nothing to wait for, and could outlive a short command.
    shard = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(objects.get(digest)), pre_buffer=False)
    some = [name for name in columns if name in shard.schema_arrow.names] or None
    yield from shard.iter_batches(_READ_ROWS, columns=some, use_threads=False)


def candidate_of(row: Mapping[str, Any]) -> Candidate:
    """A row of a version as a candidate for another one."""
    messages = tuple(Message(**message) for message in row["messages"])
    verdict = Verdict(VerdictStatus(row["verdict"]), row["verdict_reason"], trust=row["trust"])
    if row.get("conversation"):
        said = decode(row["conversation"].encode())
        return conversation_candidate(row["key"], row["task"], said, row["stamps"], verdict, row["tokens"])
    task = Task(id=row["task"], messages=messages, family=row["family"])
    return Candidate(
        row["key"], task, row["sample"], row["response"], row["code"], row["finish"], row["stamps"], verdict,
        row.get("reasoning") or "", row.get("tokens", -1),
    )  # fmt: skip
