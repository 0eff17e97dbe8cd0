"""Copies elsewhere: made, checked, mended, and a lost home rebuilt from one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.test_backends import s3_url  # noqa: F401
from tests.vaults import tree


@pytest.fixture
def data(home):
    folder = home.folder / "data"
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}.jsonl").write_text("".join(json.dumps({"n": m, "of": n}) + "\n" for m in range(2000)))
    home("vault", "snapshot", folder)
    return folder


@pytest.fixture
def copied(home, data):
    """A home with a copy in a folder."""
    configure(home, f'[copies.far]\nplace = "{home.folder / "far"}"\ndomain = "the other team"\n')
    home("vault", "backup")
    return home


def configure(home, text):
    config = home.home / "config.toml"
    config.write_text(config.read_text() + "\n" + text)


def damage(folder: Path) -> str:
    path = max((folder / "objects").rglob("blake3-*"), key=lambda path: path.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(whole)
    return path.name.replace("-", ":", 1)


def test_a_backup_is_incremental_and_a_lost_home_comes_back(copied, data):
    home = copied
    (data / "new").write_text("new")
    home("vault", "snapshot", data)
    again = home("vault", "backup", "--json").json
    assert 0 < again["added"] <= 6  # what changed, and where the log stands
    heads = [row["name"] for row in home("vault", "list", "--json").json]
    shutil.rmtree(home.home)
    home("vault", "pull", home.folder / "far")
    assert [row["name"] for row in home("vault", "list", "--json").json] == heads
    home("vault", "restore", "data", "again")
    assert tree(home.folder / "again") == tree(data)
    checks = home("doctor", "--json").json["checks"]
    assert all(check["state"] != "bad" for check in checks)
    home("vault", "snapshot", data)  # and it goes on from there


def test_a_deletion_says_which_copies_are_left(copied, data):
    home = copied
    snapshot = home("vault", "list", "--json").json[0]["snapshot"]

    def impact():
        return home("delete", "plan", f"snapshot:{snapshot}", "--plan", "--json").json["impact"]

    assert (impact()["copies elsewhere"], impact()["last copy"]) == (["far"], False)
    damage(home.folder / "far")
    home("vault", "scrub", "--copy", "far", code=4)
    assert (impact()["copies elsewhere"], impact()["last copy"]) == ([], True)


def test_private_keys_are_in_no_copy(copied):
    home = copied
    home("delete", "plan", "snapshot:" + home("vault", "list", "--json").json[0]["snapshot"])  # makes the home's key
    home("vault", "backup")
    secret = (home.home / "keys" / "home.key").read_bytes()
    assert all(secret not in path.read_bytes() for path in (home.folder / "far").rglob("*") if path.is_file())


def test_another_machine_follows_and_is_not_fooled(copied, data):
    """It only reads the source. A source whose log was cut or rewritten is refused, and what is here stays."""
    home = copied
    replica = home.folder / "replica"
    home("vault", "pull", home.home, "--home", replica)
    (data / "more").write_text("more")
    home("vault", "snapshot", data)
    home("vault", "pull", home.home, "--home", replica)
    assert len(home("vault", "list", "--home", replica, "--json").json) == 2
    segment = next((home.home / "log" / "w0000").glob("*.segment"))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-200])
    refused = home("vault", "pull", home.home, "--home", replica, code=4)
    assert "not the continuation" in refused.err or "cut or altered" in refused.err
    assert len(home("vault", "list", "--home", replica, "--json").json) == 2
    segment.write_bytes(whole)
    home("vault", "pull", home.home, "--home", replica)
    shutil.rmtree(home.home / "objects")
    home("vault", "restore", "data", "again", "--home", replica)
    assert tree(home.folder / "again") == tree(data)


@pytest.mark.parametrize("where", ["home", "copy"])
def test_a_scrub_names_what_is_bad_and_mends_it(copied, data, where):
    home = copied
    bad = damage(home.home if where == "home" else home.folder / "far")
    words = ["vault", "scrub", *(["--copy", "far"] if where == "copy" else [])]
    found = home(*words, "--json", code=4).json
    assert [one["object"] for one in found["bad"]] == [bad]
    assert found["bad"][0]["hits"][0].startswith("snapshot:")
    mended = home(*words, "--repair-from", "far" if where == "home" else "home", "--json").json
    assert mended["repaired"] == [bad]
    assert home(*words, "--json").json["bad"] == []
    home("vault", "restore", "data", "again")


def test_what_is_missing_is_mended_too(copied):
    home = copied
    path = max((home.home / "objects").rglob("blake3-*"), key=lambda path: path.stat().st_size)
    path.unlink()
    assert home("vault", "scrub", "--json", code=4).json["bad"][0]["problem"].endswith("is missing.")
    assert home("vault", "scrub", "--repair-from", "far", "--json").json["repaired"]
    assert home("vault", "verify", "--json").json["bad"] == []


def test_a_sample_says_how_sure_it_is(copied):
    found = copied("vault", "scrub", "--sample", 2, "--json").json
    assert found["read"] == 2
    assert found["bad_at_most"] == pytest.approx(0.9)


def test_a_damaged_object_is_not_copied(copied, data):
    home = copied
    (data / "x").write_bytes(bytes(range(256)) * 1000)
    home("vault", "snapshot", data)
    shutil.rmtree(home.folder / "far")
    damage(home.home)
    assert "were not copied" in home("vault", "backup", code=4).err
    found = home("vault", "scrub", "--copy", "far", "--json", code=4).json
    assert all(one["problem"].endswith("is missing.") for one in found["bad"])


def test_wrong_names_and_places(home):
    assert "there are: none" in home("vault", "backup", code=2).err
    assert "neither a home nor a copy" in home("vault", "pull", home.folder, "--home", "x", code=1).err


def test_a_copy_in_s3_with_locks(home, data):
    import boto3

    program = Path(__file__).parents[1] / "s3_server.py"
    server = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket="vault", ObjectLockEnabledForBucket=True)
        configure(home, f'[copies.s3]\nplace = "s3://vault/a"\nendpoint = "{url}"\nlock_days = 30\n')
        assert home("vault", "backup", "--json", **keys).json["added"] > 2
        held = [one["Key"] for one in client.list_objects_v2(Bucket="vault", Prefix="a/")["Contents"]]
        locked = [client.head_object(Bucket="vault", Key=key).get("ObjectLockMode") for key in held]
        assert set(locked) == {"COMPLIANCE"}, "objects, the log's end, and the head that names it"
        snapshot = home("vault", "list", "--json").json[0]["snapshot"]
        hold = home("vault", "hold", f"snapshot:{snapshot}", "--json").json["hold"]
        name = "a/objects/" + snapshot.replace(":", "-")
        for words, expected in (
            ([["tick"]], "ON"),
            ([["vault", "release", hold, "--json"], ["plan", "execute"], ["tick"]], "OFF"),
        ):
            plan = ""
            for one in words:
                ran = home(*one, *([plan] if one[0] == "plan" else []), **keys)
                plan = json.loads(ran.out)["plan"] if "--json" in one else plan
            assert client.head_object(Bucket="vault", Key=name)["ObjectLockLegalHoldStatus"] == expected
        assert home("vault", "scrub", "--copy", "s3", "--json", **keys).json["bad"] == []
        shutil.rmtree(home.home)
        home("vault", "pull", "s3://vault/a", "--endpoint", url, **keys)
        home("vault", "restore", "data", "again")
        assert tree(home.folder / "again") == tree(data)
        client.close()
    finally:
        server.kill()
        server.communicate()
    assert "could not be reached" in home("vault", "pull", "s3://vault/a", "--endpoint", url, code=1, **keys).err


def test_garbage_over_everything_in_a_bucket(home, data, s3_url):  # noqa: F811
    """Whoever may write can put versions over all that is there, and hide them: neither removes, damages nor unlocks any."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=s3_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="covered", ObjectLockEnabledForBucket=True)
    configure(home, f'[copies.s3]\nplace = "s3://covered/a"\nendpoint = "{s3_url}"\nlock_days = 5\n')
    home("vault", "backup", **keys)
    written = client.list_object_versions(Bucket="covered", Prefix="a/")["Versions"]
    right = {one["Key"]: one["VersionId"] for one in written}

    def kept_until():
        named = [{"Bucket": "covered", "Key": key, "VersionId": version} for key, version in right.items()]
        return [client.head_object(**one).get("ObjectLockRetainUntilDate") for one in named]

    locked = kept_until()
    for place, key in enumerate(right):
        client.put_object(Bucket="covered", Key=key, Body=b"garbage" * place)
        if place % 2:
            client.delete_object(Bucket="covered", Key=key)
    said = home("vault", "scrub", "--copy", "s3", "--json", code=None, **keys)
    assert said.code in (0, 4), "what is hidden may be called missing, and what is covered is read"
    config = home.home / "config.toml"
    config.write_text(config.read_text().replace("lock_days = 5", "lock_days = 50"))
    home("vault", "backup", code=None, **keys)
    home("tick", code=None, **keys)
    here = {path.name for path in (home.home / "objects").rglob("*")}  # the end of the log then is named no more
    objects = [place for place, key in enumerate(right) if key.rpartition("/")[2] in here]
    now_locked, covered = kept_until(), [place for place in objects if not place % 2]
    assert covered and all(now_locked[place] > locked[place] for place in covered), "renewed is what the log names"
    shutil.rmtree(home.home)
    home("vault", "pull", "s3://covered/a", "--endpoint", s3_url, "--uncover", **keys)
    home("vault", "verify")
    home("vault", "restore", "data", "again")
    assert tree(home.folder / "again") == tree(data)
    client.close()


def test_what_is_no_copy_is_not_counted_as_one(home, data):
    """The home itself, a folder in it, one above it, and another copy's folder: refused before anything is written there."""
    (home.folder / "by-link").symlink_to(home.home)
    places = [home.home, home.home / "objects", home.home / "sub", home.folder, home.folder / "by-link"]
    for number, place in enumerate(places):
        configure(home, f'[copies.c{number}]\nplace = "{place}"\n')
        before = sorted(path for path in home.home.rglob("*") if "heads" in path.parts)
        assert "is no copy" in home("vault", "backup", "--copy", f"c{number}", code=None).err, place
        assert sorted(path for path in home.home.rglob("*") if "heads" in path.parts) == before


@pytest.mark.parametrize("how", ["the vault lies elsewhere", "a link to it", "the heads of another", "hard links"])
def test_what_only_looks_like_another_place_is_no_copy(home, data, tmp_path, how):
    """The vault's own bytes, by whatever links they are reached."""
    place, objects = tmp_path / "far", home.home / "objects"
    match how:
        case "the vault lies elsewhere":
            place.mkdir()
            objects.rename(place / "objects")
            objects.symlink_to(place / "objects")
        case "a link to it":
            place.mkdir()
            (place / "objects").symlink_to(objects)
        case "the heads of another":
            configure(home, f'[copies.first]\nplace = "{tmp_path / "first"}"\n')
            home("vault", "backup")
            place.mkdir()
            (place / "objects").symlink_to(tmp_path / "first" / "objects")
        case _:
            shutil.copytree(objects, place / "objects", copy_function=os.link)
    configure(home, f'[copies.far]\nplace = "{place}"\ndomain = "the other team"\n')
    assert "is no copy" in home("vault", "backup", "--copy", "far", code=None).err
    assert "the other team" not in home("status").out


def test_a_copy_whose_bytes_are_gone_is_found_out(copied, data):
    """Every object there is as long as it was, and zero: it is not read back, and not called a copy."""
    for path in (copied.folder / "far" / "objects").rglob("blake3-*"):
        path.chmod(0o644)
        path.write_bytes(bytes(path.stat().st_size))
    assert copied("vault", "backup", "--json").json["added"] > 1, "what was there is written again"
    bad = {one["object"] for one in copied("vault", "scrub", "--copy", "far", "--json", code=None).json["bad"]}
    mine = {path.name.replace("-", ":", 1) for path in (copied.home / "objects").rglob("blake3-*")}
    assert not bad & mine, "all that this home has is whole there again"
    shutil.rmtree(copied.home)
    assert "1 objects were not copied" in copied("vault", "pull", copied.folder / "far", code=4).err, (
        "an older end of the log"
    )
    copied("vault", "restore", "data", "again")
    assert tree(copied.folder / "again") == tree(data)


def test_names_with_a_backslash_and_with_other_bytes_are_found_as_they_are_typed(home):
    folder = home.folder / "odd"
    folder.mkdir()
    for name in (b"a\\b", b"k\xff", b"plain"):
        (folder / os.fsdecode(name)).write_bytes(name)
    home("vault", "snapshot", folder, "--name", os.fsdecode(b"na\xff"))
    for typed in ("a\\b", "a\\x5cb", os.fsdecode(b"k\xff"), "k\\xff", "plain"):
        listed = home("vault", "list", os.fsdecode(b"na\xff"), typed, "--json").json
        assert len(listed["entries"] if isinstance(listed, dict) else listed) == 1, typed
        home("vault", "restore", os.fsdecode(b"na\xff"), "out", "--path", typed)
        (home.folder / "out").unlink()


def test_a_snapshot_is_listed_without_being_restored(home, data):
    listed = home("vault", "list", "data", "--json").json
    assert {row["path"] for row in listed if row["kind"] == "f"} == {f"{n}.jsonl" for n in range(5)}
    assert "3.jsonl" in home("vault", "list", "data", "3.jsonl").out
    assert home("vault", "list", "data", "no-such-path", code=2).out == ""
