"""The index of a dataset's rows: one line for each record that was looked at, in the order of its files, and none of its words.

A line has the record's key and stamp set; where it ended (``step`` and ``reason``; none where it was kept); the digest of its
content; of imported rows also by what they are known again (marks of its question, its answer, its code, and of the earlier
answers in it) and the tokens that somebody counted. Of what can be erased, keys and marks are aliases that mean nothing once the
key is destroyed, so an index is kept for ever: impact and revocation are the same before and after an erasure or a deletion.

Stored as Parquet, a million lines in some 130 MB; digests and marks as bytes.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from stillhouse.canon import raw_digest
from stillhouse.vault.objects import Objects

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

DIGEST_BYTES, MARK_BYTES = 32, 16
_SHARD = b"shard"


class IndexLine(NamedTuple):
    """A record in an index. Marks are in hex, "" where there is none; ``aliases`` are digests."""

    key: str
    content: str
    stamps: int
    step: str = ""
    reason: str = ""
    question: str = ""
    answer: str = ""
    code: str = ""
    aliases: tuple[str, ...] = ()
    tokens: int = -1


def encode_index(lines: Sequence[IndexLine]) -> bytes:
    """Lines as an object."""
    return encode_table(index_table(lines))


def index_table(lines: Sequence[IndexLine], rows: Sequence[bytes] = ()) -> "pyarrow.Table":
    """Lines as a table; ``rows`` are 16 bytes each that stand for what their rows are made of, where somebody says that."""
    import pyarrow

    table = pyarrow.Table.from_arrays(list(_columns(lines)), schema=_schema())
    return table.append_column("row", pyarrow.array(rows, pyarrow.binary(MARK_BYTES))) if rows else table


def encode_table(table: "pyarrow.Table", shard: str = "") -> bytes:
    """A table as an object; ``shard`` is the digest of the one file that its lines are of, where they are of one."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    described = table.replace_schema_metadata({_SHARD: shard.encode()}) if shard else table
    pyarrow.parquet.write_table(
        described, buffer, compression="zstd", use_dictionary=["step", "reason", "stamps"], write_statistics=False
    )
    return buffer.getvalue()


def _columns(lines: Sequence[IndexLine]) -> Iterator["pyarrow.Array"]:
    import pyarrow

    digest, mark = pyarrow.binary(DIGEST_BYTES), pyarrow.binary(MARK_BYTES)
    yield pyarrow.array([raw_digest(line.key) for line in lines], digest)
    yield pyarrow.array([raw_digest(line.content) for line in lines], digest)
    yield pyarrow.array([line.stamps for line in lines], pyarrow.int64())
    for marks in ("question", "answer", "code"):
        yield pyarrow.array([bytes.fromhex(found) if (found := getattr(line, marks)) else None for line in lines], mark)
    yield pyarrow.array([[raw_digest(alias) for alias in line.aliases] for line in lines], pyarrow.list_(digest))
    yield pyarrow.array([line.tokens for line in lines], pyarrow.int64())
    yield pyarrow.array([line.step for line in lines], pyarrow.string())
    yield pyarrow.array([line.reason for line in lines], pyarrow.string())


def _schema() -> "pyarrow.Schema":
    import pyarrow

    digest, mark = pyarrow.binary(DIGEST_BYTES), pyarrow.binary(MARK_BYTES)
    fields = [("key", digest), ("content", digest), ("stamps", pyarrow.int64())]
    fields += [("question", mark), ("answer", mark), ("code", mark), ("aliases", pyarrow.list_(digest))]
    fields += [("tokens", pyarrow.int64()), ("step", pyarrow.string()), ("reason", pyarrow.string())]
    return pyarrow.schema(fields)


def read_index(objects: Objects, digests: Iterable[str], columns: Sequence[str]) -> Iterator["pyarrow.Table"]:
    """Some columns of the objects of an index, one after the other. Raises CorruptObject."""
    for digest in digests:
        yield _opened(objects, digest).read(columns=list(columns), use_threads=False)


def read_shard_index(objects: Objects, digest: str) -> "tuple[str, pyarrow.Table] | None":
    """The file that an object of an index is of, and its lines; None where it is not of one file. Raises CorruptObject."""
    found = _opened(objects, digest)
    shard = (found.schema_arrow.metadata or {}).get(_SHARD, b"").decode()
    return (shard, found.read(use_threads=False)) if shard else None


def _opened(objects: Objects, digest: str) -> "pyarrow.parquet.ParquetFile":
    """An object of an index. Not by ``read_table``, which loads pandas: a second, for nothing."""
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(io.BytesIO(objects.get(digest)), pre_buffer=False)
