"""Bytes in memory: for tests, and for trying things out."""

from collections.abc import Iterator


class MemoryBackend:
    """A dictionary with the promises of a backend, but for outliving the process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._discarded: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        self._objects.setdefault(key, bytes(data))

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        return self._objects[key]

    def read(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a key."""
        return self._objects[key][start : start + length]

    def size(self, key: str) -> int:
        """How many bytes a key has."""
        return len(self._objects[key])

    def exists(self, key: str) -> bool:
        """Is there such a key?"""
        return key in self._objects

    def list(self) -> Iterator[str]:
        """All keys, in order."""
        yield from sorted(self._objects)

    def discard(self, key: str) -> None:
        """Hide a key."""
        if key in self._objects:
            self._discarded[key] = self._objects.pop(key)

    def recover(self, key: str) -> bool:
        """Show a discarded key again."""
        if key not in self._discarded:
            return False
        self._objects.setdefault(key, self._discarded.pop(key))
        return True

    def discarded(self) -> Iterator[str]:
        """All discarded keys, in order."""
        yield from sorted(self._discarded)

    def reclaim(self, key: str) -> None:
        """Remove the bytes of a discarded key."""
        self._discarded.pop(key, None)
