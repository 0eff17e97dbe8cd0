"""The tokens of a training, made once: a file of 32-bit numbers that every process maps into memory, and what stands where.

It lies in the training's folder and goes with it. Whoever starts the training again after a kill finds it; a torn or foreign file
is made again. Rows that can be erased have none: their tokens are their text.
"""

import contextlib
import mmap
from array import array
from collections.abc import Iterable
from pathlib import Path

import msgspec
from blake3 import blake3

from stillhouse.students.documents import Document, Language, LeftOutRecords, Record, in_order, tokenise
from stillhouse.vault.files import make_folder, storage_errors, write_whole

_TOKENS, _INDEX = "tokens.bin", "tokens.json"
_ITEM = 4


class TokenIndex(msgspec.Struct, frozen=True):
    """What the file holds, record after record: task and sample, key, stamp set, how many tokens, and where the answer begins."""

    training: str
    digest: str
    places: list[tuple[str, int]]
    keys: list[str]
    stamps: list[int]
    lengths: list[int]
    answers: list[int]
    left_out: list[LeftOutRecords]


def write_tokens(folder: Path, training: str, records: Iterable[Record], language: Language) -> None:
    """Make the tokens of some records, one record in memory at a time. Raises StorageError."""
    index = TokenIndex(training, "", [], [], [], [], [], [])
    hasher = blake3()
    path, new = folder / _TOKENS, folder / f".{_TOKENS}"
    with storage_errors(f"{path} could not be written"):
        make_folder(folder)
        with new.open("wb") as file:
            for record in records:
                made = tokenise(record, language)
                if isinstance(made, LeftOutRecords):
                    index.left_out.append(made)
                    continue
                data = array("I", made.tokens).tobytes()
                hasher.update(data)
                file.write(data)
                index.places.append(made.place)
                index.keys.append(made.key)
                index.stamps.append(made.stamps)
                index.lengths.append(len(made.tokens))
                index.answers.append(made.answer)
        new.replace(path)
    write_whole(folder / _INDEX, msgspec.json.encode(msgspec.structs.replace(index, digest=hasher.hexdigest())))


def read_tokens(folder: Path, training: str) -> tuple[list[Document], list[LeftOutRecords]] | None:
    """The documents of a training in order, their tokens mapped into memory; None where they are not there whole."""
    try:
        index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=TokenIndex)
        tokens = _mapped(folder / _TOKENS)
    except (OSError, ValueError, TypeError, msgspec.MsgspecError):
        return None
    whole = len(tokens) == sum(index.lengths) and index.training == training
    if not whole or blake3(tokens.cast("B")).hexdigest() != index.digest:
        return None
    found, start = [], 0
    columns = (index.places, index.keys, index.stamps, index.lengths, index.answers)
    for place, key, stamps, length, answer in zip(*columns, strict=True):
        found.append(Document(key, tokens[start : start + length], answer, stamps, place))
        start += length
    return in_order(found), index.left_out


def discard_tokens(folder: Path) -> None:
    """Remove the tokens of a training that is not carried out. Raises StorageError."""
    with storage_errors(f"{folder} could not be tidied up"):
        for name in (_INDEX, _TOKENS):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # checkpoints lie there
            folder.rmdir()


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"").cast("I")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("I")
