"""The log: the one place where anything is written first.

Each process appends to a chain of its own (a *writer*: a folder under ``log/``, held by a file lock), so that no append
waits for another process. Readers see all writers. Durability is by group commit: an append is handed to the operating
system at once (safe against a kill), and one fsync covers everything of the last 50 ms; ``power`` waits for that fsync.
Full segments are compressed into packs among the objects.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from stillhouse.errors import CorruptLog
from stillhouse.vault.entries import GENESIS, LARGEST_PAYLOAD, Frame, SegmentHeader, frame, read_frames, read_header
from stillhouse.vault.files import storage_errors, sync_folder, write_whole
from stillhouse.vault.objects import Objects

# What a power cut may cost at most; a disk's flush takes 1 to 10 ms, so this keeps it mostly idle.
COMMIT_SECONDS = 0.05
# Small enough to recover and to seal in about a second, large enough to compress well.
SEGMENT_BYTES = 64 << 20


class Durability(StrEnum):
    """What an append survives when it returns."""

    KILL = "kill"
    POWER = "power"


class Position(NamedTuple):
    """Where an entry stands: its writer and its number there, from 0. Orders and identifies it for good."""

    writer: str
    number: int


class Entry(NamedTuple):
    """One entry as read."""

    position: Position
    payload: bytes
    chain: bytes


class Head(msgspec.Struct, frozen=True):
    """The end of one writer's chain: how many entries, and the chain value that stands for all of them."""

    writer: str
    count: int
    chain: str


class Torn(msgspec.Struct, frozen=True):
    """A torn tail that was cut, and where its bytes were put."""

    writer: str
    entry: int
    bytes: int
    kept_in: str


class _Mark(NamedTuple):
    """Where a reader stopped: it goes on there without reading the segment from its start again."""

    segment: str
    offset: int
    number: int
    chain: bytes


class Log:
    """A log folder; open one writer per process with ``writer()``."""

    def __init__(self, root: Path, objects: Objects, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.root = root
        self._marks: dict[str, _Mark] = {}
        self._objects = objects
        self._segment_bytes = segment_bytes

    def writer(self, durability: Durability = Durability.KILL) -> "Writer":
        """A writer of this process's own: the first that nobody holds, else a new one."""
        for number in range(10_000):
            folder = self.root / f"w{number:04d}"
            with storage_errors(f"{folder} could not be opened"):
                folder.mkdir(parents=True, exist_ok=True)
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            try:
                return Writer(folder, self._objects, durability, lock, self._segment_bytes)
            except BaseException:
                os.close(lock)
                raise
        raise CorruptLog(f"{self.root} has more than 10,000 writers.")

    def writers(self) -> list[str]:
        """The names of all writers, in order."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())

    def read(self, writer: str, start: int = 0) -> Iterator[Entry]:
        """A writer's entries from number ``start`` on, each checked. Raises CorruptLog, CorruptObject."""
        active = self._active(writer)
        if active is None:
            return
        header, _, data = active
        for pack in reversed(self._packs(header, start)):
            packed = zstandard.ZstdDecompressor().decompress(self._objects.get(pack), max_output_size=1 << 31)
            yield from _entries(packed, f"pack {pack}", start)
        yield from _entries(data, str(self.root / writer), start)

    def follow(self, writer: str, start: int) -> Iterator[Entry]:
        """Like ``read``, but going on where the last ``follow`` of this writer stopped costs only what is new."""
        mark = self._marks.get(writer)
        if mark is None or mark.number != start or _segments(self.root / writer)[-1:] != [mark.segment]:
            name = (_segments(self.root / writer) or [""])[-1]
            last = None
            for last in self.read(writer, start):
                yield last
            if last is not None and _segments(self.root / writer)[-1:] == [name]:
                self._mark(writer, name, last)
            return
        path = self.root / writer / mark.segment
        with storage_errors(f"{path} could not be read"), path.open("rb") as file:
            file.seek(mark.offset)
            data = file.read()
        for found in read_frames(data, mark.chain, str(self.root / writer / mark.segment)):
            yield Entry(Position(writer, start), found.payload, found.chain)
            start += 1
            self._marks[writer] = _Mark(mark.segment, mark.offset + found.end, start, found.chain)

    def _mark(self, writer: str, name: str, last: Entry) -> None:
        data = (self.root / writer / name).read_bytes()
        header, first = read_header(data, name)
        end, number, chain = first.end, header.first, bytes.fromhex(header.previous_chain)
        for found in read_frames(data[first.end :], chain, name):
            if number > last.position.number:
                break
            end, number, chain = first.end + found.end, number + 1, found.chain
        if number == last.position.number + 1:
            self._marks[writer] = _Mark(name, end, number, chain)

    def heads(self) -> list[Head]:
        """The end of every chain, without checking what lies before the active segments."""
        found = []
        for writer in self.writers():
            active = self._active(writer)
            if active is None:
                continue
            header, _, data = active
            count, chain = header.first, bytes.fromhex(header.previous_chain)
            for entry in _entries(data, str(self.root / writer), 0):
                count, chain = entry.position.number + 1, entry.chain
            found.append(Head(writer=writer, count=count, chain=chain.hex()))
        return found

    def _active(self, writer: str) -> tuple[SegmentHeader, Frame, bytes] | None:
        """The segment that a writer appends to; None where it has written nothing yet."""
        for _ in range(3):  # a seal may replace the file between the listing and the read
            names = _segments(self.root / writer)
            if not names:
                return None
            try:
                with storage_errors(f"{self.root / writer} could not be read"):
                    data = (self.root / writer / names[-1]).read_bytes()
            except FileNotFoundError:
                continue
            return *read_header(data, str(self.root / writer / names[-1])), data
        return None

    def _packs(self, header: SegmentHeader, start: int) -> list[str]:
        """Digests of the packs that hold entries from ``start`` on, newest first."""
        packs = []
        while header.previous_pack and header.first > start:
            packs.append(header.previous_pack)
            packed = zstandard.ZstdDecompressor().decompress(
                self._objects.get(header.previous_pack), max_output_size=1 << 31
            )
            header, _ = read_header(packed, f"pack {header.previous_pack}")
        return packs


class Writer:
    """Appends to one chain. Safe to use from several threads; close it, or use it as a context manager."""

    def __init__(self, folder: Path, objects: Objects, durability: Durability, lock: int, segment_bytes: int) -> None:
        self.name = folder.name
        self.durability = durability
        self.torn: Torn | None = None
        self._folder, self._objects, self._lock = folder, objects, lock
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._commit = threading.Condition(self._mutex)
        self._written = self._synced = 0
        self._failure: OSError | None = None
        self._closing = False
        self._file, self._size = -1, 0
        self._count, self._chain = 0, GENESIS
        self._open()
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
            chain, pieces = self._chain, []
            for payload in payloads:
                piece, chain = frame(payload, chain)
                pieces.append(piece)
            self._write(b"".join(pieces))
            first, self._chain, self._count = self._count, chain, self._count + len(payloads)
            self._written += 1
            ticket = self._written
            self._commit.notify_all()
            if self._size >= self._segment_bytes:
                self._seal()
            while self.durability is Durability.POWER and self._synced < ticket:
                self._raise_failure()
                self._commit.wait()
        return [Position(self.name, first + place) for place in range(len(payloads))]

    def sync(self) -> None:
        """Return when everything appended so far survives power loss."""
        with self._mutex:
            self._raise_failure()
            self._fsync()

    def close(self) -> None:
        """Make everything durable and let another process have this chain."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
            self._commit.notify_all()
        self._committer.join()
        with contextlib.suppress(OSError), self._mutex:
            self._fsync()
        os.close(self._file)
        os.close(self._lock)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        """Hand bytes to the operating system; a write that fails half-way is taken back."""
        self._raise_failure()
        view, start = memoryview(data), self._size
        try:
            with storage_errors(f"the log ({self._folder}) could not be written"):
                while view:
                    view = view[os.write(self._file, view) :]
        except BaseException:
            os.ftruncate(self._file, start)
            raise
        self._size = start + len(data)

    def _commit_loop(self) -> None:
        """One fsync for all the appends of the last moments, for as long as there are any."""
        while True:
            with self._mutex:
                while self._synced == self._written and not self._closing:
                    self._commit.wait()
                if self._closing:
                    return
                target, descriptor = self._written, os.dup(self._file)
            try:
                os.fsync(descriptor)
            except OSError as failure:
                self._failure = failure
            finally:
                os.close(descriptor)
            with self._mutex:
                self._commit.notify_all()
                if self._failure:
                    return
                self._synced = max(self._synced, target)
                if self.durability is Durability.KILL and not self._closing:
                    self._commit.wait_for(lambda: self._closing, timeout=COMMIT_SECONDS)

    def _raise_failure(self) -> None:
        """After a failed fsync nobody knows what the disk holds (the kernel drops the pages): refuse from then on."""
        if self._failure:
            with storage_errors(f"the log ({self._folder}) could not be made durable"):
                raise self._failure

    def _fsync(self) -> None:
        with storage_errors(f"the log ({self._folder}) could not be made durable"):
            os.fsync(self._file)
        self._synced = self._written

    # Opening, sealing.

    def _open(self) -> None:
        names = _segments(self._folder)
        if not names:
            self._start_segment(SegmentHeader(self.name, 0, GENESIS.hex(), ""))
            return
        path = self._folder / names[-1]
        with storage_errors(f"{path} could not be opened"):
            data = path.read_bytes()
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        header, first = read_header(data, str(path))
        self._count, self._chain, end = header.first, bytes.fromhex(header.previous_chain), first.end
        for entry in read_frames(data[first.end :], self._chain, str(path)):
            self._count, self._chain, end = self._count + 1, entry.chain, first.end + entry.end
        self._size = end
        if end < len(data):
            self._cut(data[end:], end)
        for name in names[:-1]:  # a kill between making the new segment and removing the sealed one
            os.unlink(self._folder / name)

    def _cut(self, tail: bytes, end: int) -> None:
        kept = self._folder / "torn" / f"{self._count:012d}"
        write_whole(kept, tail)
        with storage_errors(f"{self._folder} could not be mended"):
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        self.torn = Torn(writer=self.name, entry=self._count, bytes=len(tail), kept_in=str(kept))

    def _seal(self) -> None:
        """Compress the full segment into an object, then start the next, whose header names it."""
        self._fsync()
        path = self._folder / _segments(self._folder)[-1]
        data = path.read_bytes()
        pack = self._objects.put(zstandard.ZstdCompressor(level=3).compress(data))
        old = self._file
        self._start_segment(SegmentHeader(self.name, self._count, self._chain.hex(), pack))
        os.close(old)
        os.unlink(path)

    def _start_segment(self, header: SegmentHeader) -> None:
        data, _ = frame(msgspec.json.encode(header), GENESIS)
        path = self._folder / f"{header.first:012d}.segment"
        write_whole(path, data)
        with storage_errors(f"{path} could not be opened"):
            path.chmod(0o644)
            sync_folder(self._folder)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._count, self._chain, self._size = header.first, bytes.fromhex(header.previous_chain), len(data)


def _segments(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".segment"))


def _entries(data: bytes, where: str, start: int) -> Iterator[Entry]:
    header, first = read_header(data, where)
    previous = bytes.fromhex(header.previous_chain)
    for place, found in enumerate(read_frames(data[first.end :], previous, where)):
        if header.first + place >= start:
            yield Entry(Position(header.writer, header.first + place), found.payload, found.chain)
