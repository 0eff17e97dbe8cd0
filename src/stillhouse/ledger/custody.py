"""The questions of custody: what is in the vault, what holds it, what became of it."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import Table, func, select

from stillhouse.ledger import schema
from stillhouse.ledger.queries import all_rows, as_written, ordered
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import Deletion, Signature


class StoredSnapshot(NamedTuple):
    """A snapshot as it was written down. The same content taken twice stands twice."""

    at: str
    snapshot: str
    name: str
    source: str
    subject: str
    files: int
    bytes: int
    added: int
    erasable: str


def snapshots(ledger: Ledger) -> list[StoredSnapshot]:
    """All snapshots, oldest first."""
    return [
        StoredSnapshot(
            row.at, row.snapshot, row.name, row.source, row.subject, row.files, row.bytes, row.added, row.erasable
        )
        for row in as_written(all_rows(ledger, ordered(schema.snapshots)))
    ]


class ErasureKey(NamedTuple):
    """The key of a source that can be erased, and whether it was destroyed. ``others`` are sources that claim it, too: of whom a
    key is that several claim, nobody can say.
    """

    source: str
    key: str
    destroyed: bool
    others: tuple[str, ...] = ()


def erasure_keys(ledger: Ledger) -> dict[str, ErasureKey]:
    """The keys of all sources that can be erased, or were, by their digests. A key is of the source that claimed it first, as far
    as clocks tell.
    """
    found: dict[str, ErasureKey] = {}
    for row in as_written(all_rows(ledger, ordered(schema.erasure_keys))):
        known = found.setdefault(row.key, ErasureKey(row.source, row.key, destroyed=False))
        others = known.others if row.source in (known.source, *known.others) else (*known.others, row.source)
        found[row.key] = known._replace(destroyed=known.destroyed or bool(row.destroyed), others=others)
    return found


def keys_of_source(ledger: Ledger, source: str) -> list[ErasureKey]:
    """The keys that a source alone claims; where there is none, those that it claims with others."""
    claimed = [one for one in erasure_keys(ledger).values() if source in (one.source, *one.others)]
    return [one for one in claimed if not one.others] or claimed


class StoredRegistration(NamedTuple):
    """Data that is registered where it lies."""

    at: str
    manifest: str
    name: str
    source: str
    endpoint: str
    files: int
    bytes: int


class StoredExamination(NamedTuple):
    """A comparison of registered data with what was registered."""

    at: str
    manifest: str
    files: int
    read: int
    changes: int
    new: int


def registrations(ledger: Ledger) -> list[StoredRegistration]:
    """The newest registration of each name, in the order of their first."""
    found = {
        row.name: StoredRegistration(row.at, row.manifest, row.name, row.source, row.endpoint, row.files, row.bytes)
        for row in as_written(all_rows(ledger, ordered(schema.registrations)))
    }
    return list(found.values())


def examinations(ledger: Ledger) -> dict[str, StoredExamination]:
    """The newest comparison with each manifest."""
    return {
        row.manifest: StoredExamination(row.at, row.manifest, row.files, row.read, row.changes, row.new)
        for row in as_written(all_rows(ledger, ordered(schema.examinations)))
    }


class StoredHold(NamedTuple):
    """A hold that somebody placed."""

    at: str
    hold: str
    subject: str
    reason: str


class Trashed(NamedTuple):
    """An object of the trash, since when it is there, and why."""

    at: str
    object: str
    reason: str


def holds(ledger: Ledger) -> list[StoredHold]:
    """All holds that were placed, released ones too, oldest first."""
    return [StoredHold(row.at, row.hold, row.subject, row.reason) for row in all_rows(ledger, ordered(schema.holds))]


def undone(ledger: Ledger) -> frozenset[str]:
    """The deletions that count no more."""
    return frozenset(row.deletion for row in all_rows(ledger, ordered(schema.deletions_undone)))


def trash(ledger: Ledger) -> dict[str, Trashed]:
    """What the log says is in the trash: discarded, and neither recovered nor reclaimed since."""
    found: dict[str, Trashed] = {}
    for row in as_written(all_rows(ledger, ordered(schema.trash))):
        if row.what == "discarded":
            found[row.object] = Trashed(row.at, row.object, row.reason)
        else:
            found.pop(row.object, None)
    return found


def days_after(ledger: Ledger, table: Table, column: str) -> dict[str, tuple[str, ...]]:
    """For each value of a column the days that were marked since its newest row, by their places in the log."""
    rows = [*all_rows(ledger, ordered(table)), *all_rows(ledger, ordered(schema.days))]
    days: list[str] = []
    since: dict[str, int] = {}
    for row in as_written(sorted(rows, key=lambda row: (row.at, row.writer, row.number, row.place))):
        if hasattr(row, "day"):
            days.append(row.day)
        else:
            since[getattr(row, column)] = len(days)
    return {value: tuple(dict.fromkeys(days[place:])) for value, place in since.items()}


class Position(NamedTuple):
    """Where an entry stands in the log, and what the clock said then."""

    writer: str
    number: int
    at: str


def positions(ledger: Ledger) -> dict[str, Position]:
    """The newest entry that names each dataset version and each snapshot."""
    found: dict[str, Position] = {}
    for row in as_written(all_rows(ledger, ordered(schema.datasets))):
        found[f"dataset:{row.name}@{row.version}"] = Position(row.writer, row.number, row.at)
    for row in as_written(all_rows(ledger, ordered(schema.snapshots))):
        found[f"snapshot:{row.snapshot}"] = Position(row.writer, row.number, row.at)
    return found


def deleted_since(ledger: Ledger, moment: str) -> list[tuple[str, Deletion]]:
    """Deletions from a moment on, with their times."""
    return [
        (row.at, msgspec.json.decode(row.content, type=Deletion))
        for row in all_rows(ledger, ordered(schema.deletions))
        if row.at >= moment
    ]


def day_is_marked(ledger: Ledger, day: str) -> bool:
    """Was the home looked after on that day?"""
    return any(True for _ in all_rows(ledger, ordered(schema.days).where(schema.days.c.day == day)))


class StoredCopy(NamedTuple):
    """What the last backup to a place found there."""

    at: str
    copy: str
    place: str
    domain: str
    objects: int
    added: int
    bytes: int
    entries: int
    sampled: int
    heads: Mapping[str, int]

    def has(self, position: "Position") -> bool:
        """Was this entry of the log written down before the backup began? By its place, and by the clock only in what earlier
        versions wrote.
        """
        return self.heads.get(position.writer, 0) > position.number if self.heads else self.at > position.at


class StoredScrub(NamedTuple):
    """A scrub of the vault (``copy`` is empty) or of a copy."""

    at: str
    copy: str
    objects: int
    read: int
    bad: tuple[str, ...]
    repaired: tuple[str, ...]


def copies(ledger: Ledger) -> dict[str, StoredCopy]:
    """The newest backup to each copy."""
    return {
        row.copy: StoredCopy(
            row.at,
            row.copy,
            row.store,
            row.domain,
            row.objects,
            row.added,
            row.bytes,
            row.entries,
            row.sampled,
            msgspec.json.decode(row.heads, type=dict[str, int]),
        )
        for row in as_written(all_rows(ledger, ordered(schema.copies)))
    }


def scrubs(ledger: Ledger) -> list[StoredScrub]:
    """All scrubs, oldest first."""
    texts = tuple[str, ...]
    return [
        StoredScrub(
            row.at,
            row.copy,
            row.objects,
            row.read,
            msgspec.json.decode(row.bad, type=texts),
            msgspec.json.decode(row.repaired, type=texts),
        )
        for row in as_written(all_rows(ledger, ordered(schema.scrubs)))
    ]


class StoredDrill(NamedTuple):
    """A drill: what was restored, from which copy ("" is the vault), how long it took, and whether it came back."""

    at: str
    copy: str
    subject: str
    whole: bool
    files: int
    bytes: int
    seconds: float
    behind: float
    problem: str
    signature: Signature


def drills(ledger: Ledger) -> list[StoredDrill]:
    """All drills, oldest first."""
    return [
        StoredDrill(
            row.at,
            row.copy,
            row.subject,
            bool(row.whole),
            row.files,
            row.bytes,
            row.seconds,
            row.behind,
            row.problem,
            msgspec.json.decode(row.signature, type=Signature),
        )
        for row in as_written(all_rows(ledger, ordered(schema.drills)))
    ]


def bad_objects(ledger: Ledger) -> frozenset[str]:
    """Objects of the vault that a scrub found damaged, and that none since has mended. They may be whole again by now."""
    bad: set[str] = set()
    for one in scrubs(ledger):
        if not one.copy:
            bad = (bad | set(one.bad)) - set(one.repaired)
    return frozenset(bad)


def mentions(ledger: Ledger) -> dict[str, int]:
    """How often the log names each dataset version, each snapshot and each registration."""
    datasets, kept, in_place = schema.datasets.c, schema.snapshots.c, schema.registrations.c
    by_dataset = select(datasets.name, datasets.version, func.count().label("times")).group_by(
        datasets.name, datasets.version
    )
    by_snapshot = select(kept.snapshot, func.count().label("times")).group_by(kept.snapshot)
    found = {f"dataset:{row.name}@{row.version}": int(row.times) for row in all_rows(ledger, by_dataset)}
    found |= {f"snapshot:{row.snapshot}": int(row.times) for row in all_rows(ledger, by_snapshot)}
    by_manifest = select(in_place.manifest, func.count().label("times")).group_by(in_place.manifest)
    return found | {f"registered:{row.manifest}": int(row.times) for row in all_rows(ledger, by_manifest)}
