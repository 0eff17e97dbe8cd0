"""What a kill costs: answers bought twice, and answers lost; and what one more row costs.

    python benchmarks/bench_kills.py [FOLDER of benchmarks/peers.py]

20 times kill -9, each after a random number of answers, in one collection of 6,000 prompts (200 ms, 200 in flight). The server
counts every answer that it gave; an answer that is given twice was bought twice: it was in flight at a kill.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loopback
import peers
from bench_collect import Ours

KILLS, PROMPTS, IN_FLIGHT = 20, 6_000, 200


def kills() -> None:
    moments = random.Random(1)
    with loopback.Running(latency=0.2) as running, tempfile.TemporaryDirectory() as scratch:
        home = Ours(Path(scratch), running.url)
        words = home.command("collect", home.recipe(PROMPTS, IN_FLIGHT), "--json")
        for _ in range(KILLS):
            before, some = running.stats()["paid"], moments.randrange(10, 400)
            process = subprocess.Popen(words, cwd=home.folder, env=home.environment, stdout=-3, stderr=-3)
            while process.poll() is None and running.stats()["paid"] < before + some:
                time.sleep(moments.random() * 0.05)
            process.kill()
            process.wait()
        last = subprocess.run(words, cwd=home.folder, env=home.environment, capture_output=True, text=True, check=True)
        stats = running.stats()
        twice = stats["paid"] - stats["prompts"]
        print(f"{KILLS} kills in {PROMPTS:,} prompts: {stats['prompts']:,} have an answer; {last.stdout.strip()}")
        print(
            f"  given by the server: {stats['paid']:,}; bought twice: {twice} = {twice / PROMPTS:.1%}, at most {IN_FLIGHT} a kill"
        )
        lost = PROMPTS - stats["prompts"]
        print(f"  lost: {lost}")


def one_more() -> None:
    with loopback.Running() as running, tempfile.TemporaryDirectory() as scratch:
        home = Ours(Path(scratch), running.url)
        home.run("collect", home.recipe(200, 64))
        running.reset()
        home.run("collect", home.recipe(201, 64))
        print(f"one row added to a finished run of 200: stillhouse buys {running.stats()['paid']}")


def one_more_of_curator(folder: Path) -> None:
    with loopback.Running() as running, tempfile.TemporaryDirectory() as scratch:
        peers.collect(folder, "curator", running.url, 200, Path(scratch), 64)
        running.reset()
        peers.collect(folder, "curator", running.url, 201, Path(scratch), 64)
        print(f"one row added to a finished run of 200: curator buys {running.stats()['paid']}")


def kills_of_curator(folder: Path) -> None:
    with loopback.Running(latency=0.2) as running, tempfile.TemporaryDirectory() as scratch:
        words = peers.command(folder, "curator", running.url, PROMPTS, Path(scratch), IN_FLIGHT)
        for _ in range(3):
            process = subprocess.Popen(words, cwd=scratch, stdout=-3, stderr=-3)
            before = running.stats()["paid"]
            deadline = time.monotonic() + 60
            while running.stats()["paid"] < before + 600 and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
            process.wait()
        subprocess.run(words, cwd=scratch, capture_output=True)
        stats = running.stats()
        twice = stats["paid"] - stats["prompts"]
        print(
            f"curator, 3 kills: {stats['prompts']:,} of {PROMPTS:,} answered, bought twice: {twice} = {twice / PROMPTS:.1%}"
        )


if __name__ == "__main__":
    kills()
    one_more()
    if len(sys.argv) > 1:
        one_more_of_curator(Path(sys.argv[1]).absolute())
        kills_of_curator(Path(sys.argv[1]).absolute())
