"""Checkpoints: the ends of all chains at one moment, kept somewhere else.

Whoever can write to the log can also write a different, consistent one. What can be proved is therefore this much: up to
the last checkpoint that was kept in a second place, every entry is there, in its order, unchanged. After it, only that
the log is consistent with itself.
"""

from pathlib import Path

import msgspec

from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import CorruptLog, IntegrityError
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.log import Head, Log


class LogCheckpoint(msgspec.Struct, frozen=True):
    """The heads of all writers; ``taken`` is RFC 3339, UTC."""

    taken: str
    heads: tuple[Head, ...]


class CheckpointProof(msgspec.Struct, frozen=True):
    """What an audit of the log found. ``covered`` entries stand before a checkpoint that was kept elsewhere."""

    entries: int
    covered: int
    checkpoint: str
    problems: tuple[str, ...]


def save_checkpoint(log: Log, taken: str, place: Path) -> LogCheckpoint:
    """Write the present heads into a second place, as one file named by its time."""
    checkpoint = LogCheckpoint(taken=taken, heads=tuple(log.heads()))
    data = canonical(checkpoint)
    name = f"{taken.replace(':', '')}-{digest_bytes(data)[7:19]}.json"
    write_whole(place / name, data)
    return checkpoint


def load_checkpoints(place: Path | None) -> list[LogCheckpoint]:
    """All checkpoints of a second place, oldest first. Raises CorruptLog for one that cannot be read."""
    if place is None or not place.is_dir():
        return []
    found = []
    for file in sorted(place.glob("*.json")):
        try:
            with storage_errors(f"{file} could not be read"):
                found.append(msgspec.json.decode(file.read_bytes(), type=LogCheckpoint))
        except msgspec.MsgspecError as failure:
            raise CorruptLog(f"the checkpoint {file} cannot be read: {failure}.") from failure
    return found


def audit(log: Log, checkpoints: list[LogCheckpoint]) -> CheckpointProof:
    """Read every entry of every writer, and compare with every checkpoint."""
    expected: dict[str, dict[int, tuple[str, str]]] = {}
    for checkpoint in checkpoints:
        for head in checkpoint.heads:
            expected.setdefault(head.writer, {})[head.count] = (head.chain, checkpoint.taken)
    problems: list[str] = []
    entries = covered = 0
    for writer in sorted({*log.writers(), *expected}):
        count, found = _audit_writer(log, writer, expected.get(writer, {}))
        problems += found
        entries += count
        covered += min(count, max(expected.get(writer, {0: ("", "")})))
    return CheckpointProof(entries, covered, checkpoints[-1].taken if checkpoints else "", tuple(problems))


def _audit_writer(log: Log, writer: str, expected: dict[int, tuple[str, str]]) -> tuple[int, list[str]]:
    """How many entries one writer has, and what is wrong with them; ``expected`` maps a count to a chain value."""
    count, problems = 0, []
    try:
        for entry in log.read(writer) if writer in log.writers() else ():
            count += 1
            chain, taken = expected.get(count, ("", ""))
            if chain and chain != entry.chain.hex():
                problems.append(f"writer {writer}: entry {count - 1} is not the one of the checkpoint of {taken}")
    except IntegrityError as failure:
        problems.append(str(failure))
    for at, (_, taken) in sorted(expected.items()):
        if at > count:
            problems.append(f"writer {writer}: {count} entries, but the checkpoint of {taken} had {at}")
    return count, problems
