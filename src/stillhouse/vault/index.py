"""Which chunks are in which packs: a cache beside the vault, never the truth. Losing it costs reading the tables of the packs.

Kept as sorted runs, one per pack at first and merged when there are many, so that a writer's memory does not grow with the vault:
a look-up is a binary search in files that the operating system maps. A chunk that is not found is stored again, which is no harm.
"""

import bisect
import contextlib
import mmap
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from stillhouse.canon import digest_file, digest_value, raw_digest
from stillhouse.vault.files import storage_errors

# A look-up searches each run; merging is linear, so runs of very different sizes are not merged.
_RUNS_BEFORE_MERGE = 12
# Of 10 GiB of records: a look-up searches one run per so much, and a merge writes as much again.
_LARGEST_RUN = 1 << 22
# Merging holds so many chunks in memory, of 40 bytes each.
_MERGED_AT_ONCE = 1 << 17
_ROW = numpy.dtype([("rest", "V24"), ("pack", "<u4"), ("start", "<u4")])
_Array = Any  # numpy's arrays, of the kinds named above


class ChunkPlace(NamedTuple):
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

    def find(self, digests: list[bytes]) -> list[ChunkPlace | None]:
        """Where each of some chunks is; None where nobody knows."""
        found: list[ChunkPlace | None] = [None] * len(digests)
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
                    found[which] = ChunkPlace(run.packs[int(row["pack"])], int(row["start"]))
        return found

    def find_one(self, digest: bytes) -> ChunkPlace | None:
        """Where a chunk is. What numpy spends on a call is more than a search in Python costs."""
        key = int.from_bytes(digest[:8], "little")
        for run in self._runs:
            place = bisect.bisect_left(run.searched, key)
            while place < len(run.searched) and run.searched[place] == key:
                row = run.rows[place]
                if row["rest"].tobytes() == digest[8:]:
                    return ChunkPlace(run.packs[int(row["pack"])], int(row["start"]))
                place += 1
        return None

    def _save(self, keys: _Array, rows: _Array, packs: tuple[bytes, ...]) -> _Run:
        stem = self._folder / secrets.token_hex(8)
        with storage_errors(f"{self._folder} could not be written"):
            numpy.save(_rows(stem), rows)
            numpy.save(_keys(stem), keys)
            self._name(stem, packs)
        return _Run(keys, rows, packs, stem, memoryview(keys))

    def _name(self, stem: Path, packs: Sequence[bytes]) -> None:
        """A run exists once its packs have their name. A flipped bit in it would be a wrong place: hence the checksum."""
        half = stem.with_suffix(".half")
        half.write_bytes(_checksum(stem) + b"".join(packs))
        os.replace(half, stem.with_suffix(".packs"))

    def _merge(self, at_least: int = _RUNS_BEFORE_MERGE) -> None:
        small = sorted((run for run in self._runs if len(run.keys) < _LARGEST_RUN // 2), key=lambda run: len(run.keys))
        if len(small) < at_least:
            return
        together: list[_Run] = []
        while small and sum(len(run.keys) for run in (*together, small[0])) <= _LARGEST_RUN:
            together.append(small.pop(0))
        stem = self._folder / secrets.token_hex(8)
        with storage_errors(f"{self._folder} could not be written"):
            _write_merged(together, stem)
            self._name(stem, [pack for run in together for pack in run.packs])
        merged = _load(stem.with_suffix(".packs"))
        if merged is None:
            return  # somebody else put it together with more, and removed it; what it was made of is still there
        ids = set(map(id, together))  # arrays have no equality that says one thing
        self._loaded = [run for run in self._runs if id(run) not in ids] + [merged]
        for run in together:
            _remove(run)


def _write_merged(runs: Sequence[_Run], stem: Path) -> None:
    """Write the chunks of some runs as one: a range of keys at a time, which all are about as full, since keys are digests."""
    total = sum(len(run.keys) for run in runs)
    parts = -(-total // _MERGED_AT_ONCE)
    edges = [(number << 64) // parts for number in range(1, parts)]
    cuts = [[0, *(bisect.bisect_left(run.searched, edge) for edge in edges), len(run.keys)] for run in runs]
    with _keys(stem).open("wb") as keys_file, _rows(stem).open("wb") as rows_file:
        for file, kind in ((keys_file, numpy.dtype("<u8")), (rows_file, _ROW)):
            header = {"descr": numpy.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (total,)}
            numpy.lib.format.write_array_header_1_0(file, header)
        for number in range(parts):
            keys, rows, before = [], [], 0
            for run, places in zip(runs, cuts, strict=True):
                start, stop = places[number], places[number + 1]
                keys.append(numpy.array(run.keys[start:stop]))
                rows.append(numpy.array(run.rows[start:stop]))
                rows[-1]["pack"] += before
                before += len(run.packs)
            together = numpy.concatenate(keys)
            order = numpy.argsort(together, kind="stable")
            keys_file.write(together[order].tobytes())
            rows_file.write(numpy.concatenate(rows)[order].tobytes())
            for run in runs:
                _let_go(run.keys)
                _let_go(run.rows)


def _let_go(array: _Array) -> None:
    """Of what is mapped, pages that were touched stay in memory until somebody says that they need not."""
    if isinstance(array, numpy.memmap) and isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def _keys(stem: Path) -> Path:
    return stem.with_suffix(".keys.npy")


def _rows(stem: Path) -> Path:
    return stem.with_suffix(".rows.npy")


def _load(named: Path) -> _Run | None:
    """A run from its files; None where they are not whole, or just went away."""
    stem = named.with_suffix("")
    try:
        head = named.read_bytes()
        if head[:32] != _checksum(stem):
            return None
        keys = numpy.load(_keys(stem), mmap_mode="r")
        rows = numpy.load(_rows(stem), mmap_mode="r")
    except (OSError, ValueError):
        return None
    packs = tuple(head[start : start + 32] for start in range(32, len(head), 32))
    return _Run(keys, rows, packs, stem, memoryview(keys)) if rows.dtype == _ROW else None


def _checksum(stem: Path) -> bytes:
    return raw_digest(digest_value([digest_file(_keys(stem)), digest_file(_rows(stem))]))


def _remove(run: _Run) -> None:
    for suffix in (".packs", ".keys.npy", ".rows.npy"):
        with contextlib.suppress(OSError):
            run.stem.with_suffix(suffix).unlink()
