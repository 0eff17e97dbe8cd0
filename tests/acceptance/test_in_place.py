"""Data that is registered where it lies: what is found out later, and what is not claimed."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.views import edit

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def data(home):
    folder = home.folder / "corpus"
    (folder / "inner").mkdir(parents=True)
    draw = random.Random(0)
    for n in range(40):
        (folder / "inner" / f"{n:02d}.bin").write_bytes(draw.randbytes(1000 + n))
    (folder / "link").symlink_to("inner/00.bin")
    (folder / "empty").mkdir()
    return folder


def stealthily(path: Path) -> None:
    """Other bytes of the same length, at the same times."""
    inode = path.stat()
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(inode.st_atime_ns, inode.st_mtime_ns))


def test_a_folder_is_registered_and_every_kind_of_change_is_found(home, data):
    done = home("vault", "register", data, "--json").json
    assert (done["files"], done["bytes"]) == (40, sum(1000 + n for n in range(40)))
    assert home("vault", "register", data, "--json").json["manifest"] == done["manifest"], (
        "one digest stands for all of it"
    )
    listed = home("vault", "register", "--json").json
    assert [(one["name"], one["source"]) for one in listed] == [("corpus", str(data))]
    clean = home("vault", "examine", "corpus", "--json").json
    assert (clean["files"], clean["read"], clean["changes"], clean["new"]) == (40, 40, [], [])
    stealthily(data / "inner" / "07.bin")
    (data / "inner" / "08.bin").unlink()
    (data / "inner" / "09.bin").write_bytes(b"grown" * 900)
    (data / "inner" / "10.bin").unlink()
    (data / "inner" / "10.bin").mkdir()
    (data / "link").unlink()
    (data / "link").symlink_to("inner/01.bin")
    (data / "inner" / "11.bin").touch()  # another time alone is no change
    (data / "inner" / "99.bin").write_bytes(b"new")
    found = home("vault", "examine", "corpus", "--json", code=4).json
    assert {one["path"]: one["what"].split(",")[0] for one in found["changes"]} == {
        "inner/07.bin": "has other bytes than were registered",
        "inner/08.bin": "is not there any more",
        "inner/09.bin": "has 4",
        "inner/10.bin": "is another kind of thing (f was registered",
        "link": "leads elsewhere",
    }
    assert found["new"] == ["inner/99.bin"]
    assert "CHANGED      corpus" in home("status").out
    # Changed on purpose: registered again, it is as it should be.
    assert home("vault", "register", data, "--json").json["manifest"] != done["manifest"]
    home("vault", "examine", "corpus")


def test_a_sample_says_how_sure_it_makes(home, data):
    home("vault", "register", data, "--name", "big")
    found = home("vault", "examine", "big", "--sample", 10, "--json").json
    assert (found["files"], found["read"]) == (40, 10)
    assert found["at_most"] == pytest.approx(1 - 0.01 ** (1 / 10))
    assert "with 99 % confidence" in home("vault", "examine", "big", "--sample", 10).out
    (data / "inner" / "03.bin").unlink()
    assert "inner/03.bin: is not there any more" in home("vault", "examine", "big", "--sample", 1, code=4).out


def test_tick_looks_after_it_and_says_so(home, data):
    home("vault", "register", data)
    assert "OVERDUE" not in home("status").out
    assert "in place     corpus" in home("status").out and "nothing here keeps it" in home("status").out
    edit(home.home, "UPDATE registrations SET at = '2026-01-01T00:00:00.000Z'")  # as if a week had passed
    assert "examine corpus" in home("status").out
    assert "40 files are as they were registered" in home("tick").out
    stealthily(data / "inner" / "01.bin")
    assert home("status").out.count("OVERDUE") == 0


def test_the_manifest_is_kept_and_can_be_deleted(home, data):
    manifest = home("vault", "register", data, "--json").json["manifest"]
    home("vault", "gc")
    home("vault", "verify")
    home("vault", "examine", "corpus")
    asked = home("delete", "plan", "registered:corpus", "--reason", "moved", "--json").json
    home("plan", "execute", asked["plan"])
    assert home("vault", "register", "--json").json == []
    assert "Nothing is registered as 'corpus'" in home("vault", "examine", "corpus", code=2).err
    assert (data / "inner" / "00.bin").exists(), "the data is not ours to delete"
    home("delete", "undo", asked["plan"][7:19])
    assert home("vault", "register", "--json").json[0]["manifest"] == manifest


def test_what_cannot_be_registered_or_read(home, data):
    assert "is no folder" in home("vault", "register", home.folder / "nowhere", code=2).err
    assert "Nothing is registered as 'x' (there are: none)" in home("vault", "examine", "x", code=2).err
    home(
        "vault", "register", home.folder, "--name", "around"
    )  # the home in it is left out: it changes by being looked at
    found = home("vault", "examine", "around", "--json").json
    assert found["changes"] == [] and found["new"] == []
    home("vault", "register", data)
    shutil.rmtree(data)
    assert "is no folder" in home("vault", "examine", "corpus", code=2).err
    assert "inner/00.bin: is not there any more" in home("vault", "examine", "around", code=4).out


@pytest.fixture
def s3(home):
    home.environment |= CREDENTIALS
    program = Path(__file__).parents[1] / "s3_server.py"
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    import boto3

    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1"
    )
    client.create_bucket(Bucket="big", ObjectLockEnabledForBucket=True)
    client.create_bucket(Bucket="flat")
    for n in range(12):
        client.put_object(Bucket="big", Key=f"corpus/part {n:02d}/../odd//{n}.parquet", Body=b"%d" % n * 50)
    client.put_object(Bucket="big", Key="elsewhere", Body=b"not ours")
    yield url, client
    client.close()
    process.kill()
    process.communicate()


def test_a_prefix_of_a_bucket_with_versions(home, s3):
    url, client = s3
    words = ["vault", "register", "s3://big/corpus", "--endpoint", url, "--json"]
    assert home(*words).json["files"] == 12
    found = home("vault", "examine", "corpus", "--json").json
    assert (found["read"], found["unknown"], found["changes"], found["at_most"]) == (0, 12, [], 1.0)
    home(*words, "--read")
    found = home("vault", "examine", "corpus", "--json").json
    assert (found["read"], found["unknown"], found["changes"], found["at_most"]) == (12, 0, [], 0.0)
    client.delete_object(Bucket="big", Key="corpus/part 03/../odd//3.parquet")
    client.put_object(Bucket="big", Key="corpus/part 04/../odd//4.parquet", Body=b"4" * 50)
    client.put_object(Bucket="big", Key="corpus/part 12", Body=b"new")
    found = home("vault", "examine", "corpus", "--sample", 2, "--json", code=4).json
    assert {one["path"]: one["what"] for one in found["changes"]} == {
        "part 03/../odd//3.parquet": "is not there any more",
        "part 04/../odd//4.parquet": "has a newer version than was registered",
    }
    assert found["new"] == ["part 12"]
    assert "keeps no versions" in home("vault", "register", "s3://flat/x", "--endpoint", url, code=1).err
