"""A view is built beside the one in use and swapped: at any moment, for any number of processes and versions, one is whole."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import create_engine, inspect, text

from stillhouse.errors import HomeNewer, LedgerUnavailable
from stillhouse.home.ledger import answer_queries, building, projection
from stillhouse.home.ledger.databases import building_alone
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.recorder import Recorder
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
from tests.conformance.test_ledgers import answered, asked
from tests.older_homes import unpacked
from tests.signers import somebody

FIXTURES = Path(__file__).parents[1] / "fixtures"
SOURCE = Path(projection.__file__).parents[3]
POINTS = ("begun", "filling", "filled", "indexed", "swapped")


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log", Objects(LocalBackend(tmp_path / "objects")), segment_bytes=20_000)


def write(log, ledger, *names):
    recorder = Recorder(log, ledger, by="test", signatory=somebody)
    recorder.record(*(answered(name) for name in names), asked(*names))
    recorder.close()


def table_names(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
    engine.dispose()
    return set(names)


def test_a_change_of_the_tables_has_a_revision_of_its_own():
    lines = [line.split() for line in (FIXTURES / "views.txt").read_text().splitlines()]
    assert lines[-1] == [str(projection.REVISION), projection.FINGERPRINT], (
        "The tables, or how facts fill them, have changed: raise REVISION and append the new line to views.txt."
    )
    revisions = [int(revision) for revision, _ in lines]
    assert revisions == sorted(set(revisions)), "a revision that was given out is never another view"


def test_index_names_are_apart():
    names = [index.name for table in projection.tables.by_name.values() for index in table.indexes]
    assert len(names) == len(set(names))


def check_indexes(ledger):
    with ledger.engine.connect() as connection:
        for table in projection.tables.by_name.values():
            wanted = sorted([column.name for column in index.columns] for index in table.indexes)
            found = inspect(connection).get_indexes(table.name)
            assert sorted(index["column_names"] for index in found) == wanted, table.name


def test_every_index_is_there(url, log):
    ledger = Ledger(url)
    check_indexes(ledger)
    write(log, ledger, "a")
    ledger.rebuild(log)
    check_indexes(ledger)
    ledger.close()


def test_who_applies_an_entry_during_the_swap_waits_for_it(url, log, monkeypatch):
    """Else its rows would go with the old tables, after it was told that they are there."""
    ledger, other = Ledger(url), Ledger(url)
    write(log, ledger, "before")
    other.catch_up(log)
    look, looked = other._look, iter([True])
    monkeypatch.setattr(other, "_look", lambda: next(looked, None) or look())  # it has looked just before
    swap, threads, said = building._swap, [], []

    def racing(connection):
        threads.append(threading.Thread(target=write, args=(log, other, "racing")))
        threads[0].start()
        time.sleep(0.5)  # long enough to have applied it, were it not waiting
        said.append(threads[0].is_alive())
        swap(connection)

    monkeypatch.setattr(building, "_swap", racing)
    ledger.rebuild(log)
    threads[0].join()
    assert said == [True], "it waits"
    monkeypatch.undo()
    other.catch_up(log)
    assert answer_queries.answered(other, ["before", "racing"]) == {"before", "racing"}
    ledger.close()
    other.close()


@pytest.mark.parametrize("point", POINTS)
def test_what_is_written_while_a_view_is_built_is_in_both(url, log, point):
    """The old view stays in use and whole until the swap, and the new one has everything from then on."""
    old, other = Ledger(url), Ledger(url)
    write(log, old, *(f"k{n}" for n in range(50)))
    there = {f"k{n}" for n in range(50)}

    def meanwhile(at, done, total):
        if at == point and at != "swapped":
            write(log, other, f"during {at}")
            there.add(f"during {at}")
            assert answer_queries.answered(other, there) == there, "the view in use is whole"

    old.rebuild(log, meanwhile)
    assert answer_queries.answered(old, there) == there, "nothing that the old view had is missing after the swap"
    write(log, other, "after")
    assert answer_queries.answered(other, {*there, "after"}) == {*there, "after"}, (
        "who had it open goes on with the new one"
    )
    assert old.catch_up(log) == 0
    assert old.differences(log) == []
    assert not [name for name in table_names(url) if name.endswith("_new")]
    old.close()
    other.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from stillhouse.home.ledger.databases import building_alone
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
url, root, point, after = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0
def watch(at, done, total):
    global seen
    seen += at == point
    if at == point and seen > after:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger(url).rebuild(Log(root / "log", Objects(LocalBackend(root / "objects"))), watch)
"""


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_is_resumed(url, log, tmp_path, point):
    ledger = Ledger(url)
    write(log, ledger, *(f"k{n}" for n in range(2500)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, url, str(tmp_path), point, "1" if point == "filling" else "0"], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(answer_queries.answered(ledger, [f"k{n}" for n in range(2500)])) == 2500
    seen = []
    ledger.catch_up(log)
    ledger.rebuild(log, lambda at, done, total: seen.append((at, done)))
    if point in ("filled", "indexed"):
        assert not [one for one in seen if one[0] == "filling"], "what was filled is not filled again"
    assert ledger.differences(log) == []
    check_indexes(ledger)
    ledger.close()


def test_new_tables_of_another_log_are_not_used(url, log, tmp_path):
    ledger = Ledger(url)
    write(log, ledger, "a", "b")
    subprocess.run([sys.executable, "-c", KILLED, url, str(tmp_path), "filled", "0"], check=False)
    shutil.rmtree(tmp_path / "log")
    again = Log(tmp_path / "log", Objects(LocalBackend(tmp_path / "objects")))
    write(again, ledger, "c")
    assert answer_queries.answered(ledger, ["a", "b", "c"]) == {"c"}
    assert ledger.differences(again) == []
    ledger.close()


def test_a_view_of_before_revision_8_is_replaced(tmp_path):
    cli = unpacked("home-1", tmp_path)
    raw = zstandard.ZstdDecompressor().stream_reader((FIXTURES / "home-1" / "ledger-7.db.zst").read_bytes()).read()
    (cli.home / "ledger.db").write_bytes(raw)
    url = f"sqlite:///{cli.home / 'ledger.db'}"
    assert "answers" in table_names(url)
    assert cli("status", "--json").json["counts"]["answers"] == 59
    names = table_names(url)
    assert not names & {"answers", "cursors", "steps"}, "the old tables are gone"
    assert names == {"stillhouse_view", "alembic_version", *(t.name for t in projection.tables.by_name.values())}
    with create_engine(url).connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() > "0007", (
            "which it refuses"
        )


NEXT = """
import sys
import threading
import time
from pathlib import Path
from stillhouse.home.ledger import answer_queries, building, projection
from stillhouse.home.ledger.databases import building_alone
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
assert projection.REVISION == int(sys.argv[3]) and "surprises" in projection.tables.by_name
url, root = sys.argv[1], Path(sys.argv[2])
def watch(at, done, total):
    print(at, flush=True)
    sys.stdin.readline()
ledger = Ledger(url)
ledger.catch_up(Log(root / "log", Objects(LocalBackend(root / "objects"))), watch)
print(sorted(answer_queries.answered(ledger, [f"k{n}" for n in range(30)])), flush=True)
"""


@pytest.fixture(scope="module")
def next_version(tmp_path_factory):
    """The program with one more kind of fact, and the revision that belongs to it."""
    source = tmp_path_factory.mktemp("next") / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    path = source / "stillhouse" / "home" / "ledger" / "projection.py"
    path.write_text(
        path.read_text().replace(f"REVISION = {projection.REVISION}", f"REVISION = {projection.REVISION + 1}")
    )
    with (source / "stillhouse" / "home" / "facts" / "money_facts.py").open("a") as file:
        file.write(
            '\n\nclass Surprised(Fact, frozen=True, tag="surprised"):\n    """New."""\n\n    word: str\n\n'
            '    tables = (Table("surprises", indexes=("word",)),)\n'
        )
    return source


def test_two_versions_on_one_database(url, log, tmp_path, next_version):
    """The older one works, and sees all, until the swap; then it is told that it is the older one, and writes nothing more."""
    old = Ledger(url)
    write(log, old, "k0")
    newer = subprocess.Popen(
        [sys.executable, "-c", NEXT, url, str(tmp_path), str(projection.REVISION + 1)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(next_version)},
    )  # fmt: skip
    number = 0
    while (point := newer.stdout.readline().strip()) != "swapped":
        assert point in POINTS, point
        number += 1
        write(log, old, f"k{number}")
        assert answer_queries.answered(old, [f"k{n}" for n in range(number + 1)]) == {
            f"k{n}" for n in range(number + 1)
        }
        newer.stdin.write("\n")
        newer.stdin.flush()
    for attempt in (
        lambda: write(log, old, "late"),
        lambda: old.catch_up(log),
        lambda: Ledger(url),
        lambda: old.rebuild(log),
    ):
        with pytest.raises(HomeNewer):
            attempt()
    out, _ = newer.communicate("\n")
    assert out.strip().splitlines()[-1] == str(sorted(f"k{n}" for n in range(number + 1)))
    assert newer.returncode == 0
    old.close()


def test_without_the_right_to_create_it_says_what_it_needs(postgres, log):
    """Building needs CREATE in one schema, and nothing else; a view that is there needs none."""
    if not postgres.startswith("postgresql"):
        pytest.skip("no PostgreSQL here")
    admin = create_engine(postgres, isolation_level="AUTOCOMMIT")
    name = f"limited{os.getpid()}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'x'"))
    base, _, rest = postgres.partition("/postgres?")
    inside = create_engine(f"{base}/{name}?{rest}", isolation_level="AUTOCOMMIT")
    limited = f"{base.partition('//')[0]}//{name}:x@/{name}?{rest}"
    try:
        with inside.connect() as connection:
            connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        with pytest.raises(LedgerUnavailable) as refused:
            Ledger(limited)
        assert "GRANT CREATE ON SCHEMA" in refused.value.next_step
        with inside.connect() as connection:
            connection.execute(text(f"GRANT CREATE ON SCHEMA public TO {name}"))
        ledger = Ledger(limited)
        with inside.connect() as connection:
            connection.execute(text(f"REVOKE CREATE ON SCHEMA public FROM {name}"))
        write(log, ledger, "a")
        assert answer_queries.answered(ledger, ["a"]) == {"a"}
        ledger.close()
    finally:
        inside.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(text(f"DROP ROLE {name}"))
        admin.dispose()


def test_who_waits_for_another_builder_is_told(url, log, tmp_path):
    ledger = Ledger(url)
    write(log, ledger, "k0")
    holds, waits, seen = threading.Event(), threading.Event(), []

    def hold():
        engine = create_engine(url)
        with building_alone(engine):
            holds.set()
            waits.wait(30)
        engine.dispose()

    def reached(point, done, total):
        seen.append(point)
        waits.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(30)
    ledger.rebuild(log, reached)
    holder.join()
    ledger.close()
    assert seen[0] == "waiting"
    assert seen[-1] == "swapped"
