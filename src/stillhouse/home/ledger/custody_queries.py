"""The questions of custody: what is in the vault, what holds it, what became of it."""

from typing import NamedTuple

import msgspec
from sqlalchemy import Table, func, select

from stillhouse.home import facts
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, ordered, recorded
from stillhouse.nouns import Deletion
from stillhouse.permission.acts.deletions import ACT as DELETIONS


def snapshots(ledger: Ledger) -> list[facts.SnapshotTaken]:
    """All snapshots, oldest first. The same content taken twice stands twice."""
    return recorded(ledger, facts.SnapshotTaken)


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
    for row in as_written(all_rows(ledger, ordered(tables.erasure_keys))):
        known = found.setdefault(row.key, ErasureKey(row.source, row.key, destroyed=False))
        others = known.others if row.source in (known.source, *known.others) else (*known.others, row.source)
        found[row.key] = known._replace(destroyed=known.destroyed or bool(row.destroyed), others=others)
    return found


def keys_of_source(ledger: Ledger, source: str) -> list[ErasureKey]:
    """The keys that a source alone claims; where there is none, those that it claims with others."""
    claimed = [one for one in erasure_keys(ledger).values() if source in (one.source, *one.others)]
    return [one for one in claimed if not one.others] or claimed


def registrations(ledger: Ledger) -> list[facts.Registered]:
    """The newest registration of each name, in the order of their first."""
    return list({one.name: one for one in recorded(ledger, facts.Registered)}.values())


def examinations(ledger: Ledger) -> dict[str, facts.Examined]:
    """The newest comparison with each manifest."""
    return {one.manifest: one for one in recorded(ledger, facts.Examined)}


class Trashed(NamedTuple):
    """An object of the trash, since when it is there, and why."""

    at: str
    object: str
    reason: str


def holds(ledger: Ledger) -> list[facts.HoldPlaced]:
    """All holds that were placed, released ones too, oldest first."""
    return recorded(ledger, facts.HoldPlaced)


def undone(ledger: Ledger) -> frozenset[str]:
    """The deletions that count no more."""
    return frozenset(row.deletion for row in all_rows(ledger, ordered(tables.deletions_undone)))


def trash(ledger: Ledger) -> dict[str, Trashed]:
    """What the log says is in the trash: discarded, and neither recovered nor reclaimed since."""
    found: dict[str, Trashed] = {}
    for row in as_written(all_rows(ledger, ordered(tables.trash))):
        if row.what == "discarded":
            found[row.object] = Trashed(row.at, row.object, row.reason)
        else:
            found.pop(row.object, None)
    return found


def days_after(ledger: Ledger, table: Table, column: str) -> dict[str, tuple[str, ...]]:
    """For each value of a column the days that were marked since its newest row, by their places in the log."""
    rows = [*all_rows(ledger, ordered(table)), *all_rows(ledger, ordered(tables.days))]
    days: list[str] = []
    since: dict[str, int] = {}
    for row in as_written(sorted(rows, key=lambda row: (row.at, row.writer, row.number, row.place))):
        if hasattr(row, "day"):
            days.append(row.day)
        else:
            since[getattr(row, column)] = len(days)
    return {value: tuple(dict.fromkeys(days[place:])) for value, place in since.items()}


class CopyPosition(NamedTuple):
    """Where an entry stands in the log, and what the clock said then."""

    writer: str
    number: int
    at: str


def positions(ledger: Ledger) -> dict[str, CopyPosition]:
    """The newest entry that names each dataset version and each snapshot."""
    found: dict[str, CopyPosition] = {}
    for row in as_written(all_rows(ledger, ordered(tables.datasets))):
        found[f"dataset:{row.name}@{row.version}"] = CopyPosition(row.writer, row.number, row.at)
    for row in as_written(all_rows(ledger, ordered(tables.snapshots))):
        found[f"snapshot:{row.snapshot}"] = CopyPosition(row.writer, row.number, row.at)
    return found


def deleted_since(ledger: Ledger, moment: str) -> list[tuple[str, Deletion]]:
    """Deletions from a moment on, with their times."""
    query = ordered(tables.acts).where(tables.acts.c.kind == DELETIONS.tag, tables.acts.c.at >= moment)
    return [(row.at, msgspec.json.decode(row.content, type=Deletion)) for row in all_rows(ledger, query)]


def day_is_marked(ledger: Ledger, day: str) -> bool:
    """Was the home looked after on that day?"""
    return any(True for _ in all_rows(ledger, ordered(tables.days).where(tables.days.c.day == day)))


def has(copy: facts.CopyMade, position: CopyPosition) -> bool:
    """Was this entry of the log written down before a backup began? By its place, and by the clock only in what earlier versions
    wrote.
    """
    return copy.heads.get(position.writer, 0) > position.number if copy.heads else copy.at > position.at


def copies(ledger: Ledger) -> dict[str, facts.CopyMade]:
    """The newest backup to each copy."""
    return {one.copy: one for one in recorded(ledger, facts.CopyMade)}


def scrubs(ledger: Ledger) -> list[facts.Scrubbed]:
    """All scrubs of the vault (``copy`` is empty) and of copies, oldest first."""
    return recorded(ledger, facts.Scrubbed)


def drills(ledger: Ledger) -> list[facts.Drilled]:
    """All drills, oldest first."""
    return recorded(ledger, facts.Drilled)


def bad_objects(ledger: Ledger) -> frozenset[str]:
    """Objects of the vault that a scrub found damaged, and that none since has mended. They may be whole again by now."""
    bad: set[str] = set()
    for one in scrubs(ledger):
        if not one.copy:
            bad = (bad | set(one.bad)) - set(one.repaired)
    return frozenset(bad)


def mentions(ledger: Ledger) -> dict[str, int]:
    """How often the log names each dataset version, each snapshot and each registration."""
    datasets, kept, in_place = tables.datasets.c, tables.snapshots.c, tables.registrations.c
    by_dataset = select(datasets.name, datasets.version, func.count().label("times")).group_by(
        datasets.name, datasets.version
    )
    by_snapshot = select(kept.snapshot, func.count().label("times")).group_by(kept.snapshot)
    found = {f"dataset:{row.name}@{row.version}": int(row.times) for row in all_rows(ledger, by_dataset)}
    found |= {f"snapshot:{row.snapshot}": int(row.times) for row in all_rows(ledger, by_snapshot)}
    by_manifest = select(in_place.manifest, func.count().label("times")).group_by(in_place.manifest)
    return found | {f"registered:{row.manifest}": int(row.times) for row in all_rows(ledger, by_manifest)}
