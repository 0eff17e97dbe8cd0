"""A source that can be erased: encrypted with a key of its own, and unreadable everywhere when that is gone."""

import json
import os
import shutil

import pytest

from stillhouse.canon import digest_bytes
from stillhouse.home import facts
from stillhouse.home.ledger import dataset_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.row_index import read_index
from stillhouse.home.settings import read_settings
from tests.acceptance.test_student import RIGHT
from tests.vaults import tree

SECRET = "a very particular sentence that nobody else would write"


@pytest.fixture
def home(home):
    """With two key stores and a copy."""
    config = home.home / "config.toml"
    stores = f'key_stores = ["keys/erasure", "{home.folder / "stick"}"]'
    copy = f'[copies.far]\nplace = "{home.folder / "far"}"\n'
    config.write_text(config.read_text() + f"\n[custody]\n{stores}\n{copy}")
    return home


@pytest.fixture
def data(home):
    folder = home.folder / "data"
    folder.mkdir()
    (folder / "patient-zero.jsonl").write_text("".join(f'{{"n": {n}, "text": "{SECRET}"}}\n' for n in range(4000)))
    (folder / "noise").write_bytes(os.urandom(300_000))
    return folder


@pytest.fixture
def people(home):
    def run(who, *words, code=0):
        return home(*words, code=code, STILLHOUSE_KEYS=str(home.folder / f"keys-{who}"))

    run("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "custodian")
    run("bob", "identity", "request", "bob", "--to", home.folder / "bob.json")
    run("ada", "identity", "enrol", "bob", "--role", "approver", "--request", home.folder / "bob.json")
    return run


def erase(people, source="s1"):
    asked = people("ada", "delete", "erase", source, "--reason", "article 17", "--json").json
    assert "Others must approve" in people("ada", "plan", "execute", asked["plan"], code=3).err
    people("bob", "plan", "approve", asked["plan"])
    return asked["plan"]


def keys_of(home):
    return sorted(path for folder in ("home/keys/erasure", "stick") for path in (home.folder / folder).glob("*.key"))


def bytes_kept(home):
    """Everything that the vault and its copy hold."""
    folders = [home.home / "objects", home.home / "cache", home.folder / "far"]
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


def test_it_is_kept_and_comes_back_like_anything_else(home, data):
    taken = home("vault", "snapshot", data, "--erasable", "s1", "--json").json
    assert (taken["files"], taken["bytes"]) == (2, sum(path.stat().st_size for path in data.iterdir()))
    home("vault", "restore", "data", "out")
    assert tree(home.folder / "out") == tree(data)
    home("vault", "restore", "data", "one", "--path", "noise")
    assert (home.folder / "one").read_bytes() == (data / "noise").read_bytes()
    again = home("vault", "snapshot", data, "--erasable", "s1", "--json").json
    assert again["snapshot"] == taken["snapshot"], "the same content of one source is one snapshot"
    assert again["bytes_added"] < 2000
    home("vault", "backup")
    home("vault", "verify")
    assert home("drill", "run", "data", "--whole", "--json").json["problem"] == ""
    assert home("drill", "run", "data", "--copy", "far", "--json").json["problem"] == ""
    home("vault", "gc")
    home("vault", "restore", "data", "after")
    for path in [*(home.home / "objects").rglob("blake3-*"), *(home.folder / "far").rglob("blake3-*")]:
        kept = path.read_bytes()
        assert SECRET.encode() not in kept and b"patient-zero" not in kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys_of(home)) and len(keys_of(home)) == 2


def test_sources_share_nothing(home, data):
    """Whether one source has what another has is not to be seen, and erasing one leaves the others whole."""
    plain = home("vault", "snapshot", data, "--name", "plain", "--json").json
    first = home("vault", "snapshot", data, "--erasable", "s1", "--name", "first", "--json").json
    second = home("vault", "snapshot", data, "--erasable", "s2", "--name", "second", "--json").json
    assert len({plain["snapshot"], first["snapshot"], second["snapshot"]}) == 3
    assert all(one["bytes_added"] > 300_000 for one in (plain, first, second)), "each deduplicates only within itself"


def test_an_erasure(home, data, people):
    home("vault", "snapshot", data, "--erasable", "s1")
    home("vault", "snapshot", data, "--name", "mine")
    home("vault", "backup")
    key = keys_of(home)[0].read_bytes()
    shown = home("delete", "erase", "s1", "--plan", "--json", STILLHOUSE_KEYS=str(home.folder / "keys-ada")).json
    assert shown["impact"]["in every copy"] is True and len(shown["impact"]["encrypted with its key"]) == 1
    plan = erase(people)
    people("ada", "plan", "execute", plan)
    assert keys_of(home) == []
    assert "was erased" in home("vault", "restore", "data", "out", code=3).err
    assert "was erased" in home("vault", "snapshot", data, "--erasable", "s1", code=3).err, "its name is not used again"
    people("ada", "plan", "execute", plan, code=3)
    assert bytes.fromhex(key.decode()) not in bytes_kept(home) and key not in bytes_kept(home)
    assert not list((home.home / "cache" / "erasable").iterdir()), "what was remembered of it is gone, too"
    listed = [one for one in home("delete", "list", "--json").json if one["erased"]]
    assert [(one["subjects"], one["reason"], sorted(one["signed_by"])) for one in listed] == [
        (["source:s1"], "article 17", ["ada", "bob"])
    ]
    # Everything else is whole; what is left of it is unreadable, here and in a home made from the copy.
    home("vault", "restore", "mine", "mine")
    assert tree(home.folder / "mine") == tree(data)
    home("vault", "pull", home.folder / "far", "--home", home.folder / "again")
    assert (
        "in none of the key stores"
        in home("vault", "restore", "data", "x", "--home", home.folder / "again", code=1).err
    )
    home("vault", "gc")
    assert home("vault", "verify", "--json").json["bad"] == []
    assert "UNERASED" not in home("status").out


def test_holds_and_new_snapshots_stop_it(home, data, people):
    snapshot = home("vault", "snapshot", data, "--erasable", "s1", "--json").json["snapshot"]
    home("vault", "hold", f"snapshot:{snapshot}", "--reason", "a dispute")
    assert "a dispute" in people("ada", "delete", "erase", "s1", code=3).err
    released = people("ada", "vault", "release", home("vault", "holds", "--json").json[0]["hold"], "--json").json
    people("bob", "plan", "approve", released["plan"])
    people("ada", "plan", "execute", released["plan"])
    plan = erase(people)
    (data / "more").write_text("more")
    home("vault", "snapshot", data, "--erasable", "s1")
    assert "has changed" in people("ada", "plan", "execute", plan, code=3).err
    home("vault", "restore", "data", "out")
    assert "No source 'nobody'" in people("ada", "delete", "erase", "nobody", code=2).err


def test_a_key_store_that_is_away_leaves_it_unfinished_and_said(home, data, people):
    home("vault", "snapshot", data, "--erasable", "s1")
    plan = erase(people)
    (home.folder / "stick").rename(home.folder / "pocket")
    ran = people("ada", "plan", "execute", plan, code=1)
    assert "it is not known whether the key of s1 is gone" in ran.err
    assert "UNERASED     s1" in home("status").out
    assert "was erased" in home("vault", "restore", "data", "out", code=3).err, (
        "it is refused from the moment it was agreed"
    )
    assert "it is not known whether" in home("tick", code=1).err
    (home.folder / "pocket").rename(home.folder / "stick")
    assert "the keys of s1 are destroyed" in home("tick", code=None).out
    assert keys_of(home) == [] and "UNERASED" not in home("status").out


def test_keys_are_irreplaceable(home, data):
    home("vault", "snapshot", data, "--erasable", "s1")
    assert "key of s1" not in home("status").out
    (home.folder / "stick").rename(home.folder / "pocket")
    assert "BELOW        key of s1 (irreplaceable): 1 of 2 key stores" in home("status").out
    home("vault", "restore", "data", "out")
    (home.folder / "stick").mkdir()
    assert "1 keys copied to stores that lacked them" in home("tick").out
    shutil.rmtree(home.home / "keys" / "erasure")
    home("vault", "restore", "data", "again")
    for path in keys_of(home):
        path.write_text("00" * 32)
    assert "in none of the key stores" in home("vault", "restore", "data", "third", code=1).err


def test_damage_is_found_without_the_key(home, data):
    home("vault", "snapshot", data, "--erasable", "s1")
    for path in keys_of(home):
        path.unlink()
    assert home("vault", "verify", "--json").json["bad"] == []
    path = max((home.home / "objects").rglob("blake3-*"), key=lambda path: path.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(whole)
    bad = home("vault", "verify", "--json", code=4).json["bad"]
    assert [one["object"] for one in bad] == [path.name.replace("-", ":", 1)]
    assert any(hit.startswith("snapshot:") for hit in bad[0]["hits"])


def test_names_that_could_not_be_kept(home, data):
    assert "is no name of a source" in home("vault", "snapshot", data, "--erasable", "Jane Doe", code=2).err
    (home.folder / "stick").write_text("a file where a folder should be")
    assert home("vault", "snapshot", data, "--erasable", "s1", code=1).err
    (home.folder / "stick").unlink()
    home("vault", "snapshot", data, "--erasable", "s1")
    assert len(keys_of(home)) >= 2


def corpus(home, name="answers.jsonl", count=6):
    """Rows whose words, ids, names and questions are nobody else's business."""
    named = {
        "model": "Mrs Hiddenword",
        "via": "Hiddenword Ltd",
        "provider": "Hiddenword",
        "finish_reason": "hiddenword",
    }
    rows = [
        {
            "id": f"patient-zero-{n}",
            **(named if n == 1 else {"model": "qwen3-32b"}),
            "messages": [
                {"role": "user", "content": f"{SECRET}, asked {n}"},
                {"role": "assistant", "content": f"{RIGHT} # {SECRET}, said {n}"},
            ],
        }
        for n in [*range(count), 0]  # one twice
    ]
    return home.write(name, "".join(json.dumps(row) + "\n" for row in rows))


def check_nothing_is_told(home):
    """Nothing under the home, with what is compressed in the log read, has a word of those rows."""
    for path in (one for one in home.home.rglob("*") if one.is_file()):
        check_untold(path.read_bytes(), path)
    with open_home(read_settings(home.home)) as app:
        for writer in app.log.writers():
            for entry in app.log.read(writer):
                check_untold(entry.payload, writer)


def check_untold(kept, where):
    assert not [word for word in (SECRET, "patient-zero", "hiddenword") if word.encode() in kept.lower()], where


def importing(home, path, name, source, *more, **options):
    words = [
        "dataset",
        "import",
        path,
        "--name",
        name,
        "--erasable",
        source,
        "--channel",
        "official",
        "--keep",
        "unknown",
        "--json",
    ]
    return home(*words, *more, **options)


def test_imported_rows_can_be_erased(home, people):
    path = corpus(home)
    plan = importing(home, path, "survey", "s1", "--plan").json
    assert plan["does"]["erasable as"] == "s1" and keys_of(home) == [], "a plan makes no key"
    assert "is no name of a source" in importing(home, path, "survey", "Jane Doe", "--plan", code=2).err
    done = importing(home, path, "survey", "s1").json
    assert (done["dataset"], done["rows"]) == ("survey@1", 6)
    assert importing(home, path, "survey", "s1").json["dataset"] == "survey@1", "the same again is the same"
    home("vault", "backup")
    check_nothing_is_told(home)
    home("dataset", "export", "survey", "out.jsonl", "--use", "store")
    rows = [json.loads(line) for line in (home.folder / "out.jsonl").read_text().splitlines()]
    assert sorted(row["messages"][0]["content"] for row in rows) == [f"{SECRET}, asked {n}" for n in range(6)]
    home("dataset", "export", "survey", "second.jsonl", "--use", "store")
    first, second = ((home.folder / name).read_bytes() for name in ("out.jsonl", "second.jsonl"))
    assert digest_bytes(first) != digest_bytes(second), "its digest is in the log, and must prove no guess at its words"
    assert "a second copy of its rows" in home("vault", "snapshot", "dataset:survey@1", code=2).err
    shown = people("ada", "delete", "erase", "s1", "--plan", "--json").json
    assert shown["impact"]["encrypted with its key"] == ["dataset:survey@1"]
    assert len(shown["impact"]["exports"]) == 2, "what left before is named: no key reaches it"
    people("ada", "plan", "execute", erase(people))
    assert "was erased" in home("dataset", "export", "survey", "again.jsonl", "--use", "store", code=3).err
    assert "was erased" in importing(home, path, "survey", "s1", code=3).err
    assert home("dataset", "show", "survey", "--json").json["rows"] == 6, "that it was there stays known"
    assert home("dataset", "inventory", "survey", "--json").json["rows"] == 6
    home("vault", "gc")
    assert home("vault", "verify", "--json").json["bad"] == []
    home("doctor")


def test_what_stands_in_the_log_cannot_be_guessed_at(home):
    """Equal rows of two sources, and of none, have nothing in common that the log shows."""
    path = corpus(home)
    importing(home, path, "one", "s1")
    importing(home, path, "two", "s2")
    home("dataset", "import", path, "--name", "plain", "--channel", "official")
    with open_home(read_settings(home.home)) as app:
        sets = [dataset_queries.dataset(app.ledger, name) for name in ("one", "two", "plain")]
        keys = [{row.key for row in dataset_queries.placements(app.ledger, app.objects, dataset)} for dataset in sets]
        prompts = [
            {
                content
                for part in read_index(app.objects, one.index, ["content"])
                for content in part["content"].to_pylist()
            }
            for one in sets
        ]
        imported = [
            fact.digest
            for writer in app.log.writers()
            for entry in app.log.read(writer)
            if isinstance(fact := facts.decode(entry.payload), facts.RowsImported)
        ]
    assert [len(one) for one in keys] == [6, 6, 6] and not keys[0] & keys[1] and not keys[0] & keys[2]
    assert len(prompts) == 3 and not prompts[0] & prompts[1] | prompts[1] & prompts[2] | prompts[0] & prompts[2]
    for values in (imported, [one.content_digest for one in sets], [one.files["rows.parquet"] for one in sets]):
        assert len(set(values)) == 3


def test_what_mixes_it_in_is_erased_with_it(home, sandboxed, request):
    importing(home, corpus(home), "survey", "s1", "--terms", "licence/mit", "--lab", "rival", "--use", "train")
    importing(home, corpus(home, "b.jsonl", 2), "other", "s2", "--terms", "licence/mit", "--lab", "rival")
    home.prompts(2)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(2)]))
    people = request.getfixturevalue("people")  # teachers that are there then are adopted
    recipe = mixing(home, "mixed", ["survey"])
    assert home("run", recipe, "--json").json["rows"] == 5 + 2, (
        "who wrote one of the six nobody knows, and that stays so"
    )
    check_nothing_is_told(home)
    assert "what can be erased has one key" in home("run", mixing(home, "both", ["survey", "other"]), code=2).err
    taught = mixing(home, "taught", ["survey"])
    taught.write_text(taught.read_text() + '[train]\nstudent = "tiny"\n')
    refused = home("train", taught, "--processes", "2", code=2).err
    assert "unencrypted file" in refused and "Train in one process" in refused
    assert home("run", "--replay", recipe.stem, "--json").json["data_equal"]
    people("ada", "plan", "execute", erase(people))
    assert "was erased" in home("dataset", "export", "mixed", "out.jsonl", "--use", "store", code=3).err
    assert "was erased" in home("run", mixing(home, "again", ["survey"]), code=3).err
    assert "was erased" in home("run", "--replay", "mixed", code=3).err


def mixing(home, name, mix):
    path = home.recipe("recorded", name=f"{name}.toml", dataset=name)
    path.write_text(path.read_text().replace(f'name = "{name}"', f'name = "{name}"\nmix = {json.dumps(mix)}'))
    return path


def test_two_that_begin_a_source_at_once_make_one_key(home):
    """A second key would be one that an erasure does not know of."""
    paths = [corpus(home, f"{n}.jsonl", n) for n in (2, 3)]
    started = [
        home.start("dataset", "import", path, "--name", f"d{n}", "--erasable", "s1") for n, path in enumerate(paths)
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert not [err for _, err in said if b"Traceback" in err]
    assert len({path.name for path in keys_of(home)}) == 1
    done = [number for number, process in enumerate(started) if process.returncode == 0]
    assert done, "at least one got it"
    for number in done:
        home("dataset", "export", f"d{number}", f"{number}.out", "--use", "store")


@pytest.mark.parametrize("claimed", ["s1", "never used"])
def test_an_unsigned_claim_makes_nothing_removable(home, data, people, claimed):
    """Whether something can be erased is read from its own bytes: who writes one more entry of a snapshot gains nothing."""
    home("vault", "snapshot", data, "--erasable", "s1")
    mine = home("vault", "snapshot", data, "--name", "mine", "--json").json["snapshot"]
    people("ada", "plan", "execute", erase(people))
    with open_home(read_settings(home.home, {})) as app:
        said = facts.SnapshotTaken(
            at="2026-11-20T00:00:00Z",
            by=app.recorder.by,
            snapshot=mine,
            name="mine",
            source="x",
            subject="",
            files=0,
            bytes=0,
            added=0,
            erasable=claimed,
        )
        app.recorder.record(said)
        app.recorder.refresh()
    before = {path.name for path in (home.home / "objects").rglob("blake3-*")}
    home("vault", "gc", code=None)
    home("vault", "restore", mine, "out")
    assert tree(home.folder / "out") == tree(data)
    gone = before - {path.name for path in (home.home / "objects").rglob("blake3-*")}
    assert mine.replace(":", "-") not in gone


def test_no_key_goes_into_a_snapshot(home, data, people):
    """Not with the folder that holds the store, nor by a link, nor alone: an erased key would come back out of it."""
    home("vault", "snapshot", data, "--erasable", "s1")
    (home.folder / "here").symlink_to(home.folder / "stick")
    os.link(next((home.folder / "stick").glob("*.key")), home.folder / "copy-of-a-key")
    secrets = {path.read_bytes() for path in keys_of(home)}
    for source in (home.folder / "stick", home.folder / "here", home.folder / "copy-of-a-key", home.home / "keys"):
        home("vault", "snapshot", source, "--name", "keys", code=None)
    taken = home("vault", "snapshot", home.folder, "--name", "everything", "--json").json
    home("vault", "restore", taken["snapshot"], "out")
    restored = {path.read_bytes() for path in (home.folder / "out").rglob("*") if path.is_file()}
    assert not secrets & restored


def test_a_copy_of_a_key_is_in_no_snapshot(home, data, people):
    """Wherever it lies: in a store that is none any more, or among the data; and so with the keys that people sign with."""
    home("vault", "snapshot", data, "--name", "data", "--erasable", "s1")
    for number, key in enumerate(keys_of(home)):
        shutil.copy(key, data / f"{number}.txt")
        (data / f"{number}-with-a-line.txt").write_text(key.read_text().strip() + "\n")
    signer = next(path for path in (home.folder / "keys-ada").iterdir() if b"PRIVATE KEY" in path.read_bytes())
    shutil.copy(signer, data / "signer")
    config = home.home / "config.toml"
    config.write_text(config.read_text().replace(str(home.folder / "stick"), str(home.folder / "another")))
    (home.folder / "another").mkdir()
    taken = people("ada", "vault", "snapshot", home.folder, "--name", "all", "--json").json
    home("vault", "restore", taken["snapshot"], "back")
    kept = [path.read_bytes() for path in (home.folder / "back").rglob("*") if path.is_file()]
    assert not [one for one in kept if one.strip() in {key.read_bytes().strip() for key in keys_of(home)}]
    assert signer.read_bytes() not in kept
