"""Append to one chain of the log: group commit, sealing, and what to do with a torn tail."""

import contextlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from stillhouse.errors import CorruptLog
from stillhouse.vault.durability import Durability
from stillhouse.vault.entries import GENESIS, LARGEST_PAYLOAD, SegmentHeader, frame, read_frames, read_header
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.locks import Lock
from stillhouse.vault.objects import Objects

# What a power cut may cost at most; a disk's flush takes 1 to 10 ms, so this keeps it mostly idle.
COMMIT_SECONDS = 0.05
# Whoever opens the log reads its open segments, and whoever wants one answer unpacks the segment that has it: some hundredths of
# a second, and little memory. Larger ones compress hardly better.
SEGMENT_BYTES = 16 << 20
# Opening checks them entry by entry: a tenth of a second for so many.
SEGMENT_ENTRIES = 16_384


class Position(NamedTuple):
    """Where an entry stands: its writer and its number there, from 0. Orders and identifies it for good."""

    writer: str
    number: int


class Torn(msgspec.Struct, frozen=True):
    """A torn tail that was cut, and where its bytes were put."""

    writer: str
    entry: int
    bytes: int
    kept_in: str


class Checked(NamedTuple):
    """Up to where a segment was read and checked: which one, so many bytes, so many entries of the chain, and its value there."""

    segment: str
    offset: int
    number: int
    chain: bytes


class _End(NamedTuple):
    """Where a chain ends: bytes in the segment, entries, chain value. Replaced in one step, so never half true."""

    size: int
    entries: int
    chain: bytes


class Writer:
    """Appends to one chain. Safe to use from several threads; close it, or use it as a context manager.

    An exception can come at any moment (Ctrl-C is one). Whatever it leaves in the file beyond the known end is looked at
    before the next append: whole frames are adopted, the rest is cut. Sealing runs in the committer's thread, which no
    signal reaches.
    """

    def __init__(
        self,
        folder: Path,
        objects: Objects,
        durability: Durability,
        lock: Lock,
        segment_bytes: int,
        checked: Checked | None = None,
    ) -> None:
        """``checked`` says up to where this process has read and checked the segment already."""
        self.name = folder.name
        self.durability = durability
        self.torn: Torn | None = None
        self._folder, self._objects, self._lock = folder, objects, lock
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._commit = threading.Condition(self._mutex)
        self._written = self._synced = 0
        self._failure: Exception | None = None
        self._seal_failed = self._closing = False
        self._first = 0
        self._path, self._file, self._end = self._open(checked)
        self._committer = threading.Thread(target=self._commit_loop, name=f"commit-{self.name}", daemon=True)
        self._committer.start()

    def append(self, payload: bytes) -> Position:
        """Append one entry; returns when it is as safe as ``durability`` says. Raises StorageError, nothing written."""
        return self.append_many([payload])[0]

    def append_many(self, payloads: list[bytes]) -> list[Position]:
        """Append several entries with one write; they stand together, in order, all of them or a torn tail."""
        if max(map(len, payloads), default=0) > LARGEST_PAYLOAD:
            raise ValueError("an entry of the log may not be larger than 256 MiB")
        with self._mutex:
            self._raise_failure()
            self._reconcile()
            size, first, chain = self._end
            pieces = []
            for payload in payloads:
                piece, chain = frame(payload, chain)
                pieces.append(piece)
            data = b"".join(pieces)
            self._write(data)
            # Only now does the append count; an exception before this line leaves bytes that ``_reconcile`` deals with.
            self._end = _End(size + len(data), first + len(payloads), chain)
            self._written += 1
            ticket = self._written
            self._commit.notify_all()
            while self.durability is Durability.POWER and self._synced < ticket:
                self._raise_failure()
                self._commit.wait()
            # A full segment takes no more entries: appends wait, or the segment would grow without end.
            while self._due_to_seal() and not self._failure:
                self._commit.wait()
        return [Position(self.name, first + place) for place in range(len(payloads))]

    def close(self) -> None:
        """Make everything durable and let another process have this chain. Raises StorageError where that failed."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
            self._commit.notify_all()
        self._committer.join()
        try:
            with self._mutex:
                self._raise_failure()
                self._fsync()
        finally:
            os.close(self._file)
            self._lock.release()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        """Hand bytes to the operating system; a write that fails half-way is taken back."""
        view = memoryview(data)
        try:
            with storage_errors(f"the log ({self._folder}) could not be written"):
                while view:
                    view = view[os.write(self._file, view) :]
        except BaseException:
            os.ftruncate(self._file, self._end.size)
            raise

    def _reconcile(self) -> None:
        """Take up what an interrupted append left behind."""
        size = os.fstat(self._file).st_size
        if size == self._end.size:
            return
        left = os.pread(self._file, size - self._end.size, self._end.size)
        at, count, chain = self._end
        for found in read_frames(left, chain, str(self._path)):
            at, count, chain = self._end.size + found.end, count + 1, found.chain
        os.ftruncate(self._file, at)
        self._end = _End(at, count, chain)
        self._written += 1

    # In the committer's thread.

    def _commit_loop(self) -> None:
        """One fsync for all the appends of the last moments, for as long as there are any; then seal what is full."""
        while True:
            with self._mutex:
                while self._synced == self._written and not self._closing and not self._due_to_seal():
                    self._commit.wait()
                if self._closing:
                    return
                if self._due_to_seal():
                    self._try_to_seal()
                    self._commit.notify_all()
                    continue
                target = self._written
            # Outside the lock: appends go on while the disk works, and share the next fsync.
            try:
                descriptor = os.dup(self._file)  # a seal may replace the file, but only this thread seals
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except Exception as failure:
                self._failure = failure
            with self._mutex:
                self._commit.notify_all()
                if self._failure:
                    return
                self._synced = max(self._synced, target)
                if self.durability is Durability.KILL:
                    self._commit.wait_for(lambda: self._closing or self._due_to_seal(), timeout=COMMIT_SECONDS)

    def _due_to_seal(self) -> bool:
        is_full = self._end.size >= self._segment_bytes or self._end.entries - self._first >= SEGMENT_ENTRIES
        return is_full and not self._seal_failed

    def _try_to_seal(self) -> None:
        """A seal that fails costs nothing but room: the segment grows on, and the next process seals it."""
        try:
            self._seal()
        except Exception:
            self._seal_failed = True

    def _seal(self) -> None:
        """Compress the full segment into an object, then start the next, whose header names it."""
        self._fsync()
        pack = self._objects.put(zstandard.ZstdCompressor(level=3).compress(self._path.read_bytes()))
        old, old_path = self._file, self._path
        header = SegmentHeader(self.name, self._end.entries, self._end.chain.hex(), pack)
        # The next segment is durable before the old one goes: a kill in between leaves both, and `_open` removes the old.
        self._path, self._file, self._end = self._start_segment(header)
        os.close(old)
        os.unlink(old_path)

    def _raise_failure(self) -> None:
        """After a failed fsync nobody knows what the disk holds (the kernel drops the pages): refuse from then on."""
        if self._failure:
            with storage_errors(f"the log ({self._folder}) could not be made durable"):
                raise self._failure

    def _fsync(self) -> None:
        with storage_errors(f"the log ({self._folder}) could not be made durable"):
            os.fsync(self._file)
        self._synced = self._written

    # Opening.

    def _open(self, checked: Checked | None) -> tuple[Path, int, _End]:
        names = segments(self._folder)
        if not names:
            return self._start_segment(SegmentHeader(self.name, 0, GENESIS.hex(), ""))
        path = self._folder / names[-1]
        rest = _rest(path, checked) if checked is not None and names == [checked.segment] else None
        if checked is not None and rest is not None:
            begin, data, self._first = checked, rest, int(path.stem)
        else:
            with storage_errors(f"{path} could not be opened"):
                data = path.read_bytes()
            header, first = read_header(data, str(path))
            begin = Checked(names[-1], first.end, header.first, bytes.fromhex(header.previous_chain))
            self._first, data = header.first, data[first.end :]
            for name in names[:-1]:
                self._remove_sealed(self._folder / name, header)
        end = _End(begin.offset, begin.number, begin.chain)
        for found in read_frames(data, begin.chain, str(path)):
            end = _End(begin.offset + found.end, end.entries + 1, found.chain)
        with storage_errors(f"{path} could not be opened"):
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        if end.size < begin.offset + len(data):
            self._cut(file, data[end.size - begin.offset :], end)
        return path, file, end

    def _remove_sealed(self, path: Path, header: SegmentHeader) -> None:
        """Remove what a kill left between making a segment and removing the one before: but only if that is what it is."""
        _, end = _read_segment(path.read_bytes(), path)
        if (end.entries, end.chain.hex()) != (header.first, header.previous_chain) or not header.previous_pack:
            raise CorruptLog(f"{path} is not the segment before {header.first:012d}.")
        os.unlink(path)

    def _cut(self, file: int, tail: bytes, end: _End) -> None:
        # Kept, not thrown away: somebody may want to see what a crash cut off.
        kept = self._folder / "torn" / f"{end.entries:012d}"
        write_whole(kept, tail)
        with storage_errors(f"{self._folder} could not be repaired"):
            os.ftruncate(file, end.size)
            os.fsync(file)
        self.torn = Torn(writer=self.name, entry=end.entries, bytes=len(tail), kept_in=str(kept))

    def _start_segment(self, header: SegmentHeader) -> tuple[Path, int, _End]:
        """A new segment, durable and open; where that fails, there is none."""
        data, _ = frame(msgspec.json.encode(header), GENESIS)
        self._first = header.first
        path = self._folder / f"{header.first:012d}.segment"
        try:
            write_whole(path, data)
            with storage_errors(f"{path} could not be opened"):
                path.chmod(0o644)
                file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return path, file, _End(len(data), header.first, bytes.fromhex(header.previous_chain))


def _rest(path: Path, checked: Checked) -> bytes | None:
    """What comes after what was checked; None where something else stands there by now: an append that failed is taken back."""
    with storage_errors(f"{path} could not be opened"), path.open("rb") as opened:
        opened.seek(checked.offset - len(checked.chain))
        return opened.read() if opened.read(len(checked.chain)) == checked.chain else None


def _read_segment(data: bytes, path: Path) -> tuple[SegmentHeader, _End]:
    """A segment's header, and where its whole entries end."""
    header, first = read_header(data, str(path))
    size, count, chain = first.end, header.first, bytes.fromhex(header.previous_chain)
    for found in read_frames(data[first.end :], chain, str(path)):
        size, count, chain = first.end + found.end, count + 1, found.chain
    return header, _End(size, count, chain)


def segments(folder: Path) -> list[str]:
    """The segment files of a writer's folder, oldest first; the last is the one that counts."""
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".segment"))
