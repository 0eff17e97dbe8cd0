"""The path of data: import, import again, export, doctor, status, beside a script that does one pass with the same libraries.

python benchmarks/bench_data.py [--rows 10000 100000 ...] [--bytes 2000 30000] [--tree SRC] [--only import export ...]
                                [--datatrove PYTHON]

Of each command: CPU seconds (its children's too), peak memory of the largest process, and bytes written to disk. ``--tree`` runs
the commands of another source tree, to compare with. The peer reads each line, keeps the digest of its question and answer, drops
what is not distinct, writes a compressed log with a hash chain, an index, and Parquet. ``--datatrove`` names an interpreter that
has datatrove, which wants other versions of some libraries: there a pipeline of it reads, drops what is not distinct, and
writes Parquet.
"""

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Words as English has them by Zipf's law, so that text compresses like text, and some code.
_WORDS = 20_000
PEER = """
import sys
from pathlib import Path
import msgspec, pyarrow, pyarrow.parquet, zstandard
from blake3 import blake3
source, target = Path(sys.argv[1]), Path(sys.argv[2])
fields = pyarrow.schema([("key", pyarrow.binary(32)), ("question", pyarrow.string()), ("answer", pyarrow.string())])
seen, chain = set(), bytes(32)
packer = zstandard.ZstdCompressor(1)
with source.open("rb") as lines, (target / "log").open("wb") as log, (target / "index").open("wb") as index, \\
        pyarrow.parquet.ParquetWriter(target / "rows.parquet", fields, compression="zstd") as rows:
    batch = []
    def flush():
        global chain
        packed = packer.compress(msgspec.json.encode([one[1:] for one in batch]))
        chain = blake3(chain + packed).digest()
        log.write(packed + chain)
        index.write(b"".join(one[0] for one in batch))
        rows.write_table(pyarrow.table(list(map(list, zip(*batch))), schema=fields))
        batch.clear()
    for line in lines:
        turns = msgspec.json.decode(line)["messages"]
        key = blake3(msgspec.json.encode(turns)).digest()
        if key in seen:
            continue
        seen.add(key)
        batch.append((key, turns[0]["content"], turns[1]["content"]))
        if len(batch) == 2000:
            flush()
    if batch:
        flush()
print(len(seen))
"""


DATATROVE = """
import sys
from blake3 import blake3
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter
source, target = sys.argv[1:]
seen = set()
def adapt(self, data, path, id_in_file):
    asked, said = data["messages"]
    return {"text": said["content"], "id": f"{path}/{id_in_file}", "metadata": {"question": asked["content"]}}
def is_new(document):
    key = blake3((document.metadata["question"] + chr(0) + document.text).encode()).digest()
    return key not in seen and not seen.add(key)
LocalPipelineExecutor([
    JsonlReader(source, adapter=adapt, glob_pattern="rows.jsonl", recursive=False), LambdaFilter(is_new),
    ParquetWriter(target, compression="zstd"),
], logging_dir=target + "/logs").run()
"""


def write_rows(path: Path, count: int, size: int) -> None:
    """Chat rows of about ``size`` bytes, one in fifty with code, one in a thousand twice."""
    chance = random.Random(size)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(chance.choices(letters, range(26, 0, -1), k=chance.randint(2, 9))) for _ in range(_WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(_WORDS)))
    before = ""
    with path.open("w") as file:
        for number in range(count):
            text = " ".join(chance.choices(words, cum_weights=weights, k=size // 7))
            if number % 50 == 0:
                text += "\n```python\ndef f(x):\n    return [y * 2 for y in range(x) if y % 3 == 0 and y not in (4, 5)]\n```"
            asked = {"role": "user", "content": f"{number}: {text[:200]}?"}
            row = {"messages": [asked, {"role": "assistant", "content": text[200:]}], "model": "gpt-4o-mini"}
            line = before if number % 1000 == 999 else json.dumps(row)
            file.write(line + "\n")
            before = line


def measured(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run a command; what it cost."""
    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, error = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{command} failed: {error.decode()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_s": round(cpu, 2),
        "wall_s": round(time.perf_counter() - started, 2),
        "peak_mb": round(_peak(error), 0),
        "written_mb": round((after.ru_oublock - before.ru_oublock) * 512 / 1e6, 1),
    }


# Python writes its own peak when it ends: of all children so far, the system keeps only the largest.
_RUN = """
import atexit, resource, sys
atexit.register(lambda: print("PEAK", max(resource.getrusage(who).ru_maxrss for who in
    (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)), file=sys.__stderr__))
"""
_COMMAND = _RUN + "from stillhouse.__main__ import entry\nsys.argv[0] = 'stillhouse'\nsys.exit(entry())"


def _peak(error: bytes) -> float:
    return max((float(line.split()[1]) / 1024 for line in error.splitlines() if line.startswith(b"PEAK ")), default=0.0)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(count: int, size: int, given: argparse.Namespace, folder: Path) -> None:
    tree, only = given.tree, given.only
    source, home = folder / "rows.jsonl", folder / "home"
    write_rows(source, count, size)
    size_given = source.stat().st_size
    environment = {**os.environ, "PYTHONPATH": str(tree), "STILLHOUSE_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def ours(*arguments: str) -> dict[str, float]:
        return measured([sys.executable, "-c", _COMMAND, *arguments], environment)

    ours("init")
    # The system counts no CPU of workers, which are nobody's children when they end: here one process does all.
    with (home / "config.toml").open("a") as config:
        config.write("\n[engine]\nworkers = 1\n")
    steps = {
        "import": ("dataset", "import", str(source), "--name", "a", "--json"),
        "again": ("dataset", "import", str(source), "--name", "a", "--json"),
        "export": ("dataset", "export", "a", str(folder / "out.jsonl"), "--use", "store"),
        "doctor": ("doctor",),
        "status": ("status",),
        "list": ("dataset", "list"),
    }
    found: dict[str, dict[str, float]] = {}
    for name, arguments in steps.items():
        if name == "import" or not only or name in only:
            found[name] = ours(*arguments)
            print(f"{count:>9,} x {size:>6,}  {name:8} {found[name]}", flush=True)
        if name == "import":
            print(f"{'':20} stays    {size_of(home) / size_given:.2f} x the input", flush=True)
    environment["STILLHOUSE_HOME"] = str(folder / "workers")
    ours("init")
    wall = ours(*steps["import"])["wall_s"]
    print(
        f"{count:>9,} x {size:>6,}  import with a worker for each processor: {wall} s, without {found['import']['wall_s']}"
    )
    shutil.rmtree(folder / "workers")
    peer = folder / "peer"
    peer.mkdir()
    cost = measured([sys.executable, "-c", _RUN + PEER, str(source), str(peer)], environment)
    print(f"{count:>9,} x {size:>6,}  {'peer':8} {cost}", flush=True)
    ratio = found["import"]["cpu_s"] / cost["cpu_s"]
    speeds = [size_given / 1e6 / one["cpu_s"] for one in (found["import"], cost)]
    print(
        f"{'':20} ratio    {ratio:.2f} x the peer's CPU; {speeds[0]:.1f} MB/s a core, the peer {speeds[1]:.1f}",
        flush=True,
    )
    if given.datatrove:
        cost = measured(
            [given.datatrove, "-c", _RUN + DATATROVE, str(folder), str(folder / "datatrove")], dict(os.environ)
        )
        print(f"{count:>9,} x {size:>6,}  datatrove {cost}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--bytes", type=int, nargs="+", default=[2000])
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--datatrove", default="")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    for size in given.bytes:
        for count in given.rows:
            folder = Path(tempfile.mkdtemp(prefix="bench_data-"))
            try:
                run(count, size, given, folder)
            finally:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
