"""Collect and form, whole commands: the first time, again with nothing to do, with one prompt more, beside a plain script.

    python benchmarks/bench_form.py [--answers 10000 100000] [--bytes 60 30000] [--tree SRC]

Of each command: CPU seconds (its children's too), peak memory of the largest process, bytes written, and what the vault grew by.
Answers differ from each other and come over loopback. The peer asks with aiohttp, 256 in flight, writes a compressed
log with a hash chain that is made durable every 50 ms, and goes through that once: our own held-out search, distinct, Parquet.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from bench_data import _COMMAND, _RUN, measured, size_of

PEER = """
import asyncio, json, os, sys, time
from pathlib import Path
import aiohttp, pyarrow, pyarrow.parquet, zstandard
from blake3 import blake3
from stillhouse.datasets.filter import NGRAM, protect
from stillhouse.datasets.fingerprint import shared_ngram
from stillhouse.datasets.tasks.suites import load_suite
url, prompts, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
tasks = [json.loads(line) for line in prompts.open()]

kind = {"Content-Type": "application/json"}
async def collect():
    todo, chain, synced = iter(tasks), bytes(32), time.monotonic()
    with (target / "log").open("wb") as log:
        packer, held = zstandard.ZstdCompressor(1), []
        def flush():
            nonlocal chain, synced
            if not held:
                return
            packed = packer.compress(b"\\n".join(held))
            chain = blake3(chain + packed).digest()
            log.write(len(packed).to_bytes(4, "little") + packed + chain)
            held.clear()
            if time.monotonic() - synced > 0.05:
                log.flush(); os.fsync(log.fileno()); synced = time.monotonic()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            async def work():
                for task in todo:
                    body = json.dumps({"model": "m", "messages": task["messages"]})
                    async with session.post(url + "/chat/completions", data=body, headers=kind) as got:
                        text = json.loads(await got.read())["choices"][0]["message"]["content"]
                    held.append(json.dumps([task["id"], task["messages"], text]).encode())
                    if len(held) >= 200:
                        flush()
            await asyncio.gather(*(work() for _ in range(256)))
        flush()

def form():
    held_out = protect(load_suite("stillhouse", "held-out"), [])
    fields = pyarrow.schema([("id", pyarrow.string()), ("question", pyarrow.string()), ("answer", pyarrow.string())])
    seen, unpack = set(), zstandard.ZstdDecompressor()
    path = target / "rows.parquet"
    with (target / "log").open("rb") as log, pyarrow.parquet.ParquetWriter(path, fields, compression="zstd") as rows:
        while head := log.read(4):
            batch = []
            for line in unpack.decompress(log.read(int.from_bytes(head, "little"))).split(b"\\n"):
                id, messages, text = json.loads(line)
                key = blake3(line).digest()
                said = (messages[0]["content"], text)
                if key in seen or any(shared_ngram(one, held_out.ngrams, held_out.starts, NGRAM) for one in said):
                    continue
                seen.add(key)
                batch.append((id, messages[0]["content"], text))
            log.read(32)
            if batch:
                rows.write_table(pyarrow.table(list(map(list, zip(*batch))), schema=fields))
    print(len(seen))

asyncio.run(collect())
form()
"""


class Server:
    """An OpenAI-compatible server whose answers differ."""

    def __init__(self, size: int) -> None:
        chance = random.Random(1)
        words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(5000)]
        self.texts = [" ".join(chance.choices(words, k=max(1, size // 7))) for _ in range(200)]
        self.given = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n") if b":" in line)
                await reader.readexactly(int(lines[b"content-length"]))
                self.given += 1
                text = f"{self.given} {self.texts[self.given % len(self.texts)]}"
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
                answer = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
                body = json.dumps(answer).encode()
                said = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(said + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def _serve(size: int) -> None:
    server = await asyncio.start_server(Server(size).serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def run(count: int, size: int, tree: Path, folder: Path) -> None:
    import subprocess

    words = [sys.executable, __file__, "--serve", str(size)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        try:
            _measure(count, size, tree, folder, url)
        finally:
            server.kill()


def _measure(count: int, size: int, tree: Path, folder: Path, url: str) -> None:
    home, prompts, objects = folder / "home", folder / "prompts.jsonl", folder / "home" / "objects"
    asked = ([{"role": "user", "content": f"Say something about {n}"}] for n in range(count + 1))
    rows = [json.dumps({"id": f"t{n}", "messages": messages}) + "\n" for n, messages in enumerate(asked)]
    prompts.write_text("".join(rows[:count]))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        '[teacher]\nuse = "mock"\n[prompts]\nfile = "prompts.jsonl"\n[collect]\nin_flight = 256\n'
        '[dataset]\nname = "x"\nverified = false\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(tree), "STILLHOUSE_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def ours(what: str, *arguments: str) -> dict[str, float]:
        before = size_of(objects) if objects.exists() else 0
        found = measured([sys.executable, "-c", _COMMAND, *arguments], environment)
        found["objects_mb"] = round((size_of(objects) - before) / 1e6, 3) if objects.exists() else 0
        print(f"{count:>9,} x {size:>6,}  {what:14} {found}", flush=True)
        return found

    ours("init", "init")
    register = ["--kind", "openai", "--model", "m", "--lab", "l", "--channel", "open-weights"]
    register += ["--terms", "licence/mit", "--unmetered"]
    ours("teacher", "teacher", "add", "mock", *register, "--base-url", url)
    first = ours("collect", "collect", str(recipe))
    ours("nothing to do", "collect", str(recipe))
    prompts.write_text("".join(rows))
    ours("one row more", "collect", str(recipe))
    ours("list", "dataset", "list")
    ours("status", "status")
    prompts.write_text("".join(rows[:count]))
    peer = folder / "peer"
    peer.mkdir()
    cost = measured([sys.executable, "-c", _RUN + PEER, url, str(prompts), str(peer)], environment)
    print(
        f"{count:>9,} x {size:>6,}  {'peer':14} {cost}   ours is {first['cpu_s'] / cost['cpu_s']:.2f} x its CPU",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, nargs="+", default=[10_000])
    parser.add_argument("--bytes", type=int, nargs="+", default=[60])
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--serve", type=int, default=0)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.serve))
    for size in given.bytes:
        for count in given.answers:
            folder = Path(tempfile.mkdtemp(prefix="bench_form-"))
            try:
                run(count, size, given.tree, folder)
            finally:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
