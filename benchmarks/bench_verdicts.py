"""The same answers judged on an idle and on a loaded machine: do they get the same verdicts?

    python benchmarks/bench_verdicts.py HOME      (a home in which the demo ran)

Limits count CPU time of the program, so other work should not matter; evalplus and others count wall-clock time. The load is
four processes for each core.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from stillhouse.datasets.tasks.judge import judge
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.home.ledger import answer_queries
from stillhouse.home.ledger.projection import tables
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from stillhouse.sandbox.pool import Sandbox


def main(home: Path) -> None:
    with open_home(read_settings(home)) as app, app.ledger.engine.connect() as connection:
        keys = [row.key for row in connection.execute(tables.answers.select())]
        tasks = {task.id: task for task in load_suite("stillhouse")}
        work = [(tasks[a.task], a.text) for a in answer_queries.answers(app.ledger, keys).values() if a.task in tasks]
    idle, seconds_idle = verdicts(work)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        loaded, seconds_loaded = verdicts(work)
    finally:
        for process in busy:
            process.kill()
    differing = [(a, b) for a, b in zip(idle, loaded, strict=True) if a != b]
    print(
        f"{len(work)} answers: {seconds_idle:.1f} s idle, {seconds_loaded:.1f} s with {len(busy)} busy processes beside"
    )
    print(f"{len(differing)} verdicts differ {differing[:5] or ''}")


def verdicts(work: list) -> tuple[list, float]:
    started = time.perf_counter()
    with Sandbox() as sandbox:
        found = [(verdict.status, verdict.check, verdict.checks_passed) for verdict in judge(sandbox, iter(work))]
    return found, time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
