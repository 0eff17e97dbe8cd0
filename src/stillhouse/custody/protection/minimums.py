"""What each class of replaceability asks for, and what falls short of it. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from stillhouse.custody.replaceability import Class, worst_first


class Minimum(NamedTuple):
    """Copies in all, of them with another administrator, and the days within which a restore must have been tried."""

    copies: int
    other_domains: int
    drill_days: int


# Three copies is the least of which one can be lost while another is being mended; what a command brings back needs none besides
# itself. A drill a week finds a backup that stopped working before a second thing breaks.
MINIMUMS = {
    Class.IRREPLACEABLE: Minimum(3, 1, 7),
    Class.COSTLY: Minimum(2, 1, 30),
    Class.RE_OBTAINABLE: Minimum(2, 0, 90),
    Class.RECOMPUTABLE: Minimum(1, 0, 90),
}


class CustodyStanding(NamedTuple):
    """How a thing stands. ``domains`` are those of copies with another administrator; ``drilled`` is days ago, None for never."""

    subject: str
    kind: Class
    copies: int
    domains: int
    drilled: float | None


class Short(NamedTuple):
    """Something that is below its minimum, and in what."""

    subject: str
    kind: Class
    lacks: tuple[str, ...]


def below(standings: Sequence[CustodyStanding]) -> list[Short]:
    """What is below its minimum, worst first: by class, then by how much is lacking."""
    found = [Short(one.subject, one.kind, _lacks(one)) for one in standings]
    short = [one for one in found if one.lacks]
    return sorted(short, key=lambda one: (worst_first(one.kind), -len(one.lacks), one.subject))


def _lacks(one: CustodyStanding) -> tuple[str, ...]:
    least = MINIMUMS[one.kind]
    lacks = []
    if one.copies < least.copies:
        lacks.append(f"{one.copies} of {least.copies} copies")
    if one.domains < least.other_domains:
        lacks.append(f"{one.domains} of {least.other_domains} copies under another administrator")
    if one.drilled is None:
        lacks.append("no restore was ever tried")
    elif one.drilled > least.drill_days:
        lacks.append(f"the last restore was tried {one.drilled:.0f} days ago, and not within {least.drill_days}")
    return tuple(lacks)
