"""Requests per second through the gateway, and the time that it adds, beside litellm's proxy and no proxy at all.

    python benchmarks/bench_gateway.py [FOLDER of benchmarks/peers.py]

One worker each, 60-byte answers at 0 ms over loopback. Ours writes every request and every answer to the log before it passes.
"""

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import aiohttp
import loopback
import uvloop
from bench_collect import Ours

ROUNDS = 3


async def load(url: str, count: int, in_flight: int, key: str) -> tuple[float, float]:
    """Requests per second, and the median latency in milliseconds."""
    numbers, seen = iter(range(count)), []
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            for number in numbers:
                body = b'{"model":"m","messages":[{"role":"user","content":"Say %d"}]}' % number
                started = time.perf_counter()
                async with session.post(f"{url}/chat/completions", data=body) as response:
                    await response.read()
                    assert response.status == 200, response.status
                seen.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return count / (time.perf_counter() - started), statistics.median(seen) * 1000


def measure(what: str, url: str, key: str, scale: int) -> tuple[float, float]:
    """Best of some rounds at 64 in flight, and the best median at 1 in flight."""
    rates = [uvloop.run(load(url, 6_000 // scale, 64, key))[0] for _ in range(ROUNDS)]
    medians = [uvloop.run(load(url, 2_000 // scale, 1, key))[1] for _ in range(ROUNDS)]
    print(f"  {what:24} {max(rates):8,.0f} requests/s at 64 in flight   p50 {min(medians):6.2f} ms at 1 in flight")
    return max(rates), min(medians)


def ours(upstream: str, *words: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as scratch:
        home = Ours(Path(scratch), upstream)
        key = json.loads(home.run("gateway", "key", "add", "me", "--project", "p", "--use", "train", "--json").stdout)[
            "secret"
        ]
        command = home.command("gateway", "serve", "--port", "0", "--ops-port", "0", "--workers", "1", "--json", *words)
        gateway = subprocess.Popen(command, cwd=home.folder, env=home.environment, stdout=subprocess.PIPE, text=True)
        assert gateway.stdout
        url = json.loads(gateway.stdout.readline())["url"]
        try:
            return measure(f"stillhouse {' '.join(words)}".strip(), f"{url}/v1", key, 1)
        finally:
            gateway.terminate()
            gateway.wait()


def litellm(folder: Path, upstream: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as scratch, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        model = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": upstream, "api_key": "x"}}
        config = Path(scratch) / "config.yaml"
        config.write_text(json.dumps({"model_list": [model], "general_settings": {"master_key": "sk-" + "0" * 32}}))
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        words = [folder / "litellm" / "bin" / "litellm", "--config", config, "--port", str(port), "--num_workers", "1"]
        proxy = subprocess.Popen(words, cwd=scratch, env=environment, stdout=-3, stderr=-3, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=1)
                    break
                except OSError:
                    time.sleep(0.5)
            return measure("litellm proxy", f"http://127.0.0.1:{port}/v1", "sk-" + "0" * 32, 10)
        finally:
            os.killpg(proxy.pid, signal.SIGKILL)


if __name__ == "__main__":
    with loopback.Running() as running:
        _, direct = measure("no proxy", running.url, "x", 1)
        rate, median = ours(running.url)
        print(f"    adds {median - direct:.2f} ms")
        ours(running.url, "--durability", "power")
        if len(sys.argv) > 1:
            theirs, slower = litellm(Path(sys.argv[1]).absolute(), running.url)
            print(
                f"    ours: {rate / theirs:.1f} x the requests, {(slower - direct) / (median - direct):.1f} x less time added"
            )
