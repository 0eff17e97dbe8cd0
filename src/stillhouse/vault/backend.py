"""Where bytes live: the smallest interface that a store must offer.

Promises every implementation keeps, tested by one suite (tests/conformance):

- ``put`` is atomic and durable: after it returns the bytes survive power loss; before, nothing of them is visible.
- ``put`` of a key that exists changes nothing and is no error; objects are immutable.
- ``get`` of a key that does not exist raises KeyError.
- ``list`` yields each key once, in order, and no half-written one.
- A refusal of the medium (full, read-only, no permission) is StorageError, and nothing is lost.
"""

from collections.abc import Iterator
from typing import Protocol


class Backend(Protocol):
    """A flat store of immutable byte strings; keys are ``[a-z0-9.-]+``."""

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, durably."""

    def get(self, key: str) -> bytes:
        """The bytes of a key."""

    def exists(self, key: str) -> bool:
        """Is there such a key?"""

    def list(self) -> Iterator[str]:
        """All keys, in order."""
