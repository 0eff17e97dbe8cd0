"""A cap of 1,000 units, four processes with 128 calls in flight each, calls of random price, ten kills: is it ever passed?

The server knows what each call costs and adds up every call that reaches it: the worst that a provider could bill.
"""

import json
import random
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench_collect import Ours

CAP, PROCESSES, IN_FLIGHT, KILLS = 1_000, 4, 128, 10
ANSWER_TOKENS = 1_000_000  # at 1 USD a million: a call costs up to one unit


class Billing(ThreadingHTTPServer):
    """Bills every call that arrives, answered or not."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.billed, self.calls, self.mutex = 0.0, 0, threading.Lock()

    def handle_error(self, *words: object) -> None:
        """Connections of killed processes end as they end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        price = random.Random(asked["messages"][-1]["content"]).random()
        with self.server.mutex:
            self.server.billed += price
            self.server.calls += 1
        time.sleep(0.05 + 0.1 * price)
        usage = {"prompt_tokens": 0, "completion_tokens": int(price * ANSWER_TOKENS)}
        choice = {"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


if __name__ == "__main__":
    server = Billing()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        home = Ours(Path(scratch), f"http://127.0.0.1:{server.server_port}/v1")
        words = [
            "--kind",
            "openai",
            "--model",
            "dear",
            "--lab",
            "l",
            "--channel",
            "open-weights",
            "--terms",
            "licence/mit",
        ]
        url = f"http://127.0.0.1:{server.server_port}/v1"
        home.run("teacher", "add", "dear", *words, "--base-url", url, "--price-in", "0", "--price-out", "1")
        (home.folder / "home" / "config.toml").write_text(f'[budgets.projects]\nbench = "{CAP}"\n')
        commands = []
        for number in range(PROCESSES):
            rows = ({"id": f"t{n}", "messages": [{"role": "user", "content": f"{number}-{n}"}]} for n in range(4_000))
            (home.folder / f"p{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            collect = f'budget = "{CAP}"\nproject = "bench"\nin_flight = {IN_FLIGHT}\nmax_tokens = {ANSWER_TOKENS}\n'
            recipe = f'[teacher]\nuse = "dear"\n[prompts]\nfile = "p{number}.jsonl"\n[collect]\n{collect}'
            (home.folder / f"r{number}.toml").write_text(f'{recipe}[dataset]\nname = "d{number}"\n')
            commands.append(home.command("collect", f"r{number}.toml", "--json"))

        def start(number: int) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(commands[number], cwd=home.folder, env=home.environment, stdout=-3, stderr=-3)

        running = [start(number) for number in range(PROCESSES)]
        moments = random.Random(7)
        for kill in range(KILLS):
            time.sleep(0.7 + moments.random() * 0.6)
            running[kill % PROCESSES].kill()
            running[kill % PROCESSES].wait()
            running[kill % PROCESSES] = start(kill % PROCESSES)
            assert server.billed <= CAP, server.billed
        codes = [process.wait() for process in running]
        print(f"cap {CAP}; {PROCESSES} processes x {IN_FLIGHT} in flight; {KILLS} kills; exit codes {codes}")
        print(f"billed by the server, every call that reached it: {server.billed:.2f} for {server.calls:,} calls")
        print("never above the cap" if server.billed <= CAP else "ABOVE THE CAP")
        assert server.billed <= CAP
