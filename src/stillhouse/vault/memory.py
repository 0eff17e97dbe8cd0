"""Bytes in memory: for tests, and for trying things out."""

from collections.abc import Iterator


class MemoryBackend:
    """A dictionary with the promises of a backend, but for outliving the process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        self._objects.setdefault(key, bytes(data))

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        return self._objects[key]

    def exists(self, key: str) -> bool:
        """Is there such a key?"""
        return key in self._objects

    def list(self) -> Iterator[str]:
        """All keys, in order."""
        yield from sorted(self._objects)
