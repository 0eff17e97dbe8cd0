"""The engine without workers: everything is done where it is asked for."""

from collections.abc import Callable, Iterable, Iterator

from stillhouse.engine.engine import Batch, Result


class InlineEngine:
    """Does each batch when its result is taken."""

    def map(self, work: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """The results, one after the other."""
        return map(work, batches)

    def close(self) -> None:
        """There is nothing to let go of."""
