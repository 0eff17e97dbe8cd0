"""The prompts of a run in the vault: in pieces, so that a file to which prompts were added costs what was added.

Pieces end where lines do, by what stands there: equal parts of two files are cut alike. Each is compressed. Runs of earlier
versions have one object with the whole file.
"""

import zlib
from collections.abc import Iterator, Mapping

import zstandard

from stillhouse.errors import CorruptObject
from stillhouse.vault.objects import Objects

_WHOLE, _PIECE = "prompts", "prompts/"
# Bytes of a piece, about; and of the largest one.
_USUAL, _LARGEST = 512 << 10, 4 << 20
# By so many of a line's last bytes it is decided whether a piece ends there.
_ENDING = 64


def is_prompts(name: str) -> bool:
    """Is an input of a run of this name its prompts, or a piece of them?"""
    return name == _WHOLE or name.startswith(_PIECE)


def store_prompts(objects: Objects, data: bytes) -> dict[str, str]:
    """Store a file of prompts; its pieces as inputs of a run, by name. Raises StorageError."""
    compressor = zstandard.ZstdCompressor()
    pieces = _pieces(data)
    return {f"{_PIECE}{number:06}": objects.put(compressor.compress(piece)) for number, piece in enumerate(pieces)}


def stored_prompts(objects: Objects, inputs: Mapping[str, str]) -> bytes | None:
    """The file of prompts among a run's inputs; None where it had none. Raises CorruptObject."""
    if _WHOLE in inputs:
        return objects.get(inputs[_WHOLE])
    names = sorted(name for name in inputs if name.startswith(_PIECE))
    return b"".join(_piece(objects, inputs[name]) for name in names) if names else None


def _piece(objects: Objects, digest: str) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(objects.get(digest), max_output_size=_LARGEST)
    except zstandard.ZstdError as failure:
        raise CorruptObject(f"{digest} is no piece of a file of prompts: {failure}.") from failure


def _pieces(data: bytes) -> Iterator[bytes]:
    start = line = 0
    while line < len(data):
        end = data.find(b"\n", line) + 1 or len(data)
        while end - start > _LARGEST:
            yield data[start : start + _LARGEST]
            start += _LARGEST
        # As likely as a line is long, so that a piece has the same size whatever its lines have.
        if zlib.crc32(data[max(line, end - _ENDING) : end]) % _USUAL < end - line and end > start:
            yield data[start:end]
            start = end
        line = end
    if start < len(data) or not data:
        yield data[start:]
