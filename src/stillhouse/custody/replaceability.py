"""What it would take to get something again, and how that is known. Pure.

The answer is the cheapest way back that is *proved* here; where none is, there is none. A class, not a probability: it sets
how many copies there must be.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

# Beyond this somebody has to ask for the money first, whatever the source still allows.
_COSTLY_USD = Decimal(1000)
_COSTLY_HOURS = 100.0


class Class(StrEnum):
    """From what a command brings back to what nothing does, in this order."""

    RECOMPUTABLE = "recomputable"
    RE_OBTAINABLE = "re-obtainable"
    COSTLY = "costly"
    IRREPLACEABLE = "irreplaceable"


def worst_first(kind: Class) -> int:
    """A key by which the least replaceable comes first."""
    return -list(Class).index(kind)


class Replaceability(msgspec.Struct, frozen=True):
    """A class, what the way back costs (money, hours of a processor as they were measured), and on what this rests."""

    kind: Class
    usd: str
    hours: float
    evidence: str


class RecoverySource(msgspec.Struct, frozen=True):
    """One source of a thing: how many records of it, what they cost then, whether it may still be asked, and the reason."""

    name: str
    records: int
    usd: Decimal
    seconds: float
    is_local: bool
    may_be_asked: bool
    reason: str


def of_records(sources: Sequence[RecoverySource]) -> Replaceability:
    """Of records: as replaceable as the least of their sources."""
    gone = [source for source in sources if not source.may_be_asked]
    usd, hours = sum((source.usd for source in sources), Decimal(0)), sum(source.seconds for source in sources) / 3600
    if not sources:
        # Evidence stands in plans: another wording would make those of an earlier version differ from what is recomputed.
        return Replaceability(Class.IRREPLACEABLE, "0", 0.0, "nobody wrote down how it could be got again")
    if gone:
        named = "; ".join(f"{source.name} ({source.records} records): {source.reason}" for source in gone)
        return Replaceability(Class.IRREPLACEABLE, f"{usd:f}", hours, named)
    what = f"{sum(source.records for source in sources)} records, priced and timed as they were when they came"
    if usd >= _COSTLY_USD or hours >= _COSTLY_HOURS:
        return Replaceability(Class.COSTLY, f"{usd:f}", hours, what)
    kind = Class.RECOMPUTABLE if all(source.is_local for source in sources) else Class.RE_OBTAINABLE
    return Replaceability(kind, f"{usd:f}", hours, what)


def of_model(hours: float, dataset: Replaceability, *, rows_are_here: bool) -> Replaceability:
    """Of a trained model: by its recipe where its rows are here, else as replaceable as they are."""
    if rows_are_here:
        kind = Class.COSTLY if hours >= _COSTLY_HOURS else Class.RECOMPUTABLE
        return Replaceability(kind, "0", hours, "its rows and its recipe are here; so long its training took")
    return Replaceability(
        dataset.kind, dataset.usd, hours + dataset.hours, f"its rows are not here: {dataset.evidence}"
    )


def unknown(what: str) -> Replaceability:
    """What nothing is recorded of: unknown counts as gone."""
    return Replaceability(Class.IRREPLACEABLE, "0", 0.0, f"nobody wrote down how {what} could be got again")
