"""Append to one chain of the log: group commit, sealing, and what to do with a torn tail."""

import contextlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from stillhouse.nouns import Durability
from stillhouse.vault.entries import GENESIS, LARGEST_PAYLOAD, SegmentHeader, frame, read_frames, read_header
from stillhouse.vault.files import storage_errors, sync_folder, write_whole
from stillhouse.vault.objects import Objects

# What a power cut may cost at most; a disk's flush takes 1 to 10 ms, so this keeps it mostly idle.
COMMIT_SECONDS = 0.05
# Small enough to recover and to seal in about a second, large enough to compress well.
SEGMENT_BYTES = 64 << 20


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
        names = segments(self._folder)
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
        path = self._folder / segments(self._folder)[-1]
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


def segments(folder: Path) -> list[str]:
    """The segment files of a writer's folder, oldest first; the last is the one that counts."""
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".segment"))
