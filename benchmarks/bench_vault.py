"""Snapshots beside restic, borg and DVC: the same data, one run, the page cache written out at the end of every time.

``--restic`` and so on name the programs (Debian's restic and borgbackup; DVC from PyPI, in an environment of its own); one
that is missing is left out. Data: 1,000 JSONL files of 1 MiB (records of about 2.4 kB of Zipf text, which zstd -3 shrinks to
about 36 %); the same with 1 % of the records edited in every file; 50,000 files of 2 KiB.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEAK = {"MiB": 0.0}
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def words_of(draw: np.random.Generator, count: int = 60_000) -> tuple[list[str], np.ndarray]:
    words = [
        "".join(LETTERS[min(int(place), 25)] for place in draw.exponential(6, draw.integers(2, 11)))
        for _ in range(count)
    ]
    weight = 1 / np.arange(1, count + 1) ** 0.95
    return words, np.cumsum(weight / weight.sum())


def record(draw: np.random.Generator, words: list[str], cumulative: np.ndarray, name: str) -> str:
    picks = np.searchsorted(cumulative, draw.random(int(draw.integers(120, 560)))).tolist()
    text = " ".join([words[place] for place in picks])
    return json.dumps({"id": name, "messages": [{"role": "user", "content": text}]})


def make_records(root: Path, files: int) -> None:
    draw = np.random.default_rng(0)
    words, cumulative = words_of(draw)
    root.mkdir(parents=True)
    for number in range(files):
        lines, size = [], 0
        while size < 1 << 20:
            lines.append(record(draw, words, cumulative, f"{number}-{len(lines)}"))
            size += len(lines[-1]) + 1
        (root / f"part-{number:05d}.jsonl").write_text("\n".join(lines) + "\n")


def edit(root: Path) -> None:
    """Another text for 1 % of the records of every file."""
    draw = np.random.default_rng(1)
    words, cumulative = words_of(np.random.default_rng(0))
    for path in sorted(root.iterdir()):
        lines = path.read_text().splitlines()
        for place in draw.choice(len(lines), max(1, round(len(lines) / 100)), replace=False).tolist():
            lines[place] = record(draw, words, cumulative, f"edited-{place}")
        path.write_text("\n".join(lines) + "\n")


def make_small(root: Path, files: int) -> None:
    draw = np.random.default_rng(2)
    for number in range(files):
        folder = root / f"{number // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.json").write_text(draw.bytes(1024).hex())


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def timed(act: Callable[[], object]) -> float:
    os.sync()
    began = time.perf_counter()
    act()
    os.sync()
    return time.perf_counter() - began


def call(words: list[object], **how: object) -> str:
    """Run a command; returns what it said. The most memory that it held is in ``PEAK`` then, in MiB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=errors, **how)  # type: ignore[call-overload]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{words}: {errors.read()[-2000:].decode()}")
        PEAK["MiB"] = usage.ru_maxrss / 1024
        return out.read().decode()


class Ours:
    name = "stillhouse"

    def __init__(self, work: Path) -> None:
        self.home, self.out = work / "home", work / "out"
        self.command = [sys.executable, "-m", "stillhouse"]
        self.environment = {**os.environ, "STILLHOUSE_HOME": str(self.home)}
        self("init")

    def __call__(self, *words: object) -> str:
        return call([*self.command, *words], env=self.environment)

    def snapshot(self, data: Path) -> None:
        self("vault", "snapshot", data, "--name", data.name, "--json")

    def restore(self, data: Path) -> Path:
        self("vault", "restore", data.name, self.out)
        return self.out

    def stored(self) -> int:
        return size_of(self.home / "objects")


class Restic:
    name = "restic"

    def __init__(self, program: str, work: Path) -> None:
        self.base = [program, "-q", "-r", work / "restic"]
        self.folder, self.out = work / "restic", work / "out"
        self.environment = {**os.environ, "RESTIC_PASSWORD": "benchmark"}
        call([*self.base, "init"], env=self.environment)

    def snapshot(self, data: Path) -> None:
        call([*self.base, "backup", data], env=self.environment)

    def restore(self, data: Path) -> Path:
        call([*self.base, "restore", "latest", "--target", self.out], env=self.environment)
        return self.out / data.relative_to("/")

    def stored(self) -> int:
        return size_of(self.folder)


class Borg:
    name = "borg"

    def __init__(self, program: str, work: Path) -> None:
        self.program, self.folder, self.out, self.count = program, work / "borg", work / "out", 0
        call([program, "init", "-e", "none", self.folder])

    def snapshot(self, data: Path) -> None:
        self.count += 1
        call([self.program, "create", "-C", "zstd,3", f"{self.folder}::a{self.count}", data])

    def restore(self, data: Path) -> Path:
        self.out.mkdir()
        call([self.program, "extract", f"{self.folder}::a{self.count}"], cwd=self.out)
        return self.out / data.relative_to("/")

    def stored(self) -> int:
        return size_of(self.folder)


class Dvc:
    """DVC keeps data beside its repository: the data is a folder of it, restored by a checkout that verifies nothing."""

    name = "dvc"

    def __init__(self, program: str, work: Path) -> None:
        self.program, self.folder = program, work / "dvc"
        self.folder.mkdir()
        self.environment = {
            **os.environ,
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
        }
        call([program, "init", "-q", "--no-scm"], cwd=self.folder, env=self.environment)

    def snapshot(self, data: Path) -> None:
        inside = self.folder / data.name
        if not inside.exists():
            shutil.copytree(data, inside)
        call([self.program, "add", "-q", data.name], cwd=self.folder, env=self.environment)

    def refresh(self, data: Path) -> None:
        shutil.rmtree(self.folder / data.name, ignore_errors=True)
        shutil.copytree(data, self.folder / data.name)

    def restore(self, data: Path) -> Path:
        shutil.rmtree(self.folder / data.name)
        call([self.program, "checkout", "-q"], cwd=self.folder, env=self.environment)
        return self.folder / data.name

    def stored(self) -> int:
        return size_of(self.folder / ".dvc")


def same(left: Path, right: Path) -> None:
    call(["diff", "-r", left, right])


def measure(
    open_tools: Callable[[Path], list[Any]], work: Path, data: Path, small: Path, rounds: int
) -> dict[str, dict[str, float]]:
    """The median of each figure over some rounds, each with repositories of its own and another tool first.

    DVC is always last, and a round waits before it begins: what is restored behind the removal of 150,000 files pays for it.
    """
    seen: dict[str, dict[str, list[float]]] = {}

    def note(tool: Any, what: str, value: float) -> None:
        seen.setdefault(tool.name, {}).setdefault(what, []).append(value)
        print(f"{tool.name:12} {what:34} {value:10.2f}", flush=True)

    for number in range(rounds):
        place = work / f"round-{number}"
        place.mkdir()
        tools = open_tools(place)
        others = [tool for tool in tools if not isinstance(tool, Dvc)]
        first = number % len(others)
        for tool in [*others[first:], *others[:first], *(tool for tool in tools if isinstance(tool, Dvc))]:
            ready(tool, data)
            note(tool, "snapshot, s", timed(lambda tool=tool: tool.snapshot(data)))
            note(tool, "stored, MiB", tool.stored() / 2**20)
            note(tool, "unchanged, s", timed(lambda tool=tool: tool.snapshot(data)))
            note(tool, "restore, s", restored(tool, data))
            ready(tool, small)
            note(tool, "50,000 small files, snapshot, s", timed(lambda tool=tool: tool.snapshot(small)))
            note(tool, "50,000 small files, restore, s", restored(tool, small))
        if number == rounds - 1:
            edit(data)
            for tool in tools:
                ready(tool, data)
                before = tool.stored()
                note(tool, "1 % edited, s", timed(lambda tool=tool: tool.snapshot(data)))
                stored = statistics.median(seen[tool.name]["stored, MiB"]) * 2**20
                note(tool, "1 % edited, added, % of the first", 100 * (tool.stored() - before) / stored)
        shutil.rmtree(place)
        os.sync()
        time.sleep(30)
    return {name: {what: statistics.median(values) for what, values in found.items()} for name, found in seen.items()}


def restored(tool: Any, data: Path) -> float:
    """How long it takes to get the data back; that it is the same is looked at afterwards."""
    found: list[Path] = []
    seconds = timed(lambda: found.append(tool.restore(data)))
    same(found[0], data)
    shutil.rmtree(getattr(tool, "out", found[0]))
    return seconds


def ready(tool: Any, data: Path) -> None:
    """What is no part of a snapshot: DVC's copy of the data into its repository."""
    if isinstance(tool, Dvc):
        tool.refresh(data)


def memory(work: Path, files: int, open_tools: Callable[[Path], list[Any]]) -> None:
    """The most memory that a snapshot held, of one part and of ten times that: folders with other records each."""
    many = work / "many"
    for number in range(10):
        part = many / f"{number}"
        part.mkdir(parents=True)
        draw = np.random.default_rng(100 + number)
        words, cumulative = words_of(draw, 20_000)
        for file in range(files):
            lines = [record(draw, words, cumulative, f"{number}-{file}-{n}") for n in range(430)]
            (part / f"{file}.jsonl").write_text("\n".join(lines) + "\n")
    print(f"             {size_of(many / '0') / 2**30:.2f} GiB, and {size_of(many) / 2**30:.1f} GiB in all", flush=True)
    for tool in open_tools(work):
        for data, what in ((many / "0", "one part"), (many, "all ten")):
            tool.snapshot(data)
            print(f"{tool.name:12} peak memory, snapshot of {what:10} {PEAK['MiB']:8.0f} MiB", flush=True)
            out = tool.restore(data)
            print(f"{tool.name:12} peak memory, restore of {what:11} {PEAK['MiB']:8.0f} MiB", flush=True)
            same(out, data)
            shutil.rmtree(tool.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=50_000)
    parser.add_argument("--restic", default=shutil.which("restic"))
    parser.add_argument("--borg", default=shutil.which("borg"))
    parser.add_argument("--dvc", default=shutil.which("dvc"))
    parser.add_argument("--memory", action="store_true", help="only the memory of ten times the data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        work = Path(name)

        def open_tools(place: Path) -> list[Any]:
            return [
                Ours(place),
                *([Restic(options.restic, place)] if options.restic else []),
                *([Borg(options.borg, place)] if options.borg else []),
                *([Dvc(options.dvc, place)] if options.dvc and not options.memory else []),
            ]

        if options.memory:
            memory(work, options.files, open_tools)
            return
        data, small = work / "records", work / "small"
        make_records(data, options.files)
        make_small(small, options.small)
        time.sleep(61)  # what was written within a minute of a snapshot is read again by the next
        found = measure(open_tools, work, data, small, options.rounds)
    ours = found.pop("stillhouse")
    for name, theirs in found.items():
        for what, value in theirs.items():
            print(f"ratio to {name:8} {what:34} {ours[what]:10.2f} to {value:10.2f} {ours[what] / value:10.3f}")


if __name__ == "__main__":
    main()
