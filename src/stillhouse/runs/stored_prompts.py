"""The prompts of a run in the vault: in pieces, so that a file to which prompts were added costs what was added.

Pieces end where lines do, by what stands there: equal parts of two files are cut alike. Each is compressed. Runs of earlier
versions have one object with the whole file.
"""

import zlib
from collections.abc import Iterator, Mapping

import zstandard

from stillhouse.errors import CorruptObject
from stillhouse.vault.chunks import cut_lines
from stillhouse.vault.objects import Objects

_WHOLE, _PIECE = "prompts", "prompts/"
# Some hundred lines' ends are looked at for one that is taken, so a piece has half a megabyte, and never more than this.
_ONE_IN, _LARGEST = 256, 4 << 20
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
    start = last = 0
    for end in cut_lines(memoryview(data), True):
        if end - start > _LARGEST:  # the chunk before it ends a piece; no chunk is larger than this
            yield data[start:last]
            start = last
        last = end
        if zlib.crc32(data[max(start, end - _ENDING) : end]) % _ONE_IN == 0:
            yield data[start:end]
            start = end
    if start < len(data) or not data:
        yield data[start:]
