"""Full disks, failing disks, bad manifests, odd targets: nothing is lost, and the message says what to do."""

import contextlib
import errno
import itertools
import os
import random
from pathlib import Path

import pytest

from stillhouse.errors import CorruptObject, StorageError
from stillhouse.vault.manifests import EntryKind, FileEntry, Page, PageRef, Root, encode_page, encode_root
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import restore, restore_over
from tests.vaults import Vault, tree

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for n in range(4):
        (folder / f"{n}.jsonl").write_text("".join(f'{{"n": {m}}}\n' for m in range(3000 * n, 3000 * n + 3000)))
    (folder / "noise").write_bytes(random.Random(1).randbytes(100_000))
    return folder


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_the_nth_call_fails_in_a_snapshot(tmp_path, source, monkeypatch, call, number):
    """For N = 1, 2, ... until a snapshot needs fewer calls: each is told, no object is half there, the next try completes."""
    vault = Vault(tmp_path / "vault")
    for failing in itertools.count(1):
        with monkeypatch.context() as patched:
            calls = itertools.count(1)
            real = getattr(os, call)

            def fails(*words, real=real, calls=calls, failing=failing, **named):
                if next(calls) == failing:
                    raise OSError(number, os.strerror(number))
                return real(*words, **named)

            patched.setattr(os, call, fails)
            try:
                taken = vault.take(source)
            except StorageError as failure:
                assert failure.next_step
            else:
                break
        assert all(problem == "" for _, problem in vault.objects.verify())
    restore(Reader(vault.objects), taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(source)


@pytest.mark.parametrize("call", ["write", "rename", "mkdir", "utime", "fchmod"])
def test_the_nth_call_fails_in_a_restore(tmp_path, source, monkeypatch, call):
    vault = Vault(tmp_path / "vault")
    taken = vault.take(source)
    for failing in itertools.count(1):
        with monkeypatch.context() as patched:
            calls = itertools.count(1)
            real = getattr(os, call)

            def fails(*words, real=real, calls=calls, failing=failing, **named):
                if next(calls) == failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(*words, **named)

            patched.setattr(os, call, fails)
            try:
                restore(Reader(vault.objects), taken.snapshot, tmp_path / "again")
            except StorageError:
                assert not (tmp_path / "again").exists()
            else:
                break
    assert tree(tmp_path / "again") == tree(source)


def planted(vault: Vault, *entries: FileEntry) -> str:
    """A snapshot that says whatever its author wanted: manifests come from copies that others can write to."""
    page = vault.objects.put(encode_page(Page((), entries)))
    refs = (PageRef(page, entries[0].path, entries[-1].path, len(entries)),)
    return vault.objects.put(encode_root(Root(format=1, pages=refs, files=1, bytes=0)))


EMPTY = bytes.fromhex("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")


def file(path: str) -> FileEntry:
    return FileEntry(path, EntryKind.FILE, 0o644, 0, os.getuid(), os.getgid(), 0, EMPTY)


def folder(path: str) -> FileEntry:
    return FileEntry(path, EntryKind.FOLDER, 0o755, 0, os.getuid(), os.getgid())


def link(path: str, target: str) -> FileEntry:
    return FileEntry(path, EntryKind.LINK, 0o777, 0, os.getuid(), os.getgid(), target=target)


@pytest.mark.parametrize(
    "entries",
    [
        [folder(""), file("../evil")],
        [folder(""), file("a/../../evil")],
        [folder(""), file("/tmp/evil")],
        [folder(""), file("\\x2e\\x2e/evil")],
        [folder(""), link("way", "../outside"), file("way/evil")],
        [folder(""), link("way", "../outside"), folder("way"), file("way/evil")],
        [folder(""), FileEntry("h", EntryKind.SAME, 0, 0, 0, 0, target="../outside/secret")],
        [link("", "outside"), file("evil")],
        [folder(""), folder("a"), file("a"), file("a/evil")],
    ],
    ids=range(9),
)
@pytest.mark.parametrize("how", [restore, restore_over])
def test_no_manifest_leads_out_of_its_target(tmp_path, entries, how):
    vault = Vault(tmp_path / "vault")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    snapshot = planted(vault, *entries)
    with contextlib.suppress(CorruptObject, StorageError):
        how(Reader(vault.objects), snapshot, tmp_path / "in" / "target")
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
    for evil in tmp_path.rglob("evil"):
        first = evil.relative_to(tmp_path / "in").parts[0]  # raises where it is not even there
        assert first == "target" or first.startswith(".restoring-")
    assert not Path("/tmp/evil").exists()


def test_a_snapshot_of_this_format_can_always_be_restored(tmp_path):
    """Written by the first version, and never to be written again."""
    vault = Vault(FIXTURES / "vault-1")
    snapshot = (FIXTURES / "vault-1" / "SNAPSHOT").read_text().strip()
    restore(Reader(vault.objects), snapshot, tmp_path / "again")
    found = tree(tmp_path / "again")
    assert found["records.jsonl"][2].count(b"\n") == 400
    assert found["folder/small"][0] & 0o777 == 0o640
    assert found["same"][3] == "folder/small" or found["folder/small"][3] == "same"
    assert found["link"][2] == b"folder/small"
    assert found["sparse"][2] == bytes(1 << 20) + b"end"
    assert found["folder"][1] == 1700000000123456789
