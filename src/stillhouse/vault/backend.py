"""Where bytes live: the smallest interface that a store must offer.

Promises every implementation keeps, tested by one suite (tests/conformance):

- ``put`` is atomic and durable: after it returns the bytes survive power loss; before, nothing of them is visible.
- ``put`` of a key that exists changes nothing and is no error; objects are immutable.
- ``get`` and ``read`` of a key that does not exist raise KeyError; ``read`` beyond the end gives what there is.
- ``list`` yields each key once, in order, and no half-written one.
- ``discard`` hides a key and keeps its bytes; ``recover`` undoes that; only ``reclaim``, of what was discarded, removes bytes.
  All three are atomic, and repeating one that was done changes nothing. Neither hiding nor showing replaces bytes by others:
  where both a key and something hidden by its name are there, both stay.
- A refusal of the medium (full, read-only, no permission, no answer) is StorageError, and nothing is lost.
"""

from collections.abc import Iterator
from typing import Protocol


class Backend(Protocol):
    """A flat store of immutable byte strings; keys are ``[a-z0-9.-]+``."""

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key, durably."""

    def get(self, key: str) -> bytes:
        """The bytes of a key."""

    def read(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a key."""

    def size(self, key: str) -> int:
        """How many bytes a key has. Raises KeyError."""

    def exists(self, key: str) -> bool:
        """Is there such a key?"""

    def list(self) -> Iterator[str]:
        """All keys, in order."""

    def discard(self, key: str) -> None:
        """Hide a key: it is no longer listed or read, and can be recovered. A key that is not there is no error."""

    def recover(self, key: str) -> bool:
        """Show a discarded key again; False where there is none."""

    def discarded(self) -> Iterator[str]:
        """All discarded keys, in order."""

    def peek(self, key: str, length: int) -> bytes:
        """The first bytes of a discarded key; none where there is none."""

    def reclaim(self, key: str) -> None:
        """Remove the bytes of a discarded key. Raises StorageError where the store holds on to them."""
