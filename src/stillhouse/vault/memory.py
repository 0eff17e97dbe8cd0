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
        """Hide a key, beside what is hidden by that name, unless that is the same."""
        if key in self._objects:
            data, name, number = self._objects.pop(key), key, 0
            while self._discarded.get(name, data) != data:
                number += 1
                name = f"{key}.{number}"
            self._discarded[name] = data

    def recover(self, key: str) -> bool:
        """Show a discarded key again, where none is."""
        if key not in self._discarded or key in self._objects:
            return False
        self._objects[key] = self._discarded.pop(key)
        return True

    def discarded(self) -> Iterator[str]:
        """All discarded keys, in order."""
        yield from sorted(self._discarded)

    def peek(self, key: str, length: int) -> bytes:
        """The first bytes of a discarded key."""
        return self._discarded.get(key, b"")[:length]

    def reclaim(self, key: str) -> None:
        """Remove the bytes of a discarded key."""
        self._discarded.pop(key, None)
