"""Which chunks are in which packs: a cache beside the vault, never the truth. Losing it costs reading the tables of the packs.

Kept as sorted runs, one per pack at first and merged when there are many, so that a writer's memory does not grow with the vault:
a look-up is a binary search in files that the operating system maps. A chunk that is not found is stored again, which is no harm.
"""

import bisect
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from stillhouse.canon import digest_file, digest_value, raw_digest
from stillhouse.vault.files import storage_errors

# A look-up searches each run; merging is linear, so runs of very different sizes are not merged.
_RUNS_BEFORE_MERGE = 12
# Merging holds two integers per chunk in memory: 64 MB at most.
_LARGEST_RUN = 1 << 22
_ROW = numpy.dtype([("rest", "V24"), ("pack", "<u4"), ("start", "<u4")])
_Array = Any  # numpy's arrays, of the kinds named above


class Found(NamedTuple):
    """Where a chunk is: the 32 bytes of its pack's digest, and where it starts there."""

    pack: bytes
    start: int


class _Run(NamedTuple):
    keys: _Array
    rows: _Array
    packs: tuple[bytes, ...]
    stem: Path
    searched: memoryview  # the keys, as Python's bisect reads them


class ChunkIndex:
    """The chunks of a vault's packs, as far as this machine knows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(f"{folder} could not be used"):
            folder.mkdir(parents=True, exist_ok=True)
        self._loaded: list[_Run] | None = None

    @property
    def _runs(self) -> list[_Run]:
        if self._loaded is None:
            self._loaded = [run for run in map(_load, sorted(self._folder.glob("*.packs"))) if run is not None]
            self._merge(at_least=2)  # a look-up costs each run: many small files would pay for each of them
        return self._loaded

    @property
    def packs(self) -> set[bytes]:
        """The packs whose chunks are known."""
        return {pack for run in self._runs for pack in run.packs}

    def add(self, pack: bytes, chunks: Mapping[bytes, int]) -> None:
        """A pack is stored, and holds these chunks, each from a place on."""
        digests = numpy.frombuffer(b"".join(chunks), dtype=[("key", "<u8"), ("rest", "V24")])
        order = numpy.argsort(digests["key"], kind="stable")
        rows = numpy.zeros(len(chunks), dtype=_ROW)
        rows["rest"] = digests["rest"][order]
        rows["start"] = numpy.array(list(chunks.values()), dtype="<u4")[order]
        self._runs.append(self._save(digests["key"][order], rows, (pack,)))
        self._merge()

    def find(self, digests: list[bytes]) -> list[Found | None]:
        """Where each of some chunks is; None where nobody knows."""
        found: list[Found | None] = [None] * len(digests)
        if not digests or not self._runs:
            return found
        wanted = numpy.frombuffer(b"".join(digests), dtype=[("key", "<u8"), ("rest", "V24")])
        # In order: neighbours are then found in the same lines of the processor's cache.
        order = numpy.argsort(wanted["key"])
        keys = wanted["key"][order]
        for run in self._runs:
            places = numpy.searchsorted(run.keys, keys)
            places[places == len(run.keys)] = 0
            for hit in numpy.flatnonzero(run.keys[places] == keys).tolist():
                row, which = run.rows[int(places[hit])], int(order[hit])
                if row["rest"].tobytes() == digests[which][8:]:
                    found[which] = Found(run.packs[int(row["pack"])], int(row["start"]))
        return found

    def find_one(self, digest: bytes) -> Found | None:
        """Where a chunk is. What numpy spends on a call is more than a search in Python costs."""
        key = int.from_bytes(digest[:8], "little")
        for run in self._runs:
            place = bisect.bisect_left(run.searched, key)
            while place < len(run.searched) and run.searched[place] == key:
                row = run.rows[place]
                if row["rest"].tobytes() == digest[8:]:
                    return Found(run.packs[int(row["pack"])], int(row["start"]))
                place += 1
        return None

    def _save(self, keys: _Array, rows: _Array, packs: tuple[bytes, ...]) -> _Run:
        stem = self._folder / secrets.token_hex(8)
        with storage_errors(f"{self._folder} could not be written"):
            numpy.save(stem.with_suffix(".rows.npy"), rows)
            numpy.save(stem.with_suffix(".keys.npy"), keys)
            # A run exists once its packs have their name. A flipped bit in it would be a wrong place: hence the checksum.
            half = stem.with_suffix(".half")
            half.write_bytes(_checksum(stem) + b"".join(packs))
            os.replace(half, stem.with_suffix(".packs"))
        return _Run(keys, rows, packs, stem, memoryview(keys))

    def _merge(self, at_least: int = _RUNS_BEFORE_MERGE) -> None:
        small = sorted((run for run in self._runs if len(run.keys) < _LARGEST_RUN // 2), key=lambda run: len(run.keys))
        if len(small) < at_least:
            return
        together: list[_Run] = []
        while small and sum(len(run.keys) for run in (*together, small[0])) <= _LARGEST_RUN:
            together.append(small.pop(0))
        keys = numpy.concatenate([run.keys for run in together])
        order = numpy.argsort(keys, kind="stable")
        packs: list[bytes] = []
        rows = []
        for run in together:
            part = numpy.array(run.rows)
            part["pack"] += len(packs)
            packs += run.packs
            rows.append(part)
        merged = self._save(keys[order], numpy.concatenate(rows)[order], tuple(packs))
        del keys, order, rows
        reopened = _load(merged.stem.with_suffix(".packs"))
        ids = set(map(id, together))  # arrays have no equality that says one thing
        self._loaded = [run for run in self._runs if id(run) not in ids] + [reopened or merged]
        for run in together:
            _remove(run)


def _load(named: Path) -> _Run | None:
    """A run from its files; None where they are not whole, or just went away."""
    stem = named.with_suffix("")
    try:
        head = named.read_bytes()
        if head[:32] != _checksum(stem):
            return None
        keys = numpy.load(stem.with_suffix(".keys.npy"), mmap_mode="r")
        rows = numpy.load(stem.with_suffix(".rows.npy"), mmap_mode="r")
    except (OSError, ValueError):
        return None
    packs = tuple(head[start : start + 32] for start in range(32, len(head), 32))
    return _Run(keys, rows, packs, stem, memoryview(keys)) if rows.dtype == _ROW else None


def _checksum(stem: Path) -> bytes:
    digests = [digest_file(stem.with_suffix(suffix)) for suffix in (".keys.npy", ".rows.npy")]
    return raw_digest(digest_value(digests))


def _remove(run: _Run) -> None:
    for suffix in (".packs", ".keys.npy", ".rows.npy"):
        with contextlib.suppress(OSError):
            run.stem.with_suffix(suffix).unlink()
