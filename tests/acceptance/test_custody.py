"""Snapshots, deletion as a plan, the trash and the way back, as a user types them."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.vaults import tree


@pytest.fixture
def data(home):
    folder = home.folder / "data"
    (folder / "inner").mkdir(parents=True)
    for n in range(5):
        (folder / "inner" / f"{n}.jsonl").write_text("".join(json.dumps({"n": m, "of": n}) + "\n" for m in range(2000)))
    (folder / "noise").write_bytes(random.Random(0).randbytes(200_000))
    return folder


@pytest.fixture
def people(home):
    """Each person with a keys folder of their own, as on machines of their own."""

    def run(who, *words, code=0):
        return home(*words, code=code, STILLHOUSE_KEYS=str(home.folder / f"keys-{who}"))

    run("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "custodian")
    run("bob", "identity", "request", "bob", "--to", home.folder / "bob.json")
    words = ["bob", "--role", "approver", "--request", home.folder / "bob.json"]
    run("ada", "identity", "enrol", *words)
    return run


def objects_on_disk(home):
    return sorted(path.name for path in (home.home / "objects").rglob("blake3-*") if "trash" not in path.parts)


def test_snapshot_restore_verify(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    assert set(taken) >= {"snapshot", "files", "bytes", "bytes_added", "seconds"}
    assert (taken["files"], home("vault", "snapshot", data, "--json").json["bytes_added"]) == (6, 0)
    done = home("vault", "restore", taken["snapshot"], "again", "--json").json
    assert (done["files"], done["verified"], done["bytes"]) == (6, 6, taken["bytes"])
    assert tree(home.folder / "again") == tree(data)
    home("vault", "restore", "data", "part", "--path", "inner/3.jsonl")
    assert (home.folder / "part").read_bytes() == (data / "inner" / "3.jsonl").read_bytes()
    assert "there already" in home("vault", "restore", "data", "again", code=1).err
    assert "No snapshot begins" in home("vault", "restore", "nothing", "x", code=2).err
    assert "does not exist" in home("vault", "snapshot", "nowhere", code=1).err
    assert home("vault", "verify", "--json").json["bad"] == []
    assert [one["name"] for one in home("vault", "list", "--json").json] == ["data", "data"]


def test_damage_is_named_with_what_it_hits(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    largest = max((home.home / "objects").rglob("blake3-*"), key=lambda path: path.stat().st_size)
    whole = bytearray(largest.read_bytes())
    whole[len(whole) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(whole)
    bad = home("vault", "verify", "--json", code=4).json["bad"]
    assert [one["object"].replace(":", "-") for one in bad] == [largest.name]
    assert bad[0]["hits"] == [f"snapshot:{taken['snapshot']}"]
    assert "Traceback" not in home("vault", "restore", "data", "again", code=4).err
    assert not (home.folder / "again").exists()
    largest.unlink()
    bad = home("vault", "verify", "--json", code=4).json["bad"]
    assert "missing" in bad[0]["problem"]


def test_a_killed_snapshot_goes_on_and_is_never_seen_half(home):
    folder = home.folder / "large"
    folder.mkdir()
    for n in range(8):
        (folder / str(n)).write_bytes(random.Random(n).randbytes(20_000_000))
    for delay in (0.6, 0.9, 1.2):
        process = home.start("vault", "snapshot", folder)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert all(one["files"] == 8 for one in home("vault", "list", "--json").json)
        assert home("vault", "verify", "--json").json["bad"] == []
    home("vault", "snapshot", folder)
    home("vault", "restore", "large", "again")
    assert tree(home.folder / "again") == tree(folder)


def test_a_killed_restore_leaves_nothing_at_its_target_and_goes_on(home):
    folder = home.folder / "many"
    folder.mkdir()
    for n in range(4000):
        (folder / str(n)).write_bytes(random.Random(n).randbytes(3000))
    home("vault", "snapshot", folder)
    for delay in (0.5, 0.6, 0.8):
        process = home.start("vault", "restore", "many", "again")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        target = home.folder / "again"
        if target.exists():
            assert tree(target) == tree(folder)
            shutil.rmtree(target)
    home("vault", "restore", "many", "again")
    assert tree(home.folder / "again") == tree(folder)


def test_alone_a_deletion_takes_two_commands_and_says_that_it_is_advisory(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    plan = home("delete", "plan", f"snapshot:{taken['snapshot'][7:19]}", "--reason", "a test", "--plan", "--json").json
    assert plan["impact"]["objects"] == len(objects_on_disk(home)) > 2
    assert plan["impact"]["last copy"] is True
    assert plan["impact"]["replaceability"]["kind"] == "irreplaceable", "nobody has said how to get it again"
    assert home("plan", "list", "--json").json == [], "--plan does nothing"
    asked = home("delete", "plan", f"snapshot:{taken['snapshot']}", "--json")
    assert not asked.json["done"]
    assert "ADVISORY" in asked.err
    assert home("vault", "verify", "--json").json["bad"] == []
    home("plan", "execute", asked.json["plan"])
    assert objects_on_disk(home) == []
    assert "executed already" in home("plan", "execute", asked.json["plan"], code=3).err
    assert home("vault", "verify", "--json").json == {"objects": 0, "bad": []}
    back = home("delete", "undo", asked.json["plan"], "--json").json
    assert back["objects"] == plan["impact"]["objects"]
    home("vault", "restore", taken["snapshot"], "again")
    assert tree(home.folder / "again") == tree(data)
    assert home("delete", "list", "--json").json[0]["undone"]


def test_a_deletion_needs_a_second_person(home, data, people):
    before = objects_on_disk(home)  # what was adopted when the roster was made
    taken = people("ada", "vault", "snapshot", data, "--json").json
    asked = people("ada", "delete", "plan", f"snapshot:{taken['snapshot']}", "--json").json
    assert asked["waits_for"] == ["bob"]
    assert "Others must approve" in people("ada", "plan", "execute", asked["plan"], code=3).err
    people("ada", "plan", "approve", asked["plan"], code=3)
    assert "Others must approve" in people("ada", "plan", "execute", asked["plan"], code=3).err
    assert objects_on_disk(home) != before
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])
    assert objects_on_disk(home) == before
    assert people("ada", "delete", "list", "--json").json[0]["signed_by"] == ["ada", "bob"]
    people("nobody", "delete", "undo", asked["plan"])
    assert objects_on_disk(home) != before


def test_who_only_approves_cannot_ask(home, data, people):
    taken = people("ada", "vault", "snapshot", data, "--json").json
    assert "Only who answers" in people("bob", "delete", "plan", f"snapshot:{taken['snapshot']}", code=3).err


def test_a_new_reference_voids_a_plan(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    asked = home("delete", "plan", f"snapshot:{taken['snapshot']}", "--json").json
    (data / "more").write_text("more")
    home("vault", "snapshot", data)
    assert "has changed" in home("plan", "execute", asked["plan"], code=3).err
    again = home("delete", "plan", f"snapshot:{taken['snapshot']}", "--json").json
    home("plan", "execute", again["plan"])
    home("vault", "restore", "data", "again")
    assert tree(home.folder / "again") == tree(data), "what the other snapshot shares with it stays"


def test_the_same_content_taken_again_is_there_again(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    asked = home("delete", "plan", f"snapshot:{taken['snapshot']}", "--json").json
    home("plan", "execute", asked["plan"])
    assert home("vault", "snapshot", data, "--json").json["snapshot"] == taken["snapshot"]
    home("vault", "gc")
    home("vault", "restore", taken["snapshot"], "again")


def test_holds_stop_all(home, data, people):
    taken = people("ada", "vault", "snapshot", data, "--json").json
    subject = f"snapshot:{taken['snapshot']}"
    asked = people("ada", "delete", "plan", subject, "--json").json
    people("bob", "plan", "approve", asked["plan"])
    held = people("bob", "vault", "hold", subject, "--reason", "a lawsuit", "--json").json
    assert "has changed" in people("ada", "plan", "execute", asked["plan"], code=3).err
    assert "a lawsuit" in people("ada", "delete", "plan", subject, code=3).err
    free = people("ada", "vault", "release", held["hold"], "--reason", "settled", "--json").json
    assert free["waits_for"] == ["bob"]
    assert people("ada", "vault", "holds", "--json").json
    people("bob", "plan", "approve", free["plan"])
    people("ada", "plan", "execute", free["plan"])
    assert people("ada", "vault", "holds", "--json").json == []
    asked = people("ada", "delete", "plan", subject, "--json").json
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])


def test_a_day_has_a_cap(home, data):
    taken = home("vault", "snapshot", data, "--json").json
    config = home.home / "config.toml"
    config.write_text(config.read_text() + "\n[custody]\ndelete_bytes_per_day = 1000\n")
    refused = home("delete", "plan", f"snapshot:{taken['snapshot']}", code=3)
    assert "the caps are 1,000 bytes" in refused.err
    config.write_text(config.read_text().replace("1000", "1_000_000"))
    asked = home("delete", "plan", f"snapshot:{taken['snapshot']}", "--json").json
    config.write_text(config.read_text().replace("1_000_000", "1000"))
    assert "the caps are" in home("plan", "execute", asked["plan"], code=3).err, "the cap counts when it is done, too"
    assert objects_on_disk(home)


def test_a_dataset_can_be_deleted_and_comes_back(home):
    rows = "".join(
        json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]})
        + "\n"
        for n in range(20)
    )
    home("dataset", "import", home.write("old.jsonl", rows), "--name", "old")
    home("vault", "snapshot", "dataset:old@1")
    plan = home("delete", "plan", "dataset:old@1", "--plan", "--json").json
    assert plan["impact"]["snapshots"], "the copy that was made of it depends on it"
    assert "imported" in plan["impact"]["replaceability"]["evidence"]
    before = home("vault", "verify", "--json").json
    asked = home("delete", "plan", "dataset:old@1", "--json").json
    home("plan", "execute", asked["plan"])
    after = home("vault", "verify", "--json").json
    assert (after["bad"], after["objects"]) == ([], before["objects"] - 2)
    home("delete", "undo", asked["plan"])
    assert home("vault", "verify", "--json").json == before


def test_garbage_goes_to_the_trash_and_unknown_objects_stay(home, data):
    home("vault", "snapshot", data)
    before = objects_on_disk(home)
    other = home.folder / "other"
    other.mkdir()
    (other / "x").write_bytes(random.Random(9).randbytes(50_000_000))
    process = home.start("vault", "snapshot", other)
    while len(objects_on_disk(home)) == len(before) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stray = home.home / "objects" / "ab" / ("blake3-" + "ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a kind that nobody knows")
    planned = home("vault", "gc", "--plan", "--json").json["does"]
    done = home("vault", "gc", "--json").json
    assert planned["objects to the trash"] == done["discarded"]
    assert planned["objects that nothing names, kept"] == 1
    assert stray.exists()
    assert home("vault", "gc", "--json").json == {"discarded": 0, "recovered": 0, "reclaimed": 0}
    home("vault", "snapshot", other)
    home("vault", "restore", "other", "again")
    assert tree(home.folder / "again") == tree(other)


def test_the_home_is_not_a_part_of_its_own_snapshot(home):
    home.write("file", "x")
    taken = home("vault", "snapshot", home.folder, "--json").json
    assert taken["skipped"] == [os.path.basename(home.home)]


def test_the_story_of_deleted_training_data(home):
    """A script kept away, a deletion undone, a wiped machine rebuilt; and its page says what is not resisted."""
    told = home("demo", "--story", "deleted", "--json").json
    assert told["identical"] is True and told["restored"] == 2 and told["restore_seconds"] > 0
    assert told["plan"] == "carried out by one person" and told["undone"] > 0
    assert "cannot remove" in told["kept_away"] or told["kept_away"].startswith("not run")
    assert told["resists"]["root"] == []
    page = Path(told["report"]).read_text(encoding="utf-8")
    for words in (
        "A decision to delete it",
        "last copy: False",
        "A wiped machine",
        "EQUAL".lower(),
        "ADVISORY",
        "NOTHING",
    ):
        assert words in page, words
    home("dataset", "show", told["dataset"])
    home("vault", "verify")
    assert home("vault", "restore", "story-kept", "out").code == 0
    assert "there are: revoked, deleted" in home("demo", "--story", "else", code=2).err
