"""The ways to decode a model, by what becomes of its cache. No torch here."""

from enum import StrEnum


class Caching(StrEnum):
    """How a model can be decoded: the first of these that gives what a pass over everything gives."""

    IN_PLACE = "in place"
    OWN = "own"
    OWN_ALONE = "own, one row at a time"  # RWKV's state of several rows is wrong in transformers 5
    NONE = "none"
