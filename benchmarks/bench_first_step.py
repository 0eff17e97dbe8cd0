"""From a dataset of many rows to a training's first step, and again after a kill: CPU seconds and peak memory.

    python benchmarks/bench_first_step.py [--rows 78000] [--bytes 1500]

Each time is a process of its own: it loads the embedded student, makes the rows' tokens (or finds those of the process before)
and decides all steps. The peer makes the same tokens with the tokenizer alone, in one call a row, and keeps them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from bench_data import write_rows
from bench_training import weights


def rows(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for line in file:
            turns = json.loads(line)["messages"]
            yield turns[0]["content"], turns[1]["content"]


def ours(folder: Path) -> None:
    from stillhouse.generation.weights import weights_digest
    from stillhouse.nouns import Message, Method, Signal
    from stillhouse.students.documents import Record
    from stillhouse.students.training_loop import Job, make_ready

    model = weights(folder)
    job = Job(
        training="bench", folder=str(folder / "training"), cache=str(folder), weights=str(model), teacher_weights="",
        weights_digest=weights_digest(model), teacher_digest="", dtype="bfloat16", keeps_tokens=True, method=Method.LORA, rank=16,
        learning_rate=5e-5, epochs=1, seed=0, signal=Signal.TEXT, layers=0, gradient_checkpointing=False, processes=1,
    )  # fmt: skip
    asked = (
        Record(str(n), (Message("user", said),), answer, 1)
        for n, (said, answer) in enumerate(rows(folder / "rows.jsonl"))
    )
    ready = make_ready(job, lambda: asked)
    tell(f"{len(ready.steps):,} steps of {sum(len(one.tokens) for one in ready.documents):,} tokens")


def peer(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights(folder))
    kept = array("I")
    for asked, answer in rows(folder / "rows.jsonl"):
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        kept.extend(tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"])
    tell(f"{len(kept):,} tokens")


def tell(what: str) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_utime + used.ru_stime:.1f} CPU s, {used.ru_maxrss / 1024:,.0f} MB: {what}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=78_000)
    parser.add_argument("--bytes", type=int, default=1500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.jsonl", given.rows, given.bytes)
        weights(Path(folder))
        for side, called in (("ours", "first"), ("ours", "after a kill"), ("peer", "peer")):
            started = time.perf_counter()
            done = subprocess.run([sys.executable, __file__, side, folder], capture_output=True, text=True, check=True)
            print(f"{called:12} {time.perf_counter() - started:6.1f} s, {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["peer"]):
        (ours if sys.argv[1] == "ours" else peer)(Path(sys.argv[2]))
    else:
        main()
