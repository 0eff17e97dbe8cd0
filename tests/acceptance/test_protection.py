"""What is resisted, what is below its minimum, what is overdue: said as it was found, and not a word more."""

import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from stillhouse.custody.copies.resistance import probe_bucket, probe_folder
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from stillhouse.vault.s3 import S3Backend
from tests.acceptance.test_copies import configure, copied, damage, data  # noqa: F401
from tests.conformance.test_backends import bucket, credentials, s3_url  # noqa: F401


def lines_by_attacker(lines):
    return {line.attacker: line for line in lines}


def test_the_probe_of_a_plain_folder_claims_nothing(copied):  # noqa: F811
    found = copied("vault", "probe", "--json").json["copies"]
    assert {line["where"] for line in found} == {str(copied.home), f"far: {copied.folder / 'far'}"}
    assert set(found[0]) >= {"where", "attacker", "mechanisms", "resists", "does_not_resist"}
    for line in found:
        if line["attacker"] in ("this program", "owner", "root"):
            assert line["resists"] == []
            assert "delete" in line["does_not_resist"]
    assert not list(copied.home.rglob(".canary*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
def test_a_folder_of_another_user_resists_this_one(copied, tmp_path):  # noqa: F811
    """Tried by a process of another user; then the same folder, made writable for all: the probe sees the difference."""
    root = copied.home / "objects"
    copied.folder.chmod(0o755)
    for folder in (*copied.folder.parents[:-2], copied.home):
        folder.chmod(folder.stat().st_mode | 0o055)
    program = (
        "import os, json, msgspec; from pathlib import Path; from stillhouse.custody.copies.resistance import probe_folder\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"print(json.dumps(msgspec.to_builtins(probe_folder('x', Path({str(root)!r})))))"
    )

    def probed():
        done = subprocess.run([copied.command()[0], "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {line["attacker"]: line for line in json.loads(done.stdout)}

    assert "delete" in probed()["this program"]["resists"]
    for path in [root, *root.rglob("*")]:
        path.chmod(0o777)
    opened = probed()
    assert opened["this program"]["resists"] == []
    assert opened["other user"]["resists"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="chattr needs root")
def test_immutable_flags_are_read_and_no_more_is_claimed(copied):  # noqa: F811
    root = copied.home / "objects"
    if subprocess.run(["chattr", "-R", "+i", str(root)], capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable flag")
    try:
        found = lines_by_attacker(probe_folder("x", root))
        assert "delete" in found["this program"].resists, "tried as root"
        assert any("chattr -i" in text for text in found["root"].does_not_resist)
    finally:
        subprocess.run(["chattr", "-R", "-i", str(root)], check=True)
    assert "delete" in lines_by_attacker(probe_folder("x", root))["this program"].does_not_resist


def test_the_probe_of_a_bucket_tells_locked_from_unlocked(s3_url, credentials):  # noqa: F811
    from datetime import UTC, datetime, timedelta

    store = S3Backend(bucket(s3_url, ObjectLockEnabledForBucket=True), "p", s3_url)
    store.put("blake3-aa", b"1")
    open_ = lines_by_attacker(probe_bucket("b", store))
    assert any(text.startswith("NONE") for text in open_["cloud admin"].mechanisms)
    assert open_["cloud admin"].resists == ()
    for key in store.list():
        store.lock_until(key, datetime.now(UTC) + timedelta(days=9))
    locked = lines_by_attacker(probe_bucket("b", store))
    assert locked["this program"].resists == ("put a version over it", "shorten the lock", "remove a version")
    assert "closing the account" in locked["cloud admin"].does_not_resist
    store.close()
    plain = S3Backend(_versioned(s3_url), "p", s3_url)
    plain.put("blake3-aa", b"1")
    assert lines_by_attacker(probe_bucket("b", plain))["this program"].resists == ("put a version over it",), (
        "by its digest"
    )
    plain.close()


def _versioned(url):
    import boto3

    name = bucket(url)
    client = boto3.client("s3", endpoint_url=url)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    return name


def test_drills_come_back_or_say_that_they_did_not(copied):  # noqa: F811
    home = copied
    done = home("drill", "run", "--json").json
    assert (done["files"], done["problem"]) == (5, "")
    assert home("drill", "run", "data", "--whole", "--copy", "far", "--json").json["behind"] >= 0
    damage(home.folder / "far")
    assert "cannot be read" in home("drill", "run", "data", "--whole", "--copy", "far", code=4).out
    receipts = home("drill", "list", "--json").json
    assert [bool(one["problem"]) for one in receipts] == [False, False, True]
    assert all(one["signature"]["by"] == "home" for one in receipts)
    assert "no snapshot yet" not in home("drill", "list").out
    assert not (home.home / "cache" / "drill").exists()


def test_a_drill_without_a_snapshot(home):
    assert "no snapshot yet" in home("drill", "run", code=2).err


def test_tick_does_what_is_due_once_and_tells_what_failed(copied):  # noqa: F811
    home = copied
    assert set(home("status", "--json").json["overdue"]) == {
        "drill the vault",
        "drill far",
        "scrub the vault",
        "scrub far",
    }
    assert "OVERDUE" in home("status").out
    first = home("tick", "--json").json
    assert set(first["did"]) == {"drill the vault", "drill far", "scrub the vault", "scrub far"}
    assert home("tick", "--json").json["did"] == []
    assert home("status", "--json").json["overdue"] == []
    with open_home(read_settings(home.home)) as app:
        from stillhouse.home.ledger import custody_queries

        assert custody_queries.day_is_marked(app.ledger, app.today)


def test_tick_alarms(copied):  # noqa: F811
    damage(copied.home)
    ticked = copied("tick", code=4)
    assert "ALARM: scrub" in ticked.err


def test_status_says_what_is_below_its_minimum_worst_first(copied):  # noqa: F811
    home = copied
    below = home("status", "--json").json["below_minimum"]
    assert below[0]["kind"] == "irreplaceable"
    assert "2 of 3 copies" in below[0]["lacks"]
    assert "no restore was ever tried" in below[0]["lacks"]
    assert "0 of 1 copies under another administrator" in below[0]["lacks"], "one disk is one domain"
    text = home("status").out
    assert "SAME DISK    far is on the disk of this home" in text
    assert "can remove them all" in text


def test_a_copy_on_another_disk_is_another_domain(home, data):  # noqa: F811
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == home.home.stat().st_dev:
            pytest.skip("one file system holds everything here")
        configure(home, f'[copies.far]\nplace = "{elsewhere}"\ndomain = "the other team"\n')
        home("vault", "backup")
        text = home("status").out
    assert "copies with the other team, as config.toml says" in text
    assert "SAME DISK" not in text


def test_status_of_a_home_without_copies_claims_nothing(home, data):  # noqa: F811
    text = home("status").out
    assert "one copy, in one place" in text
    assert "1 of 3 copies; 0 of 1 copies under another administrator" in text


def test_copies_of_the_same_administrator_are_not_called_protection(home, data):  # noqa: F811
    configure(home, f'[copies.near]\nplace = "{home.folder / "near"}"\n')
    home("vault", "backup")
    assert "who has its rights can remove them all" in home("status").out


def test_modes_of_objects(copied):  # noqa: F811
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (copied.home / "objects").rglob("blake3-*")}
    assert modes == {0o444}
