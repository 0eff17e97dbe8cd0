"""Compute: a million rows of sacct, a thousand GPUs sampled every minute for a month, and what the back-test earns.

python benchmarks/bench_compute.py [sacct] [samples] [backtest] [--fleet FOLDER]

The peer of the first is pandas reading the same columns; there is none for the others. Each runs in a process of its own, so
that its peak memory is its own.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, GPUS, DAYS = 1_000_000, 1000, 31
START = 1_793_491_200
FLEET = Path(__file__).parents[2] / "shared" / "data" / "fleet"


def write_sacct(path: Path) -> None:
    from stillhouse.compute.importers.slurm_jobs import FIELDS

    chance = random.Random(0)
    with path.open("w") as file:
        for number in range(ROWS):
            start, seconds, gpus = (
                START + chance.randrange(30 * 86400),
                chance.randrange(60, 86400),
                chance.choice((1, 2, 4, 8, 16)),
            )
            row = {
                "JobIDRaw": number,
                "JobID": number,
                "User": f"user{number % 300}",
                "Account": f"team{number % 40}",
                "Partition": "h100",
                "QOS": "normal",
                "State": chance.choice(("COMPLETED", "FAILED", "CANCELLED by 1000", "TIMEOUT")),
                "Submit": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start - 600)),
                "Eligible": "Unknown",
                "Start": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start)),
                "End": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start + seconds)),
                "ElapsedRaw": seconds,
                "TimelimitRaw": 1440,
                "NNodes": -(-gpus // 8),
                "NodeList": f"gpu{number % 200:03d}",
                "ReqTRES": f"billing={gpus},cpu={gpus * 12},gres/gpu={gpus}",
                "AllocTRES": f"billing={gpus},cpu={gpus * 12},gres/gpu:h100={gpus},gres/gpu={gpus},mem={gpus * 120}G,node=1",
                "Comment": "a | b" if number % 100 == 0 else "",
            }
            file.write("|".join(str(row.get(name, "")) for name in FIELDS) + "\n")


def read_sacct(path: Path) -> dict[str, float]:
    from stillhouse.compute.importers.slurm_jobs import read_parsable

    started = time.perf_counter()
    with path.open() as lines:
        found = read_parsable(lines, "p")
    assert found.jobs.height == ROWS, found.left_out
    return {"seconds": time.perf_counter() - started}


def read_sacct_with_pandas(path: Path) -> dict[str, float]:
    """Columns and counts of GPUs as a script would: rows with a | in a comment are skipped."""
    import pandas

    from stillhouse.compute.importers.slurm_jobs import FIELDS

    started = time.perf_counter()
    table = pandas.read_csv(path, sep="|", names=list(FIELDS), on_bad_lines="skip", dtype=str, keep_default_na=False)
    table["gpus"] = table["AllocTRES"].str.extract(r"gres/gpu=(\d+)")[0].astype(float)
    for name in ("Submit", "Start", "End"):
        table[name] = pandas.to_datetime(table[name], errors="coerce")
    return {"seconds": time.perf_counter() - started, "rows": len(table)}


def account_samples(path: Path) -> dict[str, float]:
    import numpy as np
    import polars as pl

    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.compute.accounting.states import State, account
    from stillhouse.compute.readings import JOBS, PARTS, SAMPLES, Readings

    minutes = DAYS * 1440
    jobs = [
        dict.fromkeys(JOBS, "")
        | {
            "job": str(gpu),
            "pool": "p",
            "parts": PARTS,
            "nodes": [f"n{gpu // 8}"],
            "submitted": START,
            "start": START,
            "end": START + minutes * 60,
            "suspended": 0,
            "limit": None,
            "ended": "completed",
            "mean_use": None,
            "seen": None,
        }
        for gpu in range(GPUS)
    ]
    made = []
    for gpu in range(GPUS):
        use = np.repeat(np.random.default_rng(gpu).random(minutes // 60) < 0.6, 60).astype(np.float32)
        made.append(
            pl.DataFrame(
                {
                    "time": np.arange(START, START + minutes * 60, 60),
                    "pool": pl.repeat("p", minutes, eager=True),
                    "node": pl.repeat(f"n{gpu // 8}", minutes, eager=True),
                    "gpu": pl.repeat(str(gpu), minutes, eager=True),
                    "parts": pl.repeat(PARTS, minutes, dtype=pl.Int64, eager=True),
                    "job": pl.repeat(str(gpu), minutes, eager=True),
                    "use": use,
                    "rung": pl.repeat("GPU_UTIL", minutes, eager=True),
                }
            ).cast(SAMPLES)
        )
    samples = pl.concat(made)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    readings = Readings(jobs=pl.DataFrame(jobs, schema=JOBS, orient="row"), samples=samples)
    (found,) = account(readings, Window(START, START + minutes * 60), {"p": GPUS * PARTS})
    assert found.total(*State) == found.capacity
    return {"seconds": time.perf_counter() - started, "samples": samples.height, "input_gib": round(before, 2)}


def backtest(folder: Path) -> dict[str, object]:
    from stillhouse.compute.forecasts.backtest_report import backtest as run
    from stillhouse.compute.forecasts.idle_series import series_of
    from stillhouse.compute.forecasts.payoffs import Question
    from stillhouse.compute.importers.trace_layouts import read_series
    from stillhouse.home.progress import Silence

    paths = [*sorted((folder / "helios_earth").glob("*.csv.gz")), folder / "philly_nodes.csv.gz"]
    questions = [
        Question(lease, penalty, notice) for lease in (36, 144) for penalty in (5.0, 20.0) for notice in (0, 6)
    ]
    started = time.perf_counter()
    found = run(series_of([file for path in paths for file in read_series(path)]), questions, None, Silence())
    return {"seconds": time.perf_counter() - started, **found["pooled"]}


PARTS_OF_IT = {"sacct": read_sacct, "pandas": read_sacct_with_pandas, "samples": account_samples, "backtest": backtest}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("which", nargs="*", default=["sacct", "samples", "backtest"])
    options.add_argument("--fleet", type=Path, default=FLEET)
    options.add_argument("--one", default="")
    options.add_argument("--path", type=Path)
    chosen = options.parse_args()
    if chosen.one:
        found = PARTS_OF_IT[chosen.one](chosen.path)
        found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sacct.txt"
        if "sacct" in chosen.which:
            write_sacct(path)
            print(f"{path.stat().st_size / 2**20:.0f} MiB of sacct")
        for one in [name for which in chosen.which for name in ((which, "pandas") if which == "sacct" else (which,))]:
            place = chosen.fleet if one == "backtest" else path
            done = subprocess.run(
                [sys.executable, __file__, "--one", one, "--path", str(place)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(one, done.stdout.strip())


if __name__ == "__main__":
    main()
