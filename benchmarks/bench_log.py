"""Entries per second of the log against SQLite, each with the same durability, in one run.

kill    what survives a process kill: our default; SQLite in WAL mode with synchronous=NORMAL, a transaction per entry
power   what survives power loss: ours with durability "power"; SQLite with synchronous=FULL, a transaction per entry
"""

import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from stillhouse.vault.durability import Durability
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

PAYLOAD = (
    b'{"fact":"refusal-made","at":"2026-01-01T00:00:00.000Z","by":"me","subject":"s","reason":"' + b"r" * 110 + b'"}'
)
KILL, POWER, ROUNDS = 50_000, 400, 3


def ours(folder: Path, count: int, durability: Durability, threads: int = 1) -> float:
    log = Log(folder / "log", Objects(LocalBackend(folder / "objects")))
    with log.writer(durability) as writer:

        def work() -> None:
            for _ in range(count // threads):
                writer.append(PAYLOAD)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return count / (time.perf_counter() - started)


def sqlite(folder: Path, count: int, synchronous: str) -> float:
    connection = sqlite3.connect(folder / "peer.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, payload BLOB)")
    started = time.perf_counter()
    for _ in range(count):
        connection.execute("INSERT INTO log (payload) VALUES (?)", (PAYLOAD,))
    taken = time.perf_counter() - started
    connection.close()
    return count / taken


def best(measure) -> float:
    results = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder)))
    return max(results)


if __name__ == "__main__":
    for name, mine, peer in (
        ("kill", lambda f: ours(f, KILL, Durability.KILL), lambda f: sqlite(f, KILL, "NORMAL")),
        ("power, 1 thread", lambda f: ours(f, POWER, Durability.POWER), lambda f: sqlite(f, POWER, "FULL")),
        ("power, 16 threads", lambda f: ours(f, 16 * POWER, Durability.POWER, 16), lambda f: sqlite(f, POWER, "FULL")),
    ):
        a, b = best(mine), best(peer)
        print(f"log {name}: {a:,.0f} entries/s; SQLite {b:,.0f}; ratio {a / b:.2f}")
