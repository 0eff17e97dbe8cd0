"""One suite for every backend of the vault, and for the objects over each."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.canon import digest_bytes
from stillhouse.errors import CorruptObject
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects


@pytest.fixture(params=["local", "memory"])
def backend(request, tmp_path):
    return LocalBackend(tmp_path / "objects") if request.param == "local" else MemoryBackend()


def test_empty(backend):
    assert list(backend.list()) == []
    assert not backend.exists("blake3-00")
    with pytest.raises(KeyError):
        backend.get("blake3-00")


def test_put_get_list(backend):
    backend.put("blake3-bb", b"2")
    backend.put("blake3-aa", b"1")
    backend.put("blake3-ab", b"")
    assert [backend.get(key) for key in ("blake3-aa", "blake3-bb", "blake3-ab")] == [b"1", b"2", b""]
    assert list(backend.list()) == ["blake3-aa", "blake3-ab", "blake3-bb"]
    assert backend.exists("blake3-aa")


def test_objects_are_immutable(backend):
    backend.put("blake3-aa", b"first")
    backend.put("blake3-aa", b"second")
    assert backend.get("blake3-aa") == b"first"


def test_what_was_put_cannot_be_changed_through_the_caller(backend):
    data = bytearray(b"first")
    backend.put("blake3-aa", data)
    data[0] = 0
    assert backend.get("blake3-aa") == b"first"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.binary(max_size=200)))
def test_objects_are_a_set_of_bytes(backend, contents):
    objects = Objects(backend)
    digests = [objects.put(data) for data in contents]
    assert digests == [digest_bytes(data) for data in contents]
    assert [objects.get(digest) for digest in digests] == contents
    assert set(digests) <= set(objects.list())
    assert all(problem == "" for _, problem in objects.verify())


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
