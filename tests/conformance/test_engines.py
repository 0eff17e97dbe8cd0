"""Engines: what they owe whoever hands them work, whichever it is."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillhouse.engine.choice import EngineKind, EngineSettings, open_engine
from stillhouse.engine.inline_engine import InlineEngine
from stillhouse.engine.local_engine import LocalEngine
from stillhouse.errors import EngineError

ENGINES = {
    "inline": EngineSettings(workers=1),
    "local": EngineSettings(workers=2),
    # Starting Ray takes ten seconds, and its eight processes most of a gigabyte.
    "ray": EngineSettings(kind=EngineKind.RAY),
}
LOCAL = [name for name in ENGINES if name != "ray"]


@pytest.fixture(scope="module", params=[*LOCAL, pytest.param("ray", marks=pytest.mark.slow)])
def engine(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "240")  # beside other tests it takes long to start
        engine = open_engine(ENGINES[request.param])
        yield engine
        engine.close()


def squares(numbers):
    return [number * number for number in numbers]


def slower_at_first(number):
    time.sleep(0.05 if number < 10 else 0)
    return number


def odd_fails(number):
    if number == 13:
        raise ValueError("13 is odd")
    return number


def test_results_come_in_the_order_of_the_batches(engine):
    batches = [list(range(start, start + 3)) for start in range(0, 60, 3)]
    assert list(engine.map(squares, batches)) == [squares(batch) for batch in batches]
    assert list(engine.map(slower_at_first, range(40))) == list(range(40))


def test_an_engine_does_several_things_one_after_the_other(engine):
    assert list(engine.map(squares, [[1], [2]] * 10)) == [[1], [4]] * 10
    assert list(engine.map(odd_fails, [1, 2] * 10)) == [1, 2] * 10


def test_no_batches_are_no_results(engine):
    assert list(engine.map(squares, [])) == []


def test_what_work_raises_is_raised_at_its_turn(engine):
    done = []
    with pytest.raises(ValueError, match="13 is odd"):
        done.extend(engine.map(odd_fails, range(40)))
    assert done == list(range(13))


def test_batches_are_taken_as_results_are(engine):
    taken = itertools.count()
    results = engine.map(squares, ([next(taken)] for _ in range(10_000)))
    for _ in range(20):
        next(results)
    assert next(taken) < 100, "a stream of any length is never in memory as a whole"


def killed_once(marker):
    """The first process that takes a marked batch is gone; a second one finds the mark, and does it."""
    path, number = marker
    if number == 12 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_killed(number):
    if number == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_costs_nothing(tmp_path: Path):
    marks = [(tmp_path / "killed", number) for number in range(40)]
    assert list(LocalEngine(2).map(killed_once, marks)) == list(range(40))
    assert (tmp_path / "killed").exists(), "or nobody was killed"


def test_a_batch_that_kills_every_worker_is_told():
    done = []
    with pytest.raises(EngineError, match="died 3 times"):
        done.extend(LocalEngine(2).map(always_killed, range(40)))
    assert done == list(range(12)), "what came before it is there"


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom stillhouse.engine.local_engine import LocalEngine\n"
        "for pid in LocalEngine(2).map(__import__('tests.conformance.test_engines', fromlist=['x']).own_pid, range(10**9)):\n"
        "    print(pid, flush=True)\n    time.sleep(0.02)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        workers = {int(parent.stdout.readline()) for _ in range(40)} - {parent.pid}
        assert workers, "or nobody was started"
        parent.kill()
    until = time.monotonic() + 60
    while any(
        Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text() for pid in workers
    ):
        assert time.monotonic() < until, workers
        time.sleep(0.1)


def own_pid(number):
    return os.getpid()


def test_a_script_is_not_run_again(tmp_path):
    """Python's own start of a process runs a script once more that does not ask for its ``__name__``; examples in docs do not."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun', flush=True)\nfrom stillhouse.engine.local_engine import LocalEngine\n"
        "import tests.conformance.test_engines as work\n"
        "print(sum(1 for _ in LocalEngine(2).map(work.own_pid, range(100))))\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.stdout == "begun\n100\n"


def test_the_settings_choose():
    assert isinstance(open_engine(EngineSettings(workers=1)), InlineEngine)
    assert isinstance(open_engine(EngineSettings()), LocalEngine)
