"""Recorded answers per second beside curator, DataDesigner and distilabel, over loopback, in one run.

    python benchmarks/peers.py FOLDER && python benchmarks/bench_collect.py FOLDER [--quick]

small   60-byte answers at 0 ms, 256 in flight          large   30 kB answers, the same
tail    200 ms, 2 % at 2 s, 50 in flight: what share of the ideal is reached by a client that never lets a slot stand empty?

Seconds are those of a whole command from its start to its end; ours forms a dataset, too. "recording" is our collection alone,
by its own progress. The bare client only reads the answers and keeps nothing. Without FOLDER only ours and the bare are run.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import loopback
import peers

PEERS = ("curator", "data-designer", "distilabel")


async def bare(url: str, count: int, in_flight: int) -> float:
    """Answers per second of a client that keeps nothing."""
    numbers = iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number in numbers:
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": f"Say {number}"}]})
                headers = {"Content-Type": "application/json"}
                async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                    await response.read()

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return count / (time.perf_counter() - started)


class Ours:
    """A home with the mock as its teacher, and recipes in it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.environment = folder, {**os.environ, "STILLHOUSE_HOME": str(folder / "home")}
        self.run("init")
        words = [
            "--kind",
            "openai",
            "--model",
            "m",
            "--lab",
            "l",
            "--channel",
            "open-weights",
            "--terms",
            "licence/mit",
        ]
        self.run("teacher", "add", "mock", *words, "--base-url", url, "--unmetered")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "stillhouse", *words]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        )

    def recipe(self, count: int, in_flight: int) -> str:
        rows = ({"id": f"t{n}", "messages": [{"role": "user", "content": f"Say {n}"}]} for n in range(count))
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = '[teacher]\nuse = "mock"\n[prompts]\nfile = "prompts.jsonl"\n[collect]\n'
        (self.folder / "recipe.toml").write_text(f'{text}in_flight = {in_flight}\n[dataset]\nname = "x"\n')
        return "recipe.toml"


def ours(url: str, count: int, in_flight: int) -> tuple[float, float, float]:
    """Seconds of the whole command, answers per second of its collection alone, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Ours(Path(scratch), url)
        words = home.command("collect", home.recipe(count, in_flight), "--json", "--progress", "json")
        started = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=home.folder, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        recorded, peak = 0.0, 0.0
        while line := process.stderr.readline():
            state = json.loads(line) if line.startswith("{") else {}
            if not recorded and state.get("event") == "update" and state["done"] >= count:
                recorded = state["seconds"]  # every answer is in the log; what follows brings the view up to date
                peak = memory_of(process.pid)
        process.wait()
        seconds = time.perf_counter() - started
        assert process.returncode == 0 and recorded, (process.returncode, recorded)
        return seconds, count / recorded, peak


def memory_of(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def compare(what: str, count: int, in_flight: int, folder: Path | None, **server: float) -> None:
    with loopback.Running(**server) as running:
        print(f"\n{what}: {count:,} prompts, {in_flight} in flight")
        rate = asyncio.run(bare(running.url, count, in_flight))
        print(f"  bare aiohttp, nothing kept   {rate:8,.0f} answers/s")
        seconds, recording, memory = ours(running.url, count, in_flight)
        mine = count / seconds
        print(f"  stillhouse, whole command    {mine:8,.0f} answers/s   recording {recording:,.0f}/s, {memory:.0f} MiB")
        for peer in PEERS if folder else ():
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    seconds, have = peers.collect(folder, peer, running.url, count, Path(scratch), in_flight)
                except RuntimeError as failure:
                    print(f"  {peer}: {failure}")
                    continue
            print(f"  {peer:28} {have / seconds:8,.0f} answers/s   ours is {mine * seconds / have:.1f} x")


def tail(folder: Path | None, count: int) -> None:
    """The ideal keeps every slot filled: in_flight divided by the mean latency."""
    options = {"latency": 0.2, "tail_share": 0.02, "tail": 2.0}
    ideal = 50 / (0.98 * 0.2 + 0.02 * 2.0)
    with loopback.Running(**options) as running:
        print(f"\ntail: {count:,} prompts, 50 in flight, 200 ms, 2 % at 2 s; the ideal is {ideal:.0f} answers/s")
        seconds, recording, _ = ours(running.url, count, 50)
        print(f"  stillhouse   recording {recording:6.1f} answers/s = {recording / ideal:.1%} of the ideal")
        for peer in PEERS if folder else ():
            some = min(count, 2000 if peer != "distilabel" else 600)
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    seconds, have = peers.collect(folder, peer, running.url, some, Path(scratch), 50)
                except RuntimeError as failure:
                    print(f"  {peer}: {failure}")
                    continue
            print(
                f"  {peer:12} {have / seconds:6.1f} answers/s = {have / seconds / ideal:.1%} ({some} prompts, whole run)"
            )


def memory(sizes: tuple[int, ...]) -> None:
    print("\nmemory while 30 kB answers are collected:")
    with loopback.Running(size=30_000) as running:
        for count in sizes:
            print(
                f"  {count:7,} answers ({count * 30_000 / 1e6:,.0f} MB of text): {ours(running.url, count, 256)[2]:.0f} MiB"
            )


if __name__ == "__main__":
    places = [Path(word).absolute() for word in sys.argv[1:] if not word.startswith("--")]
    place, quick = places[0] if places else None, "--quick" in sys.argv
    compare("small", 2_000 if quick else 10_000, 256, place)
    compare("large", 1_000 if quick else 5_000, 256, place, size=30_000)
    tail(place, 2_000 if quick else 10_000)
    memory((1_000, 2_000) if quick else (5_000, 10_000, 20_000))
