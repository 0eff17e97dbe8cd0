"""A source that can be erased: encrypted with a key of its own, and unreadable everywhere when that is gone."""

import os
import shutil

import pytest

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
    assert "Others must say yes" in people("ada", "plan", "execute", asked["plan"], code=3).err
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
    assert shown["impact"]["in every copy"] is True and len(shown["impact"]["snapshots of it"]) == 1
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
    assert "nobody knows that the key of s1 is gone" in ran.err
    assert "UNERASED     s1" in home("status").out
    assert "was erased" in home("vault", "restore", "data", "out", code=3).err, (
        "it is refused from the moment it was agreed"
    )
    assert "nobody knows" in home("tick", code=1).err
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
