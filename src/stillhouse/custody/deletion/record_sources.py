"""Where the records of a run or of a dataset came from, what they cost, and whether they could be had again today.

What a dataset's records came from never changes: it is counted once and kept in the home's cache. Whether a source may be asked
is decided each time.
"""

import contextlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Float, cast, func, select

from stillhouse.custody.replaceability import RecoverySource
from stillhouse.errors import StorageError
from stillhouse.home.ledger import dataset_queries, origin_queries, selecting
from stillhouse.home.ledger.projection import tables
from stillhouse.home.open_home import Home
from stillhouse.nouns import DatasetVersion, Use
from stillhouse.permission.decide import Door
from stillhouse.vault.files import write_whole

_IMPORTED = "it was imported, and is no teacher here"


class SourceTally(msgspec.Struct, frozen=True):
    """Records of one teacher with one stamp set: how many, what they cost in USD, and how long they took. Of imported ones nobody
    knows a teacher, and ``stamps`` is 0.
    """

    teacher: str
    stamps: int
    records: int
    usd: float
    seconds: float


def sources_of_run(home: Home, run: str) -> list[RecoverySource]:
    """The sources of a run's records."""
    return _sources(home, _tallies(home, tables.answers.c.run == run))


def sources_of_dataset(home: Home, dataset: DatasetVersion) -> list[RecoverySource]:
    """The sources of the records that a dataset version kept. Raises CorruptObject where its index is gone."""
    path = home.cache / "sources" / f"{dataset.manifest_digest.partition(':')[2]}.json"
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return _sources(home, msgspec.json.decode(path.read_bytes(), type=list[SourceTally]))
    kept = (record.key for record in dataset_queries.placements(home.ledger, home.objects, dataset) if not record.step)
    groups = [_tallies(home, tables.answers.c.key.in_(keys)) for keys in selecting.in_groups(kept)]
    found = _joined([one for group in groups for one in group])
    rest = dataset.rows - sum(one.records for one in found)
    found += [SourceTally("", 0, rest, 0.0, 0.0)] if rest > 0 else []
    with contextlib.suppress(StorageError):
        write_whole(path, msgspec.json.encode(found))
    return _sources(home, found)


def _tallies(home: Home, which: Any) -> list[SourceTally]:
    answers = tables.answers.c
    counted = (
        func.count(func.distinct(answers.key)).label("records"),
        func.sum(cast(answers.cost_usd, Float)).label("usd"),
        func.sum(answers.seconds).label("seconds"),
    )
    query = select(answers.teacher, answers.stamps, *counted).where(which).group_by(answers.teacher, answers.stamps)
    return [
        SourceTally(row.teacher, int(row.stamps), int(row.records), float(row.usd or 0), float(row.seconds or 0))
        for row in selecting.all_rows(home.ledger, query)
    ]


def _joined(tallies: Iterable[SourceTally]) -> list[SourceTally]:
    found: dict[tuple[str, int], SourceTally] = {}
    for one in tallies:
        before = found.get((one.teacher, one.stamps), SourceTally(one.teacher, one.stamps, 0, 0.0, 0.0))
        found[one.teacher, one.stamps] = msgspec.structs.replace(
            one, records=before.records + one.records, usd=before.usd + one.usd, seconds=before.seconds + one.seconds
        )  # fmt: skip
    return list(found.values())


def _sources(home: Home, tallies: Iterable[SourceTally]) -> list[RecoverySource]:
    """May they be asked again today?"""
    sets = origin_queries.stamp_sets(home.ledger)
    registered = {teacher.name: teacher for teacher in origin_queries.teachers(home.ledger)}
    found = []
    for one in tallies:
        teacher = registered.get(one.teacher)
        allowed, reason = False, _IMPORTED
        if teacher is not None:
            decision = home.policy.check(Door.CONTINUE, sets[one.stamps].stamps, Use.TRAIN)
            allowed, reason = decision.allowed, decision.reason
        local = teacher is not None and not teacher.base_url and bool(teacher.weights)
        usd = Decimal(str(round(one.usd, 6)))
        found.append(RecoverySource(one.teacher, one.records, usd, one.seconds, local, allowed, reason))
    return found
