"""What a fact survives."""

from enum import StrEnum


class Durability(StrEnum):
    """What a fact survives once it was written down."""

    KILL = "kill"
    POWER = "power"
