"""The content digest of a dataset: equal for equal rows in any order, made in one pass and in bounded memory.

A tree over the rows' own digests: they are sorted, those with the same first byte make a leaf, and the leaves make the root. An
earlier scheme sorted the rows themselves by their ``repr``: versions of then keep its digests, which begin with ``blake3:``.
"""

import bisect
import tempfile
from collections.abc import Iterator
from typing import IO

from blake3 import blake3

SCHEME = "blake3-tree"
_BYTES = 32
# 4 MiB in memory; what is more is sorted and put aside.
_AT_ONCE = 1 << 17
_LEAVES = 256
# Loading numpy takes as long as sorting so many without it.
_FEW = 100_000


class ContentTree:
    """Takes the digests of rows; says what stands for all of them."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._runs: IO[bytes] | None = None
        self._starts: list[tuple[int, list[int]]] = []  # of each run: where it begins, and where each leaf does in it
        self._rows = 0

    def add(self, digest: bytes) -> None:
        """One row's digest, of 32 bytes."""
        self._held += digest
        self._rows += 1
        if len(self._held) >= _AT_ONCE * _BYTES:
            self._put_aside()

    def root(self) -> str:
        """The digest of all rows that were added; nothing can be added any more."""
        if self._runs is not None:
            self._put_aside()
        whole = _sorted(bytes(self._held))
        ends = _ends(whole)
        hasher = blake3()
        for number in range(_LEAVES):
            parts = b"".join(self._parts(number)) if self._runs is not None else whole[ends[number] : ends[number + 1]]
            hasher.update(blake3(_sorted(parts)).digest())
        hasher.update(self._rows.to_bytes(8, "big"))
        if self._runs is not None:
            self._runs.close()
        return f"{SCHEME}:{hasher.hexdigest()}"

    def _parts(self, number: int) -> Iterator[bytes]:
        """Of each run the digests of a leaf."""
        for start, ends in self._starts:
            assert self._runs is not None
            self._runs.seek(start + ends[number])
            yield self._runs.read(ends[number + 1] - ends[number])

    def _put_aside(self) -> None:
        """Sort what is held into a temporary file that has no name."""
        if self._runs is None:
            self._runs = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the root
        data = _sorted(bytes(self._held))
        self._starts.append((self._runs.seek(0, 2), _ends(data)))
        self._runs.write(data)
        self._held = bytearray()


def _ends(digests: bytes) -> list[int]:
    """Where each leaf begins in sorted digests, and where the last one ends."""
    firsts = digests[::_BYTES]
    return [bisect.bisect_left(firsts, number) * _BYTES for number in range(_LEAVES + 1)]


def _sorted(digests: bytes) -> bytes:
    """Digests of 32 bytes each, in order."""
    if len(digests) <= _FEW * _BYTES:
        return b"".join(sorted(digests[at : at + _BYTES] for at in range(0, len(digests), _BYTES)))
    import numpy

    return numpy.sort(numpy.frombuffer(digests, dtype=f"S{_BYTES}")).tobytes()
