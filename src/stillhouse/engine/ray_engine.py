"""A Ray cluster: the one that is given, by ``RAY_ADDRESS`` or an address, or one of this machine that Ray starts itself."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stillhouse.engine.engine import AHEAD, Batch, Result
from stillhouse.errors import EngineError, MissingExtra


class RayEngine:
    """Workers of a Ray cluster, as many as it has processors."""

    def __init__(self, address: str = "") -> None:
        """``address`` "": as Ray finds it. Connects with the first batch. Raises MissingExtra."""
        try:
            import ray
        except ImportError:
            raise MissingExtra(
                "The engine ray needs the package ray.", next_step="pip install 'stillhouse[ray]'"
            ) from None
        self._ray: Any = ray
        self._address, self._connected = address, False

    def map(self, work: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """The results, in order. Raises EngineError where the cluster cannot be reached, or gives a batch up."""
        ray = self._ray
        self._connect()
        handed, waiting, under_way = ray.put(work), iter(batches), deque[Any]()
        do = ray.remote(_done).options(max_retries=3)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while True:
            for batch in itertools.islice(waiting, most - len(under_way)):
                under_way.append(do.remote(handed, batch))
            if not under_way:
                return
            try:
                result: Result = ray.get(under_way.popleft())
            except ray.exceptions.RayTaskError as failure:
                raise failure.cause from failure
            except ray.exceptions.RayError as failure:
                lines = str(failure).splitlines() or [""]
                raise EngineError(
                    f"The Ray cluster gave a batch up: {lines[0]}.", next_step="`ray status` shows what is left of it."
                ) from failure
            yield result

    def close(self) -> None:
        """Disconnect; a cluster that Ray started for this process ends with that."""
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def _connect(self) -> None:
        ray = self._ray
        if self._connected:
            return
        if not ray.is_initialized():
            try:
                ray.init(
                    address=self._address or None, include_dashboard=False, log_to_driver=False, logging_level="error"
                )  # fmt: skip
            except Exception as failure:  # whatever a version of Ray calls it
                where = self._address or "RAY_ADDRESS"
                raise EngineError(
                    f"The Ray cluster at {where} cannot be reached: {(str(failure).splitlines() or ['?'])[0]}.",
                    next_step='`ray status` there says whether it runs; kind = "local" in [engine] works without.',
                ) from failure
            self._connected = True


def _done(work: Callable[[Any], Any], batch: Any) -> Any:
    return work(batch)
