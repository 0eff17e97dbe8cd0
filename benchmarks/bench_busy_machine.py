"""Generation with one busy process per core beside it, and alone: OpenMP as it comes (threads spin while they wait) and as
Stillhouse sets it (they spin shortly, then sleep). Every measurement is a process of its own, because the library reads its
setting when it is loaded; the four take turns, and the medians are compared. What is lost on an idle machine is a few percent,
less than two runs of the same differ: it is measured in pairs whose order alternates, and told with the spread of the pairs.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stillhouse.__main__ import CHOSEN_BY, WAITING

ROUNDS, PAIRS, ANSWERS, BATCH, LIMIT = 3, 8, 16, 16, 32

SETTINGS: dict[str, dict[str, str]] = {"as it comes": {}, "ours": dict([WAITING])}


def measure(cache: Path) -> None:
    """Print tokens per second of one decoding, loading left out; the model is unpacked in ``cache``, once for all."""
    import transformers

    from stillhouse.datasets.tasks.suites import load_suite
    from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of
    from stillhouse.generation.decode import decode, never
    from stillhouse.generation.load_model import load
    from stillhouse.generation.measured import training_dtype
    from stillhouse.generation.sampling import Sampling
    from stillhouse.runs.run_recipe import spread
    from stillhouse.teachers.embedded import embedded_weights

    transformers.logging.set_verbosity_error()
    loaded = load(embedded_weights(), dtype=training_dtype(), cache=cache)
    prompts = [
        loaded.render([{"role": "user", "content": task.messages[-1].content}])
        for task in spread(load_suite("stillhouse", "train"), ANSWERS)
    ]
    requests = [GenerationRequest(str(n), prompt, seed_of(0, prompt, n)) for n, prompt in enumerate(prompts)]
    started, tokens = time.perf_counter(), 0
    for batch in plan_batches(requests, BATCH):
        tokens += sum(made.completion_tokens for made in decode(loaded, batch, Sampling(0.8, LIMIT), never))
    print(tokens / (time.perf_counter() - started))


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
    """``count`` processes that compute without end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def speed(waiting: dict[str, str], beside: int, cache: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY} | waiting
    with others(beside):
        out = subprocess.run(
            [sys.executable, __file__, "measure", cache], env=environment, check=True, capture_output=True
        )
    return float(out.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(Path(sys.argv[2]))
        sys.exit()
    cores = os.cpu_count() or 1
    cases = {(name, beside): [] for name in SETTINGS for beside in (0, cores)}
    with tempfile.TemporaryDirectory() as cache:
        speed(dict([WAITING]), 0, cache)  # which unpacks the model
        for _ in range(ROUNDS):
            for (name, beside), found in cases.items():
                found.append(speed(SETTINGS[name], beside, cache))
                print(f"  {name}, {beside} busy processes: {found[-1]:.0f} tokens/s", file=sys.stderr, flush=True)
        pairs = []
        for pair in range(PAIRS):
            order = ("as it comes", "ours") if pair % 2 == 0 else ("ours", "as it comes")
            found = {name: speed(SETTINGS[name], 0, cache) for name in order}
            pairs.append(found["ours"] / found["as it comes"])
            print(f"  pair {pair}: {found}", file=sys.stderr, flush=True)
    medians = {case: statistics.median(found) for case, found in cases.items()}
    for (name, beside), value in medians.items():
        print(f"{name}, {beside} busy processes: {value:.0f} tokens/s")
    spread = f"median of {PAIRS} pairs, {min(pairs):.2f} to {max(pairs):.2f}"
    print(f"alone, ours to as it comes: {statistics.median(pairs):.3f} ({spread})")
    for name in SETTINGS:
        print(f"{name}, busy to alone: {medians[name, cores] / medians[name, 0]:.2f}")
