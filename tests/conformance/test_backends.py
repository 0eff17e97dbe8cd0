"""One suite for every backend of the vault, and for the objects over each."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.canon import digest_bytes
from stillhouse.errors import CorruptObject, StorageError
from stillhouse.vault.custodian import Custodian, CustodianBackend
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from stillhouse.vault.s3 import S3Backend
from stillhouse.vault.sealing import Seal, lift, seal
from tests.examples import examples

BUCKETS = iter(range(10_000))


def _serve(*words: str):
    program = Path(__file__).parents[1] / "s3_server.py"
    server = subprocess.Popen(
        [sys.executable, str(program), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    port = server.stdout.readline().strip()
    return server, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def s3_url():
    server, url = _serve()
    yield url
    server.kill()
    server.communicate()


@pytest.fixture
def credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def bucket(url: str, **how) -> str:
    import boto3

    name = f"vault-{next(BUCKETS)}"
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=name, **how)
    client.close()
    return name


@pytest.fixture
def s3(s3_url, credentials):
    backend = S3Backend(bucket(s3_url, ObjectLockEnabledForBucket=True), "some/prefix", s3_url)
    yield backend
    backend.close()


class Allowing:
    """A warden that allows everything: what a custodian decides is not what a backend promises."""

    def may_put(self, key, data):
        return ""

    def may_discard(self, key):
        return ""

    def may_reclaim(self, key):
        return ""

    def attend(self):
        return ""


@pytest.fixture
def custodian(tmp_path):
    store = LocalBackend(tmp_path / "objects")
    serving = Custodian(store, Allowing(), tmp_path / "socket", [os.getuid()])
    thread = threading.Thread(target=serving.serve)
    thread.start()
    yield CustodianBackend(store.root, tmp_path / "socket")
    serving.close()
    thread.join()


@pytest.fixture
def modes(tmp_path):
    seal(tmp_path / "objects", Seal.MODES)
    yield LocalBackend(tmp_path / "objects")
    lift(tmp_path / "objects")


@pytest.fixture
def flags(tmp_path):
    try:
        seal(tmp_path / "objects", Seal.FLAGS)
    except StorageError:
        lift(tmp_path / "objects")
        pytest.skip("only root sets flags, on a file system that keeps them")
    yield LocalBackend(tmp_path / "objects")
    lift(tmp_path / "objects")


@pytest.fixture(params=["local", "memory", "s3", "custodian", "modes", "flags"])
def backend(request, tmp_path):
    if request.param in ("local", "memory"):
        return LocalBackend(tmp_path / "objects") if request.param == "local" else MemoryBackend()
    return request.getfixturevalue(request.param)


def test_empty(backend):
    assert list(backend.list()) == list(backend.discarded()) == []
    assert not backend.exists("blake3-00")
    for read in (backend.get, backend.size, lambda key: backend.read(key, 0, 1)):
        with pytest.raises(KeyError):
            read("blake3-00")


def test_put_get_list(backend):
    backend.put("blake3-bb", b"2")
    backend.put("blake3-aa", b"1")
    backend.put("blake3-ab", b"")
    assert [backend.get(key) for key in ("blake3-aa", "blake3-bb", "blake3-ab")] == [b"1", b"2", b""]
    assert list(backend.list()) == ["blake3-aa", "blake3-ab", "blake3-bb"]
    assert backend.exists("blake3-aa")


def test_ranges(backend):
    backend.put("blake3-aa", b"0123456789")
    assert backend.size("blake3-aa") == 10
    assert backend.read("blake3-aa", 2, 3) == b"234"
    assert backend.read("blake3-aa", 8, 30) == b"89"
    assert backend.read("blake3-aa", 10, 3) == backend.read("blake3-aa", 3, 0) == b""


def test_objects_are_immutable(backend):
    backend.put("blake3-aa", b"first")
    backend.put("blake3-aa", b"second")
    assert backend.get("blake3-aa") == b"first"


def test_neither_hiding_nor_showing_replaces_anything(backend):
    """One of the two may be damaged, and nobody knows here which."""
    backend.put("blake3-aa", b"first")
    backend.discard("blake3-aa")
    backend.put("blake3-aa", b"second")
    backend.recover("blake3-aa")
    assert backend.get("blake3-aa") == b"second"
    backend.discard("blake3-aa")
    assert not backend.exists("blake3-aa")
    assert backend.recover("blake3-aa")
    assert backend.get("blake3-aa") in (b"first", b"second")
    backend.put("blake3-bb", b"same")
    for _ in range(2):
        backend.discard("blake3-bb")
        backend.put("blake3-bb", b"same")
    backend.discard("blake3-bb")
    assert backend.recover("blake3-bb") and backend.get("blake3-bb") == b"same"


def test_what_was_put_cannot_be_changed_through_the_caller(backend):
    data = bytearray(b"first")
    backend.put("blake3-aa", data)
    data[0] = 0
    assert backend.get("blake3-aa") == b"first"


def test_discarded_is_hidden_and_comes_back(backend):
    backend.put("blake3-aa", b"1")
    backend.put("blake3-bb", b"2")
    for _ in range(2):  # repeating it changes nothing
        backend.discard("blake3-aa")
        assert list(backend.list()) == ["blake3-bb"]
        assert list(backend.discarded()) == ["blake3-aa"]
        assert not backend.exists("blake3-aa")
        with pytest.raises(KeyError):
            backend.get("blake3-aa")
    assert backend.recover("blake3-aa")
    assert not backend.recover("blake3-aa") or backend.exists("blake3-aa")
    assert backend.get("blake3-aa") == b"1"
    assert list(backend.discarded()) == []
    backend.discard("blake3-never-there")
    assert not backend.recover("blake3-never-there")


def test_only_what_is_discarded_can_be_reclaimed(backend):
    backend.put("blake3-aa", b"1")
    backend.reclaim("blake3-aa")
    assert backend.get("blake3-aa") == b"1"
    backend.discard("blake3-aa")
    backend.reclaim("blake3-aa")
    backend.reclaim("blake3-aa")
    assert list(backend.discarded()) == []
    assert not backend.recover("blake3-aa")
    backend.put("blake3-aa", b"1")
    assert backend.get("blake3-aa") == b"1"


def test_what_was_discarded_can_be_stored_anew(backend):
    backend.put("blake3-aa", b"1")
    backend.discard("blake3-aa")
    backend.put("blake3-aa", b"1")
    assert backend.get("blake3-aa") == b"1"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(20))
@given(st.lists(st.binary(max_size=200), max_size=8))
def test_objects_are_a_set_of_bytes(backend, contents):
    objects = Objects(backend)
    digests = [objects.put(data) for data in contents]
    assert digests == [digest_bytes(data) for data in contents]
    assert [objects.get(digest) for digest in digests] == contents
    assert set(digests) <= set(objects.list())
    assert all(problem == "" for _, problem in objects.verify())


@pytest.mark.parametrize("backend", ["local", "memory"], indirect=True)
def test_damage_is_found(backend):
    """The check itself is checked: it must fail where a byte differs."""
    objects = Objects(backend)
    good, bad = objects.put(b"good"), objects.put(b"bad")
    if isinstance(backend, MemoryBackend):
        backend._objects[bad.replace(":", "-")] = b"bae"
    else:
        path = next(backend.root.rglob(bad.replace(":", "-")))
        path.chmod(0o644)
        path.write_bytes(b"bae")
    assert objects.get(good) == b"good"
    with pytest.raises(CorruptObject, match="other bytes"):
        objects.get(bad)
    assert {digest for digest, problem in objects.verify() if problem} == {bad}
    with pytest.raises(CorruptObject, match="missing"):
        objects.get(digest_bytes(b"never stored"))


def test_no_half_written_object_is_listed(tmp_path):
    backend = LocalBackend(tmp_path)
    backend.put("blake3-aa", b"1")
    (tmp_path / "aa" / ".incoming-x").write_bytes(b"half")
    assert list(backend.list()) == ["blake3-aa"]


def test_a_put_whose_answer_got_lost_is_read_back(credentials):
    """The server stores the second upload and breaks the connection: nothing is lost, and nothing fails."""
    server, url = _serve("--drop", "2")
    try:
        backend = S3Backend(bucket(url, ObjectLockEnabledForBucket=True), "", url)
        for n in range(4):
            backend.put(f"blake3-a{n}", b"x" * n)
        assert [backend.get(f"blake3-a{n}") for n in range(4)] == [b"x" * n for n in range(4)]
        backend.close()
    finally:
        server.kill()
        server.communicate()


def test_a_bucket_without_versions_is_refused(s3_url, credentials):
    with pytest.raises(StorageError, match="keeps no versions"):
        S3Backend(bucket(s3_url), "", s3_url)


def test_a_locked_version_stays(s3):
    """COMPLIANCE: neither removed nor shortened, by the credential that wrote it; only hidden, and that is undone."""
    until = datetime.now(UTC) + timedelta(days=3)
    s3.put("blake3-aa", b"1")
    assert s3.lock("blake3-aa").until == ""
    s3.lock_until("blake3-aa", until)
    lock = s3.lock("blake3-aa")
    assert lock.mode == "COMPLIANCE" and lock.until[:10] == until.date().isoformat()
    s3.lock_until("blake3-aa", until - timedelta(days=1))  # earlier: nothing changes
    assert s3.lock("blake3-aa") == lock
    assert not s3.shorten("blake3-aa")
    assert not s3.remove_version("blake3-aa")
    s3.discard("blake3-aa")
    with pytest.raises(StorageError, match="kept by the store"):
        s3.reclaim("blake3-aa")
    assert s3.recover("blake3-aa")
    assert s3.get("blake3-aa") == b"1"
    s3.lock_until("blake3-aa", until + timedelta(days=5))
    assert s3.lock("blake3-aa").until > lock.until


def test_a_legal_hold_stays_until_it_is_lifted(s3):
    s3.put("blake3-aa", b"1")
    s3.hold("blake3-aa", on=True)
    assert s3.lock("blake3-aa").held
    assert not s3.remove_version("blake3-aa")
    s3.hold("blake3-aa", on=False)
    assert s3.remove_version("blake3-aa")
    assert not s3.exists("blake3-aa")


def test_what_protects_nothing_is_seen_to(s3):
    """The probe's tries succeed where there is no lock: else it would report what it cannot know."""
    s3.put("blake3-aa", b"1")
    assert s3.has_lock() and s3.lifecycle_rules() == ()
    assert s3.remove_version("blake3-aa")
