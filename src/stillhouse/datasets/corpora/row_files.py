"""Rows out of files, whatever they are called: JSON lines, JSON, CSV, Parquet, Arrow, packed by gzip, zstd, bzip2 or xz; and
folders of them as Hugging Face, curator and distilabel leave them. What a file is, its first bytes say.

Covered: a line that cannot be read costs that line, a file that cannot be read that file; each is named with its reason. One
row is in memory at a time, but for a JSON array, which is read whole.
"""

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import json
import lzma
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import zstandard

from stillhouse.conversations.every_format import MESSAGES_ALONE, format_of_lines, may_begin_session
from stillhouse.errors import CorpusUnreadable

Row = dict[str, Any]
# What a tool gave back may have 100 MB; reading such a row takes eight times its length.
_LONGEST_LINE = 128 << 20
# A file's first line may be all of its rows.
_LARGEST_OBJECT = 256 << 20
_ROWS_AT_ONCE = 256
# So much of a file says what it is.
_LOOKED_AT = 8192
_LONGEST_WINDOW = 1 << 31
# A compressed file that cannot be read any further.
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_PACKED: dict[bytes, str] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
# Under these names a file of JSON objects is one object with the rows in a list.
_CONTAINERS = ("data", "rows", "examples", "instances", "records", "items", "samples", "train", "results")
# Of a session so many lines may come before one that says what it is.
_ENTRIES_TO_KNOW = 64
_LARGEST_SESSION = 512 << 20
_SEPARATED = {".csv": ",", ".tsv": "\t"}


class RowLine(NamedTuple):
    """One row of a file by its number, or why there is none; or its JSON as ``text``, which is not parsed yet. Where all lines
    are one ``session`` (the name of its format), its ``entries`` are the row.
    """

    number: int
    row: Row | None
    problem: str = ""
    text: bytes = b""
    session: str = ""
    entries: tuple[Any, ...] = ()

    def parsed(self) -> "RowLine":
        """The same with its row. Pure, and most of the work of reading: whoever has workers leaves it to them."""
        if self.session:
            return self._replace(**_entries(self.text), text=b"") if self.text else self
        return RowLine(self.number, *_parsed(self.text)) if self.text else self


class RowFile(NamedTuple):
    """A file of a corpus; ``left_out`` says why it holds no rows, and is empty where it is read."""

    path: Path
    left_out: str = ""


def files_of(path: Path) -> list[RowFile]:
    """Every file of a path, in order: each is read, or left out for a reason. Raises CorpusUnreadable where there is none."""
    if path.is_file():
        return [RowFile(path)]
    if not path.is_dir():
        raise CorpusUnreadable(f"{path} does not exist.", next_step="Correct the path.")
    found = [
        RowFile(file, _why_not(file, path))
        for file in sorted(path.rglob("*"))
        if file.is_symlink() or not file.is_dir()
    ]
    if all(file.left_out for file in found):
        reasons = "; ".join(f"{file.path.name}: {file.left_out}" for file in found[:5]) or "the folder is empty"
        raise CorpusUnreadable(f"{path} holds no file with rows ({reasons}).", next_step="Name the file itself.")
    return found


def lines_of(path: Path) -> Iterator[RowLine]:
    """The rows of a file, in order, and what in it is none. Raises CorpusUnreadable where it is not there."""
    return map(RowLine.parsed, unparsed_lines_of(path))


def unparsed_lines_of(path: Path) -> Iterator[RowLine]:
    """The same, before JSON lines are parsed but for the first."""
    try:
        with _opened(path) as file:
            yield from _lines_of(path, file)
    except FileNotFoundError:
        raise CorpusUnreadable(f"{path} does not exist.", next_step="Correct the path.") from None
    except _UNREADABLE as failure:
        yield RowLine(0, None, f"the file cannot be read any further ({failure or type(failure).__name__})")


def _lines_of(path: Path, file: IO[bytes]) -> Iterator[RowLine]:
    head = file.peek(_LOOKED_AT) if isinstance(file, io.BufferedReader) else b""
    if head.startswith(b"PAR1"):
        with _seekable(file) as whole:
            yield from _parquet(whole)
    elif head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        with _seekable(file) as whole:
            yield from _arrow(whole)
    elif (separator := _SEPARATED.get(_plain_suffix(path))) is not None and _starts_with(head) not in (b"{", b"["):
        yield from _separated(file, separator)
    elif _starts_with(head) == b"[":
        data = file.read()
        first = data.partition(b"\n")[0]
        rows, problem = _array(data)
        if rows is None and _array(first)[0] is not None:  # JSON lines, of which the first is no object
            yield from _json_lines(io.BytesIO(data), single=False)
        elif rows is None:
            yield RowLine(0, None, problem)
        else:
            yield from _listed(rows)
    else:
        yield from _json_lines(file, single=_plain_suffix(path) == ".json")


@contextlib.contextmanager
def _seekable(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A file in which one can go to the end and back, which a packed one is not: that one is unpacked beside."""
    if isinstance(getattr(file, "raw", None), io.FileIO):
        yield file
        return
    with tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(file, unpacked)
        unpacked.seek(0)
        yield unpacked


def _plain_suffix(path: Path) -> str:
    """The ending of a name without that of its packing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _starts_with(head: bytes) -> bytes:
    return head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def _opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked by what its first bytes say."""
    with path.open("rb") as file:
        head = file.read(8)
    match next((name for magic, name in _PACKED.items() if head.startswith(magic)), ""):
        case "gzip":
            return io.BufferedReader(gzip.open(path, "rb"))  # type: ignore[type-var, arg-type, return-value, unused-ignore]
        case "bzip2":
            return io.BufferedReader(bz2.open(path, "rb"))  # type: ignore[type-var, arg-type, return-value, unused-ignore]
        case "xz":
            return io.BufferedReader(lzma.open(path, "rb"))  # type: ignore[type-var, arg-type, return-value, unused-ignore]
        case "zstd":
            opened = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW)
            return io.BufferedReader(opened.stream_reader(path.open("rb"), read_across_frames=True, closefd=True))
    return path.open("rb")


def _json_lines(file: IO[bytes], *, single: bool) -> Iterator[RowLine]:
    """JSON objects, one a line; or one object over several lines, or (``single``) one that holds the rows in a list."""
    number, first = 0, b""
    for number, line in _numbered(file):
        if line is None:
            yield RowLine(number, None, f"longer than {_LONGEST_LINE >> 20} MB")
            continue
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        if first:
            yield RowLine(number, None, "", text)
            continue
        row, problem = _parsed(text)
        if _starts_with(text) == b"{" and row is None:
            rest = file.read(_LARGEST_OBJECT)  # an object that does not end with its line?
            whole, _ = _parsed(text + rest)
            if whole is not None:
                yield from _rows_in(whole)
                return
            yield RowLine(number, None, problem)
            following = io.BufferedReader(_Joined(rest, file))
            yield from (one._replace(number=one.number + number) for one in _json_lines(following, single=False))
            return
        if single and row is not None and isinstance(file, io.BufferedReader) and not file.peek(1):
            yield from _rows_in(row)
            return
        first = text
        session, begun = ("", b"") if row is None or not may_begin_session(row) else _session(text, file)
        if session:
            rest = file.read(_LARGEST_SESSION)
            if file.read(1):
                yield RowLine(number, None, f"a session of more than {_LARGEST_SESSION >> 20} MB")
            else:
                yield RowLine(number, None, "", begun + rest, session)
            return
        yield RowLine(number, row, problem)
        if begun:
            following = io.BufferedReader(_Joined(begun[len(text) :], file))
            yield from (one._replace(number=one.number + number) for one in _rest_of_lines(following))
            return


def _rest_of_lines(file: IO[bytes]) -> Iterator[RowLine]:
    for number, line in _numbered(file):
        if line is None:
            yield RowLine(number, None, f"longer than {_LONGEST_LINE >> 20} MB")
        elif line.strip():
            yield RowLine(number, None, "", line)


def _session(first: bytes, file: IO[bytes]) -> tuple[str, bytes]:
    """The format of a session that begins with a line, "" where each line is a row; and the lines that were read to know."""
    begun, entries = first, [_parsed(first)[0]]
    format = format_of_lines(entries)
    while format is None and len(entries) < _ENTRIES_TO_KNOW and len(begun) < _LONGEST_LINE:
        line = file.readline(_LONGEST_LINE)
        if not line:
            break
        begun += line
        entries.append(_parsed(line)[0])
        format = format_of_lines(entries[-1:])
    return format.name if format is not None else "", begun


def _entries(text: bytes) -> dict[str, Any]:
    """The entries of a session's lines. A last line that is no JSON was being written when it ended: it costs itself."""
    entries: list[Any] = []
    problem = ""
    lines = [line for line in text.removeprefix(codecs.BOM_UTF8).split(b"\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        row, why = _parsed(line)
        if row is None and number == len(lines) > 1:
            problem = f"the last line of a session is {why}"
        else:
            entries.append(row if row is not None else line.decode("utf-8", "replace"))
    return {"entries": tuple(entries), "problem": problem}


class _Joined(io.RawIOBase):
    """What was read of a file already, then the rest of it."""

    def __init__(self, begun: bytes, file: IO[bytes]) -> None:
        self._begun, self._file = io.BytesIO(begun), file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._begun.read(len(buffer)) or self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _numbered(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is longer than any line of a row, which is passed over."""
    number, most = 0, _LARGEST_OBJECT
    while line := file.readline(most):
        number += 1
        if line.endswith(b"\n") or len(line) < most:
            yield number, line
        else:
            del line
            while (part := file.readline(_LOOKED_AT << 7)) and not part.endswith(b"\n"):
                pass
            yield number, None
        most = _LONGEST_LINE


def _parsed(text: bytes) -> tuple[Row | None, str]:
    """A row, or why it is none."""
    try:
        value = msgspec.json.decode(text)
        if type(value) is dict:
            return value, ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # it is stricter: what the standard library reads is read
    try:
        value = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError):
        return None, "not JSON"
    return (value, "") if isinstance(value, dict) else (None, "not a JSON object")


def _array(data: bytes) -> tuple[list[Any] | None, str]:
    """A JSON array, or why it is none."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except (ValueError, RecursionError) as failure:
        return None, f"not JSON ({failure})" if isinstance(failure, ValueError) else "not JSON"
    return (value, "") if isinstance(value, list) else (None, "not JSON")


def _rows_in(value: Row) -> Iterator[RowLine]:
    """The rows of an object: those of the list that it holds under a usual name, else itself. Other lists of rows are named."""
    lists = {
        name: rows
        for name, rows in value.items()
        if isinstance(rows, list) and any(isinstance(row, dict) for row in rows)
    }
    for name in _CONTAINERS:
        if name in lists:
            yield from _listed(lists[name])
            for other, rows in lists.items():
                said = f"it stands under {other!r}, and read is what stands under {name!r}"
                yield from (RowLine(number, None, said) for number in range(1, len(rows) + 1) if other != name)
            return
    yield RowLine(1, value)


def _listed(rows: list[Any]) -> Iterator[RowLine]:
    if rows and all(isinstance(row, dict) and _is_turn(row) for row in rows):  # the messages of one conversation
        yield RowLine(1, None, session=MESSAGES_ALONE, entries=tuple(rows))
        return
    for number, row in enumerate(rows, start=1):
        yield RowLine(number, row) if isinstance(row, dict) else RowLine(number, None, "not a JSON object")


def _separated(file: IO[bytes], separator: str) -> Iterator[RowLine]:
    """CSV with a heading (RFC 4180)."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST_LINE)
    reader = csv.DictReader(text, delimiter=separator)
    try:
        for row in reader:
            if None in row or None in row.values():
                yield RowLine(reader.line_num, None, "another number of columns than its heading")
            elif _is_utf8("".join(row.values())):
                yield RowLine(reader.line_num, dict(row))
            else:
                yield RowLine(reader.line_num, None, "not UTF-8")
    except csv.Error as failure:
        yield RowLine(reader.line_num + 1, None, f"the file cannot be read any further ({failure})")
    finally:
        text.detach()  # the file is closed by whoever opened it


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numbered_rows(batches: Any) -> Iterator[RowLine]:
    """The rows of some batches of Arrow; a value that Python has no form for costs its row."""
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            part = batch.slice(start, _ROWS_AT_ONCE)
            try:
                rows = part.to_pylist()
            except (OverflowError, ValueError):
                rows = [_alone(part.slice(place, 1)) for place in range(part.num_rows)]
            for row in rows:
                number += 1
                yield (
                    RowLine(number, row)
                    if isinstance(row, dict)
                    else RowLine(number, None, f"a value cannot be read ({row})")
                )


def _alone(part: Any) -> Any:
    try:
        return part.to_pylist()[0]
    except (OverflowError, ValueError) as failure:
        return str(failure) or type(failure).__name__


def _parquet(file: IO[bytes]) -> Iterator[RowLine]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for line in _numbered_rows(pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE)):
            number = line.number
            yield line
    except (pyarrow.ArrowException, OSError, ValueError) as failure:
        yield RowLine(number + 1, None, f"the file cannot be read any further ({failure})")


def _arrow(file: IO[bytes]) -> Iterator[RowLine]:
    import pyarrow

    number = 0
    try:
        with pyarrow.PythonFile(file, mode="r") as source:
            try:
                reader = pyarrow.ipc.open_stream(source)
            except pyarrow.ArrowInvalid:
                source.seek(0)
                opened = pyarrow.ipc.open_file(source)
                reader = (opened.get_batch(place) for place in range(opened.num_record_batches))
            for line in _numbered_rows(reader):
                number = line.number
                yield line
    except (pyarrow.ArrowException, OSError, ValueError) as failure:
        yield RowLine(number + 1, None, f"the file cannot be read any further ({failure})")


def _is_turn(row: Row) -> bool:
    return isinstance(row.get("role"), str) and "content" in row and "messages" not in row


_SAVED = ("state.json", "dataset_info.json", "dataset_dict.json")
_RESPONSES, _REQUESTS, _METADATA = (
    re.compile(rf"{word}_\d+\.jsonl?") for word in ("responses", "requests", "metadata")
)


def _why_not(file: Path, root: Path) -> str:
    """Why a file of a folder holds no rows; empty where it is to be read."""
    if not file.is_file():
        return "a link that leads to no file" if file.is_symlink() else "neither a file nor a folder"
    inside = file.relative_to(root)
    if any(part.startswith(".") for part in inside.parts):
        return "hidden"
    folder = file.parent
    named = _data_files(folder / "state.json")
    if named and file.name in _SAVED:
        return "it describes a saved dataset"
    if named and file.suffix == ".arrow" and file.name not in named:
        return "the saved dataset beside it does not name it (cached, or of an older version)"
    if file.name == "dataset_dict.json" and any(
        (sub / "state.json").exists() for sub in folder.iterdir() if sub.is_dir()
    ):
        return "it describes a saved dataset"
    of_curator = any(_RESPONSES.fullmatch(other.name) for other in folder.iterdir())
    if of_curator and (_REQUESTS.fullmatch(file.name) or _METADATA.fullmatch(file.name)):
        return "curator's requests, whose responses lie beside it"
    if of_curator and file.name == "failed_requests.jsonl":
        return "curator's requests that failed"
    if "steps_data" in inside.parts and any((up / "pipeline.yaml").exists() for up in file.parents):
        return "an intermediate step of a distilabel pipeline"
    return _unknown_format(file)


def _unknown_format(file: Path) -> str:
    """Why a file is of no format that is read here, by its first bytes."""
    try:
        with _opened(file) as opened:
            head = opened.read(_LOOKED_AT)
            while head and not head.strip():
                head = opened.read(_LOOKED_AT)
    except _UNREADABLE as failure:
        return f"it cannot be read ({failure or type(failure).__name__})"
    if not head.strip():
        return "it is empty"
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")) or _starts_with(head) in (b"{", b"["):
        return ""
    return "" if _plain_suffix(file) in _SEPARATED else "of no format that is read (JSON, CSV, Parquet or Arrow)"


def _data_files(state: Path) -> frozenset[str]:
    """The files that ``save_to_disk`` names in a folder."""
    try:
        return frozenset(
            Path(entry["filename"]).name for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return frozenset()
