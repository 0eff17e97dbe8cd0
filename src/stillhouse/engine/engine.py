"""The seam: work is a pure function over batches, and results come in the order of the batches.

Whoever has an engine asks nothing else of it, so what comes out is the same with one worker, with many, and on a cluster. Batches
are taken as there is room for them: a stream of any length is never in memory as a whole.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")

# Batches that are under way for each worker: one that it works on, and one that waits for it.
AHEAD = 2


class Engine(Protocol):
    """Does work on batches. Close it when all is done."""

    def map(self, work: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """The results of ``work``, in the order of the batches. What ``work`` raises is raised here, at that batch's turn.

        ``work``, the batches and the results are pickled, and ``work`` is sent to each worker once. Raises EngineError where
        workers die again and again.
        """

    def close(self) -> None:
        """Let go of the workers."""
