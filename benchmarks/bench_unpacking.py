"""The first use of a GGUF file: unpacking the embedded model as Stillhouse does, and by transformers' own calls alone.

    python benchmarks/bench_unpacking.py

They take turns, each into an empty folder; what comes out must have one digest.
"""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

from stillhouse.generation import load_model
from stillhouse.generation.weights import weights_digest
from stillhouse.teachers.embedded import embedded_weights

ROUNDS = 3


def main() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    weights = embedded_weights()
    digest = weights_digest(weights)
    taken: dict[str, list[float]] = {"ours": [], "transformers": []}
    results = set()
    for _ in range(ROUNDS):
        for name, seconds in taken.items():
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                if name == "transformers":
                    stack.enter_context(mock.patch.object(load_model, "_header_read_once", contextlib.nullcontext))
                started = time.perf_counter()
                unpacked = load_model._unpacked(weights, digest, Path(folder))
                seconds.append(time.perf_counter() - started)
                results.add(weights_digest(unpacked))
    assert len(results) == 1, "the results differ"
    ours, peer = (statistics.median(taken[name]) for name in ("ours", "transformers"))
    for name, seconds in taken.items():
        print(f"{name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    print(f"ratio {peer / ours:.2f}")


if __name__ == "__main__":
    main()
