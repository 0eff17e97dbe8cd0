"""What a revocation reaches, among ten million records and a million edges; beside walking the same graph in memory.

The ledger is built row by row in SQL from a made-up history: runs of answers, shards and mixes of runs, trainings, steps,
checkpoints, children and their answers. The peer is a walk over the same edges with networkx, its graph in memory already.
"""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import networkx
from sqlalchemy import Table, text

from stillhouse.access.revocation_impact import impact_of_sets, touched_sets
from stillhouse.home.ledger import origin_queries
from stillhouse.home.ledger.databases import insert_many
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.lineage_graph import impact
from stillhouse.home.ledger.projection import tables
from stillhouse.home.stamping import stamp_set
from stillhouse.nouns import AccessChange, AccessKind, Channel, Grade, Origin, Stamp
from stillhouse.permission.decide import Policy

LABS, DAYS = 20, 50
AT = "2026-05-01T00:00:00.000Z"


ANSWER = {
    "task": "t",
    "prompt": "p",
    "sample": 0,
    "text": "x",
    "finish": "stop",
    "prompt_tokens": 50,
    "completion_tokens": 200,
}
ANSWER |= {"cost_usd": "0", "seconds": 0.1, "lease": ""}


def _entry(writer: str, number: int) -> dict[str, object]:
    return {"writer": writer, "number": number, "place": 0, "at": AT, "by": "b"}


def _stamp(lab: int, day: int) -> Stamp:
    when = f"2026-{1 + day // 28:02}-{1 + day % 28:02}"
    origin, channel = Origin.TEACHER, Channel.OFFICIAL
    return Stamp(origin, f"lab{lab}", "m", channel, terms=("licence/mit",), day=when, grade=Grade.OBSERVED)


def _in_order(table: Table, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[column.name] for column in table.columns) for row in rows]


def build(ledger: Ledger, records: int, edges: int) -> list[tuple[str, str]]:
    draw = random.Random(0)
    sets = [stamp_set([_stamp(lab, day)]) for lab in range(LABS) for day in range(DAYS)]
    with ledger.engine.begin() as connection:
        rows = [
            {**_entry("w", n), "id": s.id, "digest": s.digest, "stamps": msgspec.json.encode(s.stamps).decode()}
            for n, s in enumerate(sets)
        ]
        insert_many(connection, tables.stamp_sets, _in_order(tables.stamp_sets, rows))
    runs = max(LABS, records // 10_000)
    for start in range(0, records, 200_000):
        rows = []
        for n in range(start, min(records, start + 200_000)):
            run = n * runs // records
            known = sets[(run * 7 + n % 3) % len(sets)]
            answer = {"key": f"blake3:{n:064x}", "run": f"run{run}", "teacher": f"t{run % LABS}", "stamps": known.id}
            rows.append({**_entry("a", n), **ANSWER, **answer})
        with ledger.engine.begin() as connection:
            insert_many(connection, tables.answers, _in_order(tables.answers, rows))
        print(f"\r{min(records, start + 200_000):,} records", end="", flush=True)
    print()
    made = set()
    nodes = [f"run:run{n}" for n in range(runs)] + [f"teacher:t{n}" for n in range(LABS)]
    for n in range(runs):
        made.add((f"teacher:t{n % LABS}", f"run:run{n}"))
    layers = ["shard", "mix", "dataset", "training", "step", "checkpoint", "model", "child", "export"]
    before = nodes[:runs]
    for layer in layers:
        size = edges // (3 * len(layers))
        after = [f"{layer}:{n}" for n in range(size)]
        for n, node in enumerate(after):
            made.add((before[n % len(before)], node))
            made.add((before[draw.randrange(len(before))], node))
            made.add((before[draw.randrange(len(before))], node))
        before = after
    found = sorted(made)
    with ledger.engine.begin() as connection:
        rows = [
            {**_entry("e", n), "parent": parent, "child": child, "kind": "made"}
            for n, (parent, child) in enumerate(found)
        ]
        insert_many(connection, tables.edges, _in_order(tables.edges, rows))
        connection.execute(text("ANALYZE"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--edges", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        started = time.perf_counter()
        edges = build(ledger, options.records, options.edges)
        print(f"built {options.records:,} records and {len(edges):,} edges in {time.perf_counter() - started:.0f} s")
        for lab, since in (("lab3", "2026-01-15"), ("lab3", "")):
            change = AccessChange(id="c", kind=AccessKind.REVOKE, lab=lab, since=since)
            policy = Policy(changes=(change,))
            started = time.perf_counter()
            sets = origin_queries.stamp_sets(ledger)
            found = impact_of_sets(ledger, policy, sets, touched_sets(policy, change, sets), Path(folder))
            seconds, what = time.perf_counter() - started, f"{found.records:,} records, {len(found.runs):,} runs"
            print(f"revocation of {lab} {since or 'for all days'}: {what}: {seconds:.2f} s")
        changes = tuple(AccessChange(id=str(n), kind=AccessKind.REVOKE, lab=f"lab{n}") for n in range(LABS))
        started = time.perf_counter()
        sets = origin_queries.stamp_sets(ledger)
        policy = Policy(changes=changes)
        everything = impact_of_sets(
            ledger,
            policy,
            sets,
            touched_sets(policy, changes[0], sets)._replace(uses=dict.fromkeys(sets, frozenset())),
            Path(folder),
        )
        print(f"everything: {everything.records:,} records: {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        below = impact(ledger, "teacher:t3")
        ours = time.perf_counter() - started
        what = f"{len(below.nodes):,} nodes, {len(below.edges):,} edges, {below.records:,} records"
        print(f"lineage impact of one teacher: {what}: {ours:.2f} s")
        started = time.perf_counter()
        graph = networkx.DiGraph(edges)
        loaded = time.perf_counter() - started
        started = time.perf_counter()
        walked = networkx.descendants(graph, "teacher:t3")
        theirs = time.perf_counter() - started
        assert walked == set(below.nodes), "both find the same"
        print(f"peer, networkx: {loaded:.2f} s to hold the graph, {theirs:.2f} s to walk it, no records counted")
        print(f"ours / theirs {ours / (loaded + theirs):.2f}")
        print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
        ledger.close()


if __name__ == "__main__":
    main()
