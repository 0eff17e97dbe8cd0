"""The sandbox as others use it: a pool of workers on the best rung that this machine allows."""

import os
import platform
import queue
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from stillhouse.errors import SandboxUnavailable
from stillhouse.sandbox.programs import Limits, Program, ProgramOutcome
from stillhouse.sandbox.worker import RUNGS, Worker

# Programs in flight per worker: enough that a worker never waits for the next, few enough to keep the order cheap.
_AHEAD = 4


class Sandbox:
    """Runs untrusted programs, several at a time; close it, or use it as a context manager."""

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008
        workers: int = 0,
        rung: str = "",
        packages: Sequence[Path] = (),
    ) -> None:
        """``workers`` 0 means one per core; ``rung`` "" the best available; ``packages`` are folders of installed packages that
        programs may import. Raises SandboxUnavailable.
        """
        self.limits, self._packages = limits, tuple(packages)
        self.rung = rung or best_rung()
        count = workers or len(os.sched_getaffinity(0))
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all = [Worker(self.rung, self._packages) for _ in range(count)]
        for worker in self._all:
            self._idle.put(worker)

    @property
    def isolation(self) -> str:
        """The rung in use, as it stands in verdicts."""
        return f"{self.rung}+seccomp"

    def run(self, program: Program) -> ProgramOutcome:
        """Run one program. One that stalled gets a second chance, since a stall may be the machine's doing."""
        outcome = self._once(program)
        return self._once(program) if outcome.status == "stalled" else outcome

    def map(self, programs: Iterable[Program]) -> Iterator[ProgramOutcome]:
        """Outcomes in the order of the programs."""
        with ThreadPoolExecutor(len(self._all)) as threads:
            futures: deque[Future[ProgramOutcome]] = deque()
            for program in programs:
                futures.append(threads.submit(self.run, program))
                if len(futures) >= _AHEAD * len(self._all):
                    yield futures.popleft().result()
            for future in futures:
                yield future.result()

    def _once(self, program: Program) -> ProgramOutcome:
        worker = self._idle.get()
        try:
            return worker.run(program, self.limits)
        except (BrokenPipeError, ValueError):  # the zygote died, or what it sent is no frame: neither can be used again
            worker.close()
            self._all.remove(worker)
            worker = Worker(self.rung, self._packages)
            self._all.append(worker)
            return ProgramOutcome(status="crash", isolation=self.isolation, error="the sandbox had to be restarted")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End every worker."""
        for worker in self._all:
            worker.close()
        self._all.clear()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def best_rung() -> str:
    """The first rung that works here. Raises SandboxUnavailable with what each of them lacked."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SandboxUnavailable(f"({sys.platform} on {platform.machine()} is not supported)")
    reasons = []
    for rung in RUNGS:
        try:
            Worker(rung).close()
        except SandboxUnavailable as failure:
            reasons.append(failure.detail)
        else:
            return rung
    raise SandboxUnavailable(" ".join(reasons))
