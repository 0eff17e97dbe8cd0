"""The log: the one place where anything is written first.

Each process appends to a chain of its own (a *writer*: a folder under ``log/``, held by a file lock), so that no append
waits for another process. Readers see all writers. Durability is by group commit: an append is handed to the operating
system at once (safe against a kill), and one fsync covers everything of the last 50 ms; ``power`` waits for that fsync.
Full segments are compressed into packs among the objects.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from stillhouse.errors import CorruptLog
from stillhouse.vault.durability import Durability
from stillhouse.vault.entries import Frame, SegmentHeader, count_frames, read_frames, read_header
from stillhouse.vault.files import make_folder, read_regular, storage_errors
from stillhouse.vault.locks import try_for
from stillhouse.vault.objects import Objects
from stillhouse.vault.writer import SEGMENT_BYTES, Checked, Position, Writer, segments


class LogEntry(NamedTuple):
    """One entry as read."""

    position: Position
    payload: bytes
    chain: bytes


class Head(msgspec.Struct, frozen=True):
    """The end of one writer's chain: how many entries, and the chain value that stands for all of them."""

    writer: str
    count: int
    chain: str


class Log:
    """A log folder; open one writer per process with ``writer()``."""

    def __init__(self, root: Path, objects: Objects, segment_bytes: int = SEGMENT_BYTES, first_writer: int = 0) -> None:
        """``first_writer`` is the number from which on this home's own chains count: below it are those of a home that it
        follows.
        """
        self.root = root
        self.first_writer = first_writer
        # Where this reader stopped: it resumes there without reading the segment from its start again.
        self._marks: dict[str, Checked] = {}
        self.objects = objects
        self._segment_bytes = segment_bytes

    def writer(self, durability: Durability = Durability.KILL) -> "Writer":
        """A writer of this process's own: the first that nobody holds, else a new one."""
        for number in range(self.first_writer, 10_000):
            folder = self.root / f"w{number:04d}"
            with storage_errors(f"{folder} could not be opened"):
                make_folder(folder)
            lock = try_for(folder / "lock")
            if lock is None:
                continue
            try:
                checked = self._marks.get(folder.name)
                return Writer(folder, self.objects, durability, lock, self._segment_bytes, checked)
            except BaseException:
                lock.release()
                raise
        raise CorruptLog(f"{self.root} has more than 10,000 writers.")

    def is_own(self, writer: str) -> bool:
        """Is a chain one that this home writes itself, while it follows another?"""
        return bool(self.first_writer) and writer >= f"w{self.first_writer:04d}"

    def writers(self) -> list[str]:
        """The names of all writers, in order."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())

    def packs(self, writer: str) -> list[str]:
        """The digests of a writer's sealed segments. Raises CorruptLog, CorruptObject."""
        active = self._active(writer)
        return self._packs(active[0], 0) if active else []

    def read(self, writer: str, start: int = 0) -> Iterator[LogEntry]:
        """A writer's entries from number ``start`` on, each checked. Raises CorruptLog, CorruptObject."""
        active = self._active(writer)
        if active is None:
            return
        header, _, data = active
        end: tuple[int, str] | None = None
        for pack in reversed(self._packs(header, start)):
            end = yield from _linked(self._unpacked(pack), f"pack {pack}", start, end)
        yield from _linked(data, str(self.root / writer), start, end)

    def follow(self, writer: str, start: int) -> Iterator[LogEntry]:
        """Like ``read``, but going on where the last ``follow`` of this writer stopped costs only what is new."""
        mark = self._marks.get(writer)
        if mark is None or mark.number != start or segments(self.root / writer)[-1:] != [mark.segment]:
            name = (segments(self.root / writer) or [""])[-1]
            last = None
            for last in self.read(writer, start):
                yield last
            if last is not None and segments(self.root / writer)[-1:] == [name]:
                self._mark(writer, name, last)
            return
        path = self.root / writer / mark.segment
        with storage_errors(f"{path} could not be read"), path.open("rb") as file:
            file.seek(mark.offset)
            data = file.read()
        for found in read_frames(data, mark.chain, str(self.root / writer / mark.segment)):
            yield LogEntry(Position(writer, start), found.payload, found.chain)
            start += 1
            self._marks[writer] = Checked(mark.segment, mark.offset + found.end, start, found.chain)

    def active(self, writer: str) -> tuple[str, bytes] | None:
        """The name and the bytes of the segment that a writer appends to; None where it has written nothing yet."""
        found = self._active(writer)
        return (f"{found[0].first:012d}.segment", found[2]) if found else None

    def holds(self, writer: str, number: int, chain: str) -> bool:
        """Are the first ``number`` entries of a writer those that end in this chain value?

        A view asks this before it resumes: after power loss it can know entries that the log has lost.
        """
        if number == 0:
            return True
        mark = self._marks.get(writer)
        if mark is None or mark.number != number:
            mark = self._marked(writer, number)
        if mark is not None:
            return mark.chain.hex() == chain
        last = next(self.read(writer, number - 1), None)
        return last is not None and last.chain.hex() == chain

    def _marked(self, writer: str, number: int) -> Checked | None:
        """Mark where the entry ``number`` begins, or will; None where that is not in the active segment, or just at its start.

        All of it is checked, up to its end: what comes after the mark is read again by ``follow``, and that is all.
        """
        names = segments(self.root / writer)
        active = self._active(writer)
        if active is None or number <= active[0].first:
            return None
        header, first, data = active
        count, end, found = header.first, first.end, None
        for one in read_frames(data[first.end :], bytes.fromhex(header.previous_chain), str(self.root / writer)):
            count, end = count + 1, first.end + one.end
            if count == number:
                found = Checked(names[-1], end, count, one.chain)
        if found is not None and segments(self.root / writer)[-1:] == [found.segment]:
            self._marks[writer] = found
        return found

    def continues(self, head: Head, segment: bytes) -> bool:
        """Does the chain that this segment ends go through a head? Its earlier packs must be among the objects already."""
        part, where = segment, f"the segment of {head.writer}"
        header, _ = read_header(part, where)
        # A header alone proves nothing: what it says of the part before is looked up in that part, down to the head itself.
        while header.first >= head.count > 0:
            if header.writer != head.writer or not header.previous_pack:
                return False
            part, where = self._unpacked(header.previous_pack), f"pack {header.previous_pack}"
            before, _ = read_header(part, where)
            count, chain = before.first, before.previous_chain
            for entry in _entries(part, where, 0):
                count, chain = entry.position.number + 1, entry.chain.hex()
            if (count, chain) != (header.first, header.previous_chain) or before.first >= header.first:
                return False
            header = before
        if head.count == 0:
            return True
        found = next(_entries(part, where, head.count - 1), None)
        return found is not None and found.position.number == head.count - 1 and found.chain.hex() == head.chain

    def _mark(self, writer: str, name: str, last: LogEntry) -> None:
        data = (self.root / writer / name).read_bytes()
        header, first = read_header(data, name)
        end, number, chain = first.end, header.first, bytes.fromhex(header.previous_chain)
        for found in read_frames(data[first.end :], chain, name):
            if number > last.position.number:
                break
            end, number, chain = first.end + found.end, number + 1, found.chain
        if number == last.position.number + 1:
            self._marks[writer] = Checked(name, end, number, chain)

    def count(self) -> int:
        """How many entries there are in all, by the lengths of the active segments: for progress, nothing is checked."""
        found = [active for writer in self.writers() if (active := self._active(writer)) is not None]
        return sum(header.first + count_frames(data) - 1 for header, _, data in found)

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
            names = segments(self.root / writer)
            if not names:
                return None
            try:
                data = read_regular(self.root / writer / names[-1])
            except FileNotFoundError:
                continue
            return *read_header(data, str(self.root / writer / names[-1])), data
        return None

    def _packs(self, header: SegmentHeader, start: int) -> list[str]:
        """Digests of the packs that hold entries from ``start`` on, newest first."""
        packs = []
        while header.previous_pack and header.first > start:
            packs.append(header.previous_pack)
            header, _ = read_header(self._unpacked(header.previous_pack), f"pack {header.previous_pack}")
        return packs

    def _unpacked(self, pack: str) -> bytes:
        try:
            return zstandard.ZstdDecompressor().decompress(self.objects.get(pack), max_output_size=1 << 31)
        except zstandard.ZstdError as failure:
            raise CorruptLog(f"pack {pack} cannot be read: {failure}.") from failure


def _linked(
    data: bytes, where: str, start: int, end: tuple[int, str] | None
) -> Generator[LogEntry, None, tuple[int, str]]:
    """The entries of a part that must go on where the one before ended; returns where it ends. Raises CorruptLog."""
    header, _ = read_header(data, where)
    if end is not None and end != (header.first, header.previous_chain):
        raise CorruptLog(f"{where} does not go on where the part before it ends.")
    count, chain = header.first, header.previous_chain
    for entry in _entries(data, where, 0):
        count, chain = entry.position.number + 1, entry.chain.hex()
        if entry.position.number >= start:
            yield entry
    return count, chain


def _entries(data: bytes, where: str, start: int) -> Iterator[LogEntry]:
    header, first = read_header(data, where)
    previous = bytes.fromhex(header.previous_chain)
    for place, found in enumerate(read_frames(data[first.end :], previous, where)):
        if header.first + place >= start:
            yield LogEntry(Position(header.writer, header.first + place), found.payload, found.chain)
