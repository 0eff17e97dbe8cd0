"""The demo's recipe with ten seeds, each from an empty home: what is gained on held-out families, and how sure that is.

    python benchmarks/bench_students.py [--seeds 1 2 3] [--homes FOLDER]

Every seed gives other answers, another order of training, other adapters, and other answers to the evaluation. The recipe was
tuned on tasks of the train families only. All seeds are printed, whatever they show. With ``--homes`` every seed's home is kept
there, and a seed that was stopped goes on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--homes", type=Path)
    options = parser.parse_args()
    print(
        "| seed | rows | suite | tasks x answers | before | unverified | after | after - before | after - unverified | all, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            report(seed, run(seed, (options.homes or Path(folder)) / str(seed)))


def run(seed: int, folder: Path) -> dict:
    text = resources.files("stillhouse.runs").joinpath("recipes", "demo.toml").read_text()
    text = (
        text.replace("[eval]", f"[eval]\nseed = {1000 + seed}")
        .replace("temperature = 0.8", f"temperature = 0.8\nseed = {seed}")
        .replace("[train]", f"[train]\nseed = {seed}")
    )
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(text)
    words = [sys.executable, "-m", "stillhouse"]
    home = ["--home", str(folder / "home")]
    if not (folder / "home").exists():
        subprocess.run([*words, "init", *home], check=True, capture_output=True)
    done = subprocess.run([*words, "run", str(recipe), *home, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(seed: int, done: dict) -> None:
    for suite, found in done["eval"].items():
        rates = [f"{100 * found[arm]['pass_at_1']:.1f} %" for arm in ("before", "unverified", "after")]
        differences = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * found[name][end] for end in ("mean", "low", "high")))
            for name in ("difference", "difference_to_unverified")
        ]
        cells = [seed, done["rows"], suite, f"{found['tasks']} x {found['samples']}", *rates, *differences]
        print(f"| {' | '.join(map(str, cells))} | {done['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
