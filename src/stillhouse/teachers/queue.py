"""The asks of one collection as they wait, are out, and come back: what the event loop of ``http_teacher`` works through."""

import asyncio
import contextlib
import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from stillhouse.nouns import Ask
from stillhouse.teachers.client import Admit, Deliver, Failure, More, Reply, nothing_more

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


class Item(NamedTuple):
    """An ask that waits. ``attempt`` counts its failures, ``refusals`` how often the teacher was too busy for it.

    ``free`` is its last failure where that cost nothing: then it is still admitted.
    """

    ask: Ask
    since: float
    attempt: int = 0
    refusals: int = 0
    free: Failure | None = None

    def again(self, attempt: int, free: Failure | None, *, busy: bool) -> "Item":
        """The same for its next try."""
        return self._replace(attempt=attempt, free=free, refusals=self.refusals + busy)


def backoff(attempt: int) -> float:
    """Exponential with jitter, for when the teacher names no time of its own."""
    base = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (min(attempt, 12) - 1))
    return base * (0.5 + random.random() / 2)  # noqa: S311


class RequestQueue:
    """One call of ``answer``. Used in the event loop's thread alone, but for ``stopping`` and reading counts."""

    def __init__(self, todo: Sequence[Ask], admit: Admit, deliver: Deliver, more: More) -> None:
        self.admit, self._deliver, self._more = admit, deliver, more
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.outstanding = 0  # calls that were admitted and are not settled yet
        self.short_of_money = False
        self._fresh: deque[Ask] = deque(todo)
        self._back: list[Item] = []
        self._due: list[tuple[float, int, Item]] = []
        self._number = self._thinking = 0
        self._woken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Shall nothing more be sent?"""
        return self.error is not None or self.stopping.is_set()

    @property
    def finished(self) -> bool:
        """Is there nothing left to send, to wait for, or to think about?"""
        return not (self.waiting or self.outstanding or self._thinking)

    @property
    def waiting(self) -> int:
        """Asks that are to be sent."""
        return len(self._fresh) + len(self._back) + len(self._due)

    def next_item(self) -> tuple[Item | None, float]:
        """What comes next: what was put back, then what is due again, then what is new; or the seconds until something is."""
        if self._back:
            return self._back.pop(), 0.0
        moment = time.monotonic()
        if self._due and self._due[0][0] <= moment:
            return heapq.heappop(self._due)[2], 0.0
        if self._fresh:
            return Item(self._fresh.popleft(), moment), 0.0
        return None, self._due[0][0] - moment if self._due else float("inf")

    def put_back(self, item: Item) -> None:
        """It could not start yet."""
        self._back.append(item)

    def later(self, item: Item, seconds: float) -> None:
        """Try it again after so many seconds; others go on meanwhile."""
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._number, item))

    async def settle(self, item: Reply | Failure) -> None:
        """Hand on what became of an admitted call, and take up what follows from it."""
        self._deliver(item)
        self.outstanding -= 1
        if self._more is nothing_more or (isinstance(item, Failure) and item.again):
            return
        self._thinking += 1
        try:
            self._fresh.extend(await asyncio.to_thread(self._more, item))
        finally:
            self._thinking -= 1

    async def give_up(self) -> None:
        """Nothing more will be tried: what is admitted and waits for another try surely cost nothing."""
        for item in (*self._back, *(due for _, _, due in self._due)):
            if item.free is not None:
                self._deliver(item.free)

    async def woken(self, seconds: float) -> None:
        """Wait until something has ended, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    def wake(self) -> None:
        """Something has ended."""
        self._woken.set()
