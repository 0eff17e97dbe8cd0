"""Training tokens per second and peak memory beside TRL's SFTTrainer: same data, packing, precision, model and machine.

    python benchmarks/bench_training.py     (pip install 'stillhouse[bench]' first)

Data: the reference solutions of the suite's train tasks. Both sides pack into rows of at most 1,024 tokens whose documents do not
attend to each other, compute in bf16 where the processor does, take one row a step, and look at answer tokens only. Each run is
a process of its own; best of 2, in turns. A second part kills a training and counts the seconds until it goes on.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS, STEPS = 2, 14
HERE = Path(__file__)


def data() -> list[tuple[str, str]]:
    from stillhouse.datasets.tasks.suites import load_suite

    tasks = load_suite("stillhouse", "train")[:150]
    return [(task.messages[-1].content, f"```python\n{task.solution.rstrip()}\n```") for task in tasks]


def weights(cache: Path) -> Path:
    """The embedded model as a plain folder, which both sides read."""
    from stillhouse.generation.load_model import load
    from stillhouse.teachers.embedded import embedded_weights

    load(embedded_weights(), dtype="bfloat16", cache=cache / "models")
    return next((cache / "models").iterdir())


def ours(method: str, cache: Path) -> None:
    from stillhouse.generation.weights import weights_digest
    from stillhouse.nouns import Message, Method, Signal
    from stillhouse.students.documents import Record
    from stillhouse.students.training_loop import Job, StepDone, make_ready, train

    model = weights(cache)
    records = tuple(Record(str(n), (Message("user", p),), a, 1) for n, (p, a) in enumerate(data()))
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            training="bench", folder=folder, cache=str(cache), weights=str(model), weights_digest=weights_digest(model),
            teacher_weights="", teacher_digest="", dtype="bfloat16", keeps_tokens=True, method=Method(method), rank=16,
            learning_rate=5e-5, epochs=2, seed=0, signal=Signal.TEXT, layers=0, gradient_checkpointing=False, processes=1,
        )  # fmt: skip
        steps: list[StepDone] = []
        ready = make_ready(job, lambda: records)
        ready.steps = ready.steps[:STEPS]
        train(job, ready, lambda event: steps.append(event) if isinstance(event, StepDone) else None)
    tell(sum(step.tokens for step in steps[2:]) / sum(step.seconds for step in steps[2:]))


def theirs(method: str, cache: Path) -> None:
    import peft
    import torch
    import transformers
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    transformers.logging.set_verbosity_error()
    folder = weights(cache)
    rows = [
        {"prompt": [{"role": "user", "content": p}], "completion": [{"role": "assistant", "content": a}]}
        for p, a in data()
    ]
    arguments = SFTConfig(
        output_dir=str(cache / "trl"), packing=True, max_length=1024, per_device_train_batch_size=1, learning_rate=5e-5,
        max_steps=STEPS, logging_steps=1000, save_strategy="no", report_to=[], bf16=True, gradient_checkpointing=False,
        completion_only_loss=True, use_cpu=not torch.cuda.is_available(), optim="adamw_torch_fused", disable_tqdm=True,
    )  # fmt: skip
    # Whole weights stay in float32 under autocast, as its documentation has it; adapters go beside bf16 weights.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if method == "lora" else torch.float32
    )
    adapters = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    seen: list[tuple[float, int]] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            seen.append((time.perf_counter(), state.num_input_tokens_seen))

    arguments.include_num_input_tokens_seen = "all"
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), callbacks=[Clock()],
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        peft_config=adapters if method == "lora" else None,
    )  # fmt: skip
    trainer.train()
    (start, before), (end, after) = seen[1], seen[-1]
    tell((after - before) / (end - start))


def tell(tokens_per_second: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"tokens_per_second": tokens_per_second, "peak_gib": peak}))


def measure(side: str, method: str, cache: Path) -> dict[str, float]:
    words = [sys.executable, str(HERE), side, method, str(cache)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def resumption() -> None:
    """Kill the demo's training when it has a checkpoint; how long until the next step is taken?"""
    from stillhouse.home.ledger import training_queries
    from stillhouse.home.open_home import open_home
    from stillhouse.home.settings import read_settings

    with tempfile.TemporaryDirectory() as folder:
        home, recipe = Path(folder) / "home", Path(folder) / "r.toml"
        rows = [{"id": str(n), "messages": [{"role": "user", "content": p}]} for n, (p, _) in enumerate(data())]
        (Path(folder) / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        answers = [{"task": str(n), "text": a} for n, (_, a) in enumerate(data())]
        (Path(folder) / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
        text = '[teacher]\nuse = "r"\n[prompts]\nfile = "p.jsonl"\n[dataset]\nname = "d"\n'
        recipe.write_text(f'{text}[train]\nstudent = "smollm2-135m-instruct"\nepochs = 4\n')
        words, at = [sys.executable, "-m", "stillhouse"], ["--home", str(home)]
        register = [
            "teacher",
            "add",
            "r",
            "--kind",
            "replay",
            "--model",
            "m",
            "--lab",
            "l",
            "--channel",
            "open-weights",
        ]
        register += ["--terms", "licence/mit", "--weights", f"{folder}/a.jsonl"]
        for command in (["init"], register):
            subprocess.run([*words, *command, *at], check=True, capture_output=True)

        def steps() -> int:
            with open_home(read_settings(home)) as app:
                return app.ledger.counts()["steps"]

        process = subprocess.Popen([*words, "train", str(recipe), *at], stderr=subprocess.DEVNULL)
        while not list(home.glob("trainings/*/step-*/checkpoint.json")):
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = steps()
        with open_home(read_settings(home)) as app:
            assert not training_queries.models(app.ledger)
        started = time.perf_counter()
        process = subprocess.Popen([*words, "train", str(recipe), *at], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        gone_on = next(time.perf_counter() for line in process.stderr if "going on after step" in line)
        print(
            f"\nfrom the command to going on after the kill: {gone_on - started:.1f} s ({before} steps had been taken)"
        )
        process.kill()
        process.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        weights(cache)
        print(
            "| | ours, tokens/s | TRL, tokens/s | ratio | ours, peak GiB | TRL, peak GiB |\n|---|---|---|---|---|---|"
        )
        for method in ("lora", "full"):
            rounds = [(measure("ours", method, cache), measure("theirs", method, cache)) for _ in range(ROUNDS)]
            speed = [max(one[side]["tokens_per_second"] for one in rounds) for side in (0, 1)]
            peak = [min(one[side]["peak_gib"] for one in rounds) for side in (0, 1)]
            print(
                f"| {method} | {speed[0]:.0f} | {speed[1]:.0f} | {speed[0] / speed[1]:.2f} | {peak[0]:.2f} | {peak[1]:.2f} |",
                flush=True,
            )
    resumption()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"ours": ours, "theirs": theirs}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
    else:
        main()
