"""Processes of this machine.

They are forked from a server that has loaded little, never from this process, whose threads and open databases they would
inherit. A little work is done here: starting processes costs about a second. A worker that dies (killed, or out of memory) costs
the batches that are under way a second try, in new processes.
"""

import contextlib
import itertools
import multiprocessing
import os
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Generic, NamedTuple

from stillhouse.engine.engine import AHEAD, Batch, Result
from stillhouse.errors import EngineError

# What is done here before any process is started.
_FIRST_BATCHES = 8
# A batch that ends so many workers would end the next one, too.
_TRIES = 3


class LocalEngine:
    """Up to so many worker processes."""

    def __init__(self, workers: int = 0) -> None:
        """``workers`` 0: as many as this process may use processors."""
        self._workers = workers or len(os.sched_getaffinity(0))

    def map(self, work: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """The results, in order. Raises EngineError."""
        waiting = iter(batches)
        yield from map(work, itertools.islice(waiting, _FIRST_BATCHES))
        for first in waiting:
            yield from _Handing(work, self._workers).results(itertools.chain([first], waiting))

    def close(self) -> None:
        """Processes end with the work that they were started for."""


class _Job(NamedTuple):
    batch: Any
    future: "Future[Any]"
    tries: int


class _Handing(Generic[Batch, Result]):
    """Hands out the batches of one piece of work."""

    def __init__(self, work: Callable[[Batch], Result], workers: int) -> None:
        self._work, self._workers = work, workers
        self._pool = self._new_pool()
        self._under_way: deque[_Job] = deque()

    def results(self, batches: Iterator[Batch]) -> Iterator[Result]:
        """The results, in order; batches are handed out as results are taken."""
        try:
            while True:
                for batch in itertools.islice(batches, self._workers * AHEAD - len(self._under_way)):
                    self._under_way.append(_Job(batch, self._submit(batch), 1))
                if not self._under_way:
                    return
                try:
                    result: Result = self._under_way[0].future.result()
                except BrokenProcessPool:
                    self._begin_again()
                else:
                    self._under_way.popleft()
                    yield result
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        return ProcessPoolExecutor(self._workers, context, initializer=_take_up, initargs=(self._work,))

    def _submit(self, batch: Batch) -> "Future[Any]":
        try:
            with _no_main():
                return self._pool.submit(_done, batch)
        except BrokenProcessPool as failure:  # found out when its turn comes
            broken: Future[Any] = Future()
            broken.set_exception(failure)
            return broken

    def _begin_again(self) -> None:
        """Give everything that is under way to new processes. Raises EngineError where that was tried often enough."""
        if self._under_way[0].tries >= _TRIES:
            raise EngineError(
                f"Worker processes died {_TRIES} times at one batch.",
                next_step="They were killed from outside or ran out of memory: set `workers = 1` in [engine] of config.toml "
                "to work in one process.",
            )
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._new_pool()
        self._under_way = deque(_Job(job.batch, self._submit(job.batch), job.tries + 1) for job in self._under_way)


# In a worker: what it was started for.
_work: list[Callable[[Any], Any]] = []


def _take_up(work: Callable[[Any], Any]) -> None:
    _work[:] = [work]
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A process that was killed cannot end its workers, and they would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Start processes that do not run the user's script again, as Python's do, where it has no ``if __name__ == "__main__"``."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _done(batch: Any) -> Any:
    return _work[0](batch)
