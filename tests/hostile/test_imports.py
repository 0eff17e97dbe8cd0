"""Imports that are stopped, meet each other, or read what is broken: one entry or none, and the same dataset in the end."""

import json
import random
import shutil
import subprocess
import threading
import time

import numpy
import pyarrow.parquet
import pytest

from stillhouse.datasets import import_corpus, import_pass, import_staging, shards
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.import_corpus import ImportRequest, execute_import
from stillhouse.engine.choice import EngineSettings, open_engine
from stillhouse.errors import PlanRefused, StorageError
from stillhouse.home import facts
from stillhouse.home.ledger import dataset_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.progress import Silence
from stillhouse.home.row_index import read_index
from stillhouse.home.settings import read_settings
from stillhouse.nouns import Use
from stillhouse.vault.objects import Objects

WORDS = (
    "--lab",
    "rival",
    "--model",
    "rival-1",
    "--channel",
    "official",
    "--terms",
    "licence/mit",
    "--day",
    "2026-01-01",
)


def lines(count, seed=0):
    """Rows of which some are twice, some end early, some are long, and some are none."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        text = " ".join(chance.choices(["alpha", "beta", "gamma", "delta"], k=chance.choice((3, 60, 400))))
        said = [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": text}]
        row = {"messages": said, "id": f"r{number}", "finish_reason": chance.choice(("stop", "stop", "stop", "length"))}
        found.append(json.dumps(chance.choice([row, row, row, row, {"text": "a page"}])))
        if number % 7 == 0:
            found.append(found[-1])
    return found


@pytest.fixture
def small_shards(monkeypatch):
    """So that a few hundred rows are many shards, and many objects of an index."""
    monkeypatch.setattr(shards, "_SHARD_TEXT", 20_000)
    monkeypatch.setattr(shards, "_GROUP_TEXT", 3_000)
    monkeypatch.setattr(import_pass, "_ROWS_AT_ONCE", 17)
    monkeypatch.setattr(import_pass, "_ROWS_A_BATCH", 17)


def corpus(home, count=400, name="rows.jsonl"):
    return home.write(name, "\n".join(lines(count)) + "\n")


def imported(home, path, name="a", *words):
    return home("dataset", "import", path, "--name", name, *WORDS, *words, "--json").json


def entries(home, kind):
    with open_home(read_settings(home.home)) as app:
        log = app.log
        every = [facts.decode(entry.payload) for writer in log.writers() for entry in log.read(writer)]
    return [fact for fact in every if isinstance(fact, kind)]


def test_many_shards_are_the_same_dataset_as_one(home, small_shards, monkeypatch):
    path = corpus(home)
    many = imported(home, path, "many")
    with open_home(read_settings(home.home)) as app:
        version = dataset_queries.dataset(app.ledger, "many")
        assert len(shards.shards_of(version)) > 5
        keys = [row["key"] for row in shards.read_rows(app.objects, version)]
    monkeypatch.undo()
    one = imported(home, path, "one")
    assert (many["rows"], many["content_digest"]) == (one["rows"], one["content_digest"])
    with open_home(read_settings(home.home)) as app:
        version = dataset_queries.dataset(app.ledger, "one")
        assert len(shards.shards_of(version)) == 1
        assert [row["key"] for row in shards.read_rows(app.objects, version)] == keys, "in the order of the file"
    home("doctor")


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_disk_that_fills_at_any_shard_costs_that_shard(home, small_shards, monkeypatch, stop):
    path = corpus(home)
    put, puts = Objects.put, []

    def until_full(self, data):
        puts.append(len(data))
        if len(puts) == stop:
            raise StorageError("The disk is full.")
        return put(self, data)

    monkeypatch.setattr(Objects, "put", until_full)
    assert "disk is full" in home("dataset", "import", path, "--name", "a", *WORDS, code=1).err
    monkeypatch.setattr(Objects, "put", put)
    assert not entries(home, facts.RowsImported) and home("dataset", "list", "--json").json == []
    ran = home("dataset", "import", path, "--name", "a", *WORDS, "--json")
    assert "going on after line" in ran.err if stop > 4 else True
    assert ran.json["content_digest"] == imported(home, path, "b")["content_digest"]
    assert ran.json["left_out"] == imported(home, path, "b")["left_out"]
    home("doctor")


def test_kills_at_random_moments(home):
    path = corpus(home, 3000)
    chance = random.Random(5)
    for _ in range(5):
        process = home.start("dataset", "import", path, "--name", "a", *WORDS)
        time.sleep(chance.uniform(0.3, 1.2))
        process.kill()
        process.communicate()
    found = imported(home, path)
    assert found["content_digest"] == imported(home, path, "b")["content_digest"]
    assert len(home("dataset", "list", "--json").json) == 2
    assert len(entries(home, facts.RowsImported)) == 2
    home("doctor")


def test_two_at_once_are_one(home):
    path = corpus(home, 500)
    processes = [home.spawn("dataset", "import", path, "--name", "a", *WORDS) for _ in range(2)]
    for process in processes:
        assert process.communicate() and process.returncode == 0
    assert {one["content_digest"] for one in home("dataset", "list", "--json").json} == {
        imported(home, path)["content_digest"]
    }
    new = {share.stamps: share.new for share in entries(home, facts.RowsImported)[0].shares}
    assert home("status", "--json").json["counts"]["answers"] == sum(new.values())


def test_a_row_that_is_not_utf_8_costs_itself(home):
    text = (
        "\n".join(lines(300)).encode()
        + b'\n{"messages": [{"role": "user", "content": "\xff"}]}\n'
        + b'{"prompt": "q", "response": "a"}\n'
    )
    path = home.folder / "rows.jsonl"
    path.write_bytes(text)
    found = imported(home, path)
    assert found["skipped"]["not UTF-8"] == 1
    assert imported(home, corpus(home, 300, "other.jsonl"), "b")["rows"] == found["rows"] - 1


def test_a_file_that_grows_while_it_is_read_makes_no_dataset(home, monkeypatch):
    path = corpus(home)
    request = ImportRequest(path, "a", Use.STORE, Declared())
    reading = import_pass.lines_in

    def growing(*arguments, **named):
        with path.open("a") as file:
            file.write('{"prompt": "late", "response": "late"}\n')
        return reading(*arguments, **named)

    monkeypatch.setattr(import_pass, "lines_in", growing)
    with open_home(read_settings(home.home)) as app, pytest.raises(PlanRefused, match="changed while it was read"):
        execute_import(app, request, Silence())
    assert home("dataset", "list", "--json").json == []


def test_what_is_found_by_is_made_again(home):
    """The arrays in the cache are of no account: without them, or with others in their place, the same rows are known."""
    imported(home, corpus(home, 60))
    own = ("--origin", "human", "--terms", "organisation/own")
    answers = [json.loads(line) for line in lines(60) if "messages" in line]
    plain = home.write("own.jsonl", "".join(json.dumps({"messages": row["messages"]}) + "\n" for row in answers))
    plan = ("dataset", "import", plain, "--name", "own", *own, "--plan", "--json")
    known = home(*plan).json["does"]["recognised"]
    assert known["question and answer"] > 10
    cached = sorted((home.home / "cache" / "rows").glob("*.npy"))
    assert cached
    for damage in (b"", b"x" * 500, b"\x93NUMPY" + b"\0" * 90):
        for path in cached:
            path.chmod(0o600)
            path.write_bytes(damage)
        assert home(*plan).json["does"]["recognised"] == known
    for path in cached:
        path.unlink()
    assert home(*plan).json["does"]["recognised"] == known
    assert all(len(numpy.load(path)) for path in cached if "answer" in path.name)


def test_imports_by_threads_of_one_process(home):
    paths = [home.write(f"{number}.jsonl", "\n".join(lines(50, number)) + "\n") for number in range(3)]

    def run(path):
        home.process("dataset", "import", path, "--name", path.stem, *WORDS)

    threads = [threading.Thread(target=run, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(home("dataset", "list", "--json").json) == 3


@pytest.mark.parametrize("packed", ["a.jsonl", "a.parquet", "a.json"])
def test_any_number_of_workers_makes_the_same_dataset(home, small_shards, monkeypatch, packed):
    monkeypatch.setattr(import_pass, "_ROWS_A_BATCH", 9)
    monkeypatch.setattr(import_pass, "_PARSED", 1 << 18)
    path = home.folder / packed
    if packed == "a.parquet":
        rows = [{"messages": None, "id": None, "finish_reason": None, **json.loads(line)} for line in lines(150)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join([*lines(150), "{", '{"half": "\\ud800"}']))
    found = []
    for workers in (1, 2, 3):
        with open_home(read_settings(home.home)) as app:
            vars(app)["engine"] = open_engine(EngineSettings(workers=workers))
            request = ImportRequest(path, "a", Use.STORE, Declared(model=str(workers)))
            done = execute_import(app, request, Silence())
            found.append((done.dataset.content_digest, done.dataset.rows, done.seen.left_out.told()))
    assert found[0] == found[1] == found[2] and found[0][1] > 50


def test_rows_in_another_order_are_the_same_dataset(home):
    rows = chats(300).splitlines()
    random.Random(1).shuffle(rows)
    first = imported(home, home.write("a.jsonl", chats(300)))
    assert imported(home, home.write("b.jsonl", "\n".join(rows)), "b")["content_digest"] == first["content_digest"]


def test_a_folder_of_thousands_of_files(home):
    folder = home.folder / "many"
    for number in range(2000):
        part = folder / str(number % 40)
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{number}.jsonl").write_text(chats(1, number) if number % 500 else "no row")
    found = imported(home, folder)
    assert found["rows"] == 1996 and "no row" not in str(found)
    print(found)


def test_origins_that_differ_in_every_row_are_refused_with_their_number(home, monkeypatch):
    monkeypatch.setattr(import_pass, "_MOST_SETS", 100)
    path = home.write("a.jsonl", "".join(chats(1, number, model=f"gpt-4o-{number}") for number in range(150)))
    for more in ((), ("--plan",)):
        said = home("dataset", "import", path, "--name", "a", *more, code=2).err
        assert "more than 100 different origins" in said and "may hold ids" in said
    assert home("dataset", "list", "--json").json == []


def test_what_cannot_fit_is_refused_before_it_begins(home, monkeypatch):
    path = corpus(home)
    plan = home("dataset", "import", path, "--name", "a", "--plan", "--json").json["does"]["needs about"]
    assert plan["disk_bytes"] > path.stat().st_size and plan["memory_bytes"] and plan["seconds"] >= 0
    usage = import_corpus.shutil.disk_usage
    monkeypatch.setattr(import_corpus.shutil, "disk_usage", lambda place: usage(place)._replace(free=1000))
    for more in ((), ("--plan",)):
        said = home("dataset", "import", path, "--name", "a", *more, code=1).err
        assert f"takes up to {plan['disk_bytes']:,} bytes" in said and "has 1,000 left" in said
    assert home("dataset", "list", "--json").json == []


@pytest.mark.parametrize("mebibytes", [200, 300, 450, 700, 1000, 1300])
def test_with_little_memory_it_works_or_says_what_it_had(home, mebibytes):
    """Address space is far more than what is used: interpreters and libraries alone map hundreds of MiB."""
    path = corpus(home, 200)
    words = [*home.command("dataset", "import", str(path), "--name", "a", *WORDS)]
    limited = ["prlimit", f"--as={mebibytes << 20}", *words]
    done = subprocess.run(limited, capture_output=True, text=True, cwd=home.folder, env=home.environment)
    assert "Traceback" not in done.stderr or done.returncode == 0, done.stderr
    assert (done.returncode == 0) == (mebibytes > 1200), done.stderr
    if done.returncode:
        assert f"a limit of {mebibytes:,} MiB" in done.stderr or "cannot allocate" in done.stderr.lower(), done.stderr


def chats(count, start=0, **more):
    said = "words that stand in an answer of some length " * 6
    rows = [
        {"messages": [{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": f"{said} {n}"}], **more}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def stopped(home, small_shards, monkeypatch):
    """An import that is stopped after its first complete shard."""

    def stop(*words):
        save = import_staging.Staging.save

        def saved(self, *arguments):
            save(self, *arguments)
            raise StorageError("stopped")

        with monkeypatch.context() as patched:
            patched.setattr(import_staging.Staging, "save", saved)
            home("dataset", "import", *words, code=1)

    return stop


def test_what_stood_before_a_stop_needs_not_stand_behind_it(home, stopped):
    """The rest of the file has other origins than its beginning."""
    path = home.write("two.jsonl", chats(120, model="gpt-4o") + chats(60, 120, model="qwen2.5"))
    stopped(path, "--name", "a")
    ran = home("dataset", "import", path, "--name", "a", "--json")
    assert "going on after line" in ran.err and ran.json["rows"] == 180


@pytest.mark.parametrize("since", ["import", "revoke"])
def test_a_resumed_import_is_decided_as_of_today(home, stopped, since):
    """What is revoked, or becomes known, while an import is stopped counts for the rows before the stop, too."""
    path = home.write("wash.jsonl", chats(180))
    own = (
        "--lab",
        "own-lab",
        "--channel",
        "official",
        "--terms",
        "licence/mit",
        "--day",
        "2026-01-01",
        "--use",
        "train",
    )
    stopped(path, "--name", "w", *own)
    if since == "import":
        home("dataset", "import", home.write("gpt.jsonl", chats(180, model="gpt-4o")), "--name", "gpt")
    else:
        home("access", "revoke", "own-lab", "--even-if-nothing")
    ran = home("dataset", "import", path, "--name", "w", *own, "--json")
    assert "going on after line" not in ran.err and ran.json["rows"] == 0


def test_what_is_imported_again_is_recognised_again(home):
    path = home.write("wash.jsonl", chats(12))
    own = (
        "--lab",
        "own-lab",
        "--channel",
        "official",
        "--terms",
        "licence/mit",
        "--day",
        "2026-01-01",
        "--use",
        "train",
    )
    assert home("dataset", "import", path, "--name", "w", *own, "--json").json["rows"] == 12
    home("dataset", "import", home.write("gpt.jsonl", chats(12, model="gpt-4o")), "--name", "gpt")
    assert home("dataset", "import", path, "--name", "w", *own, "--json").json["rows"] == 0
    before = len(entries(home, facts.RowsImported))
    home("dataset", "import", path, "--name", "w", *own)
    assert len(entries(home, facts.RowsImported)) == before, "nothing new: nothing is written"


def test_what_was_deleted_and_is_imported_again_is_kept(home):
    path = corpus(home)
    imported(home, path)
    asked = home("delete", "plan", "dataset:a@1", "--reason", "a test", "--json").json
    home("plan", "execute", asked["plan"])
    assert imported(home, path)["dataset"] == "a@1"
    home("vault", "gc")
    home("dataset", "export", "a", "out.jsonl", "--use", "store")


def test_imports_that_overlap_count_each_record_once(home, monkeypatch):
    """Another import of the same rows comes in while this one is at work."""
    path, other = corpus(home), home.write("other.jsonl", "\n".join(lines(400)[:150]) + "\n")
    stored, done = import_corpus.store, []

    def beside(*arguments):
        found = stored(*arguments)
        if not done:
            done.append(home.process("dataset", "import", other, "--name", "b", *WORDS, "--json").json)
        return found

    monkeypatch.setattr(import_corpus, "store", beside)
    rows = imported(home, path)["rows"]
    monkeypatch.undo()
    assert done[0]["rows"] > 50
    counted = home("status", "--json").json["counts"]["answers"]
    distinct = {record.key for fact in entries(home, facts.RowsImported) for record in placed(home, fact)}
    assert counted == len(distinct) >= rows


def placed(home, fact):
    with open_home(read_settings(home.home)) as app:
        for table in read_index(app.objects, fact.index, ("key", "stamps")):
            for key, stamps in zip(table["key"].to_pylist(), table["stamps"].to_pylist(), strict=True):
                yield facts.Placed(key.hex(), stamps)


def test_a_record_that_comes_whole_and_cut_counts_once(home):
    rows = [json.loads(line) for line in chats(1).splitlines()] * 2
    for number, order in enumerate((("stop", "length"), ("length", "stop"))):
        text = "".join(json.dumps({**row, "finish_reason": end}) + "\n" for row, end in zip(rows, order, strict=True))
        assert imported(home, home.write(f"{number}.jsonl", text), f"d{number}")["rows"] == 1
    assert home("dataset", "inventory", "--json").json["rows"] == 1


@pytest.mark.parametrize("tokens", [2**35, 2**39, 2**70, -5, "many"])
def test_odd_counts_of_tokens_cost_nothing(home, tokens):
    response = {
        "choices": [{"message": {"content": "A"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": tokens},
    }
    text = json.dumps({"question": "Q?", "response": response}) + "\n" + chats(2)
    assert imported(home, home.write("odd.jsonl", text))["rows"] == 3


def test_what_a_row_says_besides_is_kept(home):
    row = {"question": "Which?", "answer": "A", "correct_choice": "A", "label": "B", "score": 1}
    row["options"] = [{"k": "A", "text": "cat"}]
    imported(home, home.write("rest.jsonl", json.dumps(row) + "\n"))
    with open_home(read_settings(home.home)) as app:
        rows = list(shards.read_rows(app.objects, dataset_queries.dataset(app.ledger, "a")))
    assert json.loads(rows[0]["rest"]) == {name: row[name] for name in ("correct_choice", "label", "score", "options")}


def test_reasons_quote_no_words_of_what_can_be_erased(home):
    config = home.home / "config.toml"
    config.write_text(config.read_text() + f'\n[custody]\nkey_stores = ["keys/erasure", "{home.folder / "stick"}"]\n')
    secret = [{"role": "SECRETROLE alice", "content": "x"}, {"role": "assistant", "content": "y"}]
    parts = [{"role": "user", "content": [{"type": "SECRETTYPE bob"}]}, {"role": "assistant", "content": "y"}]
    text = "".join(json.dumps({"messages": turns}) + "\n" for turns in (secret, parts)) + chats(3)
    imported(home, home.write("s.jsonl", text), "e", "--erasable", "src1")
    for path in home.home.rglob("*"):
        assert not path.is_file() or b"SECRET" not in path.read_bytes(), path


def test_a_note_that_names_other_objects_is_of_no_account(home, stopped):
    path = home.write("a.jsonl", chats(180))
    stopped(path, "--name", "a")
    note = next((home.home / "cache" / "imports").iterdir())
    value = json.loads(note.read_bytes())
    note.chmod(0o600)
    value["files"] = dict.fromkeys(value["files"], value["index"][0])
    note.write_text(json.dumps(value))
    assert home("dataset", "import", path, "--name", "a", "--json").json["rows"] == 180


def test_a_missing_index_is_named_and_leaves_the_status(home):
    imported(home, corpus(home))
    with open_home(read_settings(home.home)) as app:
        digest = dataset_queries.dataset(app.ledger, "a").index[0]
    next((home.home / "objects").rglob(digest.replace(":", "-"))).unlink()
    shutil.rmtree(home.home / "cache", ignore_errors=True)
    assert home("status", "--json").json["datasets"] == ["a@1"]
    assert digest in home("doctor", code=4).out
