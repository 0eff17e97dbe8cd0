"""How much the bodies of all calls may take together: a thousand large ones at once are refused, not swapped out."""

import contextlib
from collections.abc import AsyncIterator

from stillhouse.teachers.gateway.admission import Refused
from stillhouse.teachers.gateway.endpoints import Refusal


class Memory:
    """How much bodies may take together."""

    def __init__(self, most: int) -> None:
        self._most, self.taken = most, 0

    def take(self, size: int) -> None:
        """Raises Refused where there is no room."""
        if self.taken + size > self._most:
            raise Refused(Refusal(503, "busy", "Too many large bodies at once; try again."))
        self.taken += size

    @contextlib.asynccontextmanager
    async def growing(self) -> "AsyncIterator[MemoryShare]":
        """A share that grows while a body is read, and is given back at the end of the block."""
        share = MemoryShare(self)
        try:
            yield share
        finally:
            self.taken -= share.size


class MemoryShare:
    """What one body takes of the memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.size = memory, 0

    def take(self, size: int) -> int:
        """Take more; returns what it is now."""
        self._memory.take(size)
        self.size += size
        return self.size
