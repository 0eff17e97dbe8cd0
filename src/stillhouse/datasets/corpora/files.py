"""Rows out of files: JSONL (plain, .gz, .zst), JSON, Parquet, Arrow, and folders of them as Hugging Face, curator and distilabel
leave them. One row is in memory at a time, but for a JSON file, which is read whole.
"""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from stillhouse.errors import PromptsError

Row = dict[str, Any]
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json", ".parquet", ".arrow")
# A line that is longer is no row of a conversation.
_LONGEST_LINE = 256 << 20
_ROWS_AT_ONCE = 256


def files_of(path: Path) -> list[Path]:
    """The data files of a path, in order. Raises PromptsError where there is none.

    In a folder that Hugging Face's ``save_to_disk`` made, ``state.json`` names them; of curator's run folder only the
    responses count.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PromptsError(f"{path} does not exist.", next_step="Correct the path.")
    states = sorted(path.rglob("state.json"))
    named = [state.parent / Path(entry["filename"]).name for state in states for entry in _data_files(state)]
    if named:
        return named
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(_SUFFIXES))
    responses = [file for file in found if file.name.startswith("responses_")]
    found = responses or [file for file in found if not _is_metadata(file)]
    if not found:
        raise PromptsError(f"{path} holds none of {', '.join(_SUFFIXES)}.", next_step="Name the file itself.")
    return found


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file, in order. Raises PromptsError, naming the line."""
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path)
        elif name.endswith(".arrow"):
            yield from _arrow(path)
        elif name.endswith(".json"):
            yield from _json(path)
        else:
            yield from _lines(path)
    except FileNotFoundError:
        raise PromptsError(f"{path} does not exist.", next_step="Correct the path.") from None
    except (OSError, EOFError, ValueError, zstandard.ZstdError) as failure:
        raise PromptsError(f"{path} cannot be read: {failure}.") from failure


def _lines(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as failure:
                raise PromptsError(f"{path}, line {number}: this is not JSON ({failure}).") from failure
            if not isinstance(row, dict):
                raise PromptsError(f"{path}, line {number}: a row is a JSON object.")
            yield row


def _opened(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return io.BufferedReader(gzip.open(path, "rb"))  # type: ignore[type-var, arg-type, return-value, unused-ignore]
    if path.name.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")


def _json(path: Path) -> Iterator[Row]:
    value = json.loads(path.read_text(encoding="utf-8-sig"))
    rows = value if isinstance(value, list) else next((v for v in value.values() if isinstance(v, list)), [value])
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise PromptsError(f"{path}, item {number}: a row is a JSON object.")
        yield row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _arrow(path: Path) -> Iterator[Row]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = pyarrow.ipc.open_stream(source)
        except pyarrow.ArrowInvalid:
            source.seek(0)
            opened = pyarrow.ipc.open_file(source)
            reader = (opened.get_batch(number) for number in range(opened.num_record_batches))
        for batch in reader:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


def _data_files(state: Path) -> list[dict[str, str]]:
    try:
        return list(json.loads(state.read_text(encoding="utf-8")).get("_data_files", []))
    except (OSError, ValueError, AttributeError):
        return []


def _is_metadata(file: Path) -> bool:
    """Files beside the data that hold none: descriptions, requests, failures, the state of a pipeline."""
    beside = ("dataset_info", "state", "dataset_dict", "batch_manager", "stages", "pipeline", "requests_", "metadata_")
    return file.name.startswith((*beside, "failed_")) or "steps_data" in file.parts
