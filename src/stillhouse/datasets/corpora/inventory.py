"""What is in a corpus, by where it is from and what it may be used for; and what to find out first. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from stillhouse.nouns import Channel, Origin, Stamp, StampSet, Use
from stillhouse.permission.decide import Door, Policy


class CorpusShare(msgspec.Struct, frozen=True):
    """How many rows, and which part of all."""

    what: str
    rows: int
    share: float


class Triage(msgspec.Struct, frozen=True):
    """Rows of one origin of which something must be found out, the most rows first."""

    origin: str
    rows: int
    share: float
    missing: tuple[str, ...]
    reason: str


class Inventory(msgspec.Struct, frozen=True):
    """A corpus. ``unknown`` is the part of which not even the origin is known."""

    rows: int
    by_origin: tuple[CorpusShare, ...]
    by_lab: tuple[CorpusShare, ...]
    by_channel: tuple[CorpusShare, ...]
    by_provider: tuple[CorpusShare, ...]
    by_decision: dict[str, tuple[CorpusShare, ...]]
    unknown: CorpusShare
    triage: tuple[Triage, ...]
    skipped: dict[str, int]


class _Group(NamedTuple):
    stamps: StampSet
    rows: int


def take_inventory(
    counts: Mapping[int, int], sets: Mapping[int, StampSet], policy: Policy, skipped: Mapping[str, int]
) -> Inventory:
    """``counts`` are rows by stamp set; decisions are taken once per set and joined."""
    groups = [_Group(sets[id], rows) for id, rows in counts.items()]
    total = sum(group.rows for group in groups)
    decisions = {
        use: {group.stamps.id: policy.check(Door.USE, group.stamps.stamps, use) for group in groups} for use in Use
    }
    by_decision = {
        str(use): _shares(
            _summed(("allowed" if found[group.stamps.id].allowed else "denied", group.rows) for group in groups), total
        )
        for use, found in decisions.items()
    }
    unknown = sum(group.rows for group in groups if _answer(group.stamps).origin is Origin.UNKNOWN)
    merged: dict[tuple[str, tuple[str, ...], str], int] = {}
    for group in groups:
        missing = what_is_missing(_answer(group.stamps))
        decision = decisions[Use.TRAIN][group.stamps.id]
        if missing and not decision.allowed:
            name = (describe(_answer(group.stamps)), missing, _kind(decision.reason))
            merged[name] = merged.get(name, 0) + group.rows
    triage = tuple(
        Triage(name, rows, _part(rows, total), missing, reason)
        for (name, missing, reason), rows in sorted(merged.items(), key=lambda item: (-item[1], item[0]))
    )
    return Inventory(
        rows=total,
        by_origin=_by(groups, total, lambda stamp: str(stamp.origin)),
        by_lab=_by(groups, total, lambda stamp: stamp.lab or "unknown"),
        by_channel=_by(groups, total, lambda stamp: str(stamp.channel)),
        by_provider=_by(groups, total, lambda stamp: stamp.provider or "not said"),
        by_decision=by_decision,
        unknown=CorpusShare("unknown", unknown, _part(unknown, total)),
        triage=triage,
        skipped=dict(skipped),
    )


def what_is_missing(stamp: Stamp) -> tuple[str, ...]:
    """What nobody has said of an origin, and what a decision needs."""
    missing = []
    if stamp.origin is Origin.UNKNOWN:
        missing.append("who or what wrote it")
    if stamp.origin in (Origin.UNKNOWN, Origin.TEACHER):
        missing += ["which model"] if not stamp.model else []
        missing += ["whose model"] if not stamp.lab else []
        missing += ["how it was reached"] if stamp.channel is Channel.UNKNOWN else []
    missing += ["under which terms"] if not stamp.terms else []
    missing += ["when"] if not stamp.day else []
    return tuple(missing)


def describe(stamp: Stamp) -> str:
    """An origin in a few words."""
    parts = [
        stamp.lab or str(stamp.origin),
        stamp.model,
        f"by {stamp.channel}",
        f"({stamp.provider})" if stamp.provider else "",
    ]
    return " ".join(part for part in parts if part)


def _answer(stamps: StampSet) -> Stamp:
    """The stamp of a row's answer: not that of its prompt, and a model's before a person's who is said to have written it."""
    by_model = (stamp for stamp in stamps.stamps if stamp.origin in (Origin.TEACHER, Origin.OWN_MODEL))
    others = (stamp for stamp in stamps.stamps if stamp.origin is not Origin.PROMPT_SEED)
    return next(by_model, next(others, stamps.stamps[0]))


def _by(groups: list[_Group], total: int, name_of: Callable[[Stamp], str]) -> tuple[CorpusShare, ...]:
    return _shares(_summed((name_of(_answer(group.stamps)), group.rows) for group in groups), total)


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, rows in pairs:
        found[name] = found.get(name, 0) + rows
    return found


def _shares(counts: Mapping[str, int], total: int) -> tuple[CorpusShare, ...]:
    return tuple(
        CorpusShare(name, rows, _part(rows, total))
        for name, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _part(rows: int, total: int) -> float:
    return round(rows / total, 6) if total else 0.0


def _kind(reason: str) -> str:
    """A reason without the particulars of a day."""
    return reason.partition("; ")[0]
