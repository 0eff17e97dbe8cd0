"""Snapshots: what goes in comes out, and what is there is not stored again."""

import os
import random
import stat
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.canon import raw_digest, tagged_digest
from stillhouse.errors import CorruptObject, SourceChanging, StorageError, TargetExists, UnknownName
from stillhouse.vault import snapshots
from stillhouse.vault.index import ChunkIndex, ChunkPlace
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.packs import MAGIC
from stillhouse.vault.reading import Reader
from stillhouse.vault.restoring import restore_over
from stillhouse.vault.snapshots import known_packs
from tests.examples import examples
from tests.vaults import Vault, tree

LATER = 10**15  # a moment long after every file of a test was written, in nanoseconds


def later() -> int:
    return time.time_ns() + LATER


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path / "vault")


@pytest.fixture
def source(tmp_path):
    """One of everything."""
    root = tmp_path / "source"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o750)
    (root / "records.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(20_000)))
    (root / "folder" / "noise").write_bytes(random.Random(0).randbytes(300_000))
    (root / "folder" / "nothing").touch()
    (root / "folder" / "inner" / "run.sh").write_text("#!/bin/sh\n")
    (root / "folder" / "inner" / "run.sh").chmod(0o750)
    (root / "link").symlink_to("folder/inner")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.link(root / "folder" / "noise", root / "same")
    os.mkfifo(root / "pipe", 0o600)
    (root / os.fsdecode(b"odd \xff\n\\x name")).write_text("odd")
    (root / "\u00fcml\u00e4ut").write_text("text")
    with (root / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    os.setxattr(root / "\u00fcml\u00e4ut", "user.note", b"kept")
    os.utime(root / "folder", ns=(5, 1_234_567_890_123_456_789))
    return root


def test_everything_comes_back(vault, source, tmp_path):
    taken = vault.take(source)
    assert taken.files == 8 and taken.skipped == ()
    done = vault.restore(taken.snapshot, tmp_path / "again")
    assert done.files == taken.files
    assert tree(tmp_path / "again") == tree(source)
    assert os.getxattr(tmp_path / "again" / "\u00fcml\u00e4ut", "user.note") == b"kept"
    assert (tmp_path / "again" / "sparse").stat().st_blocks < 1000


def test_the_same_content_is_the_same_snapshot(vault, source):
    first, second = vault.take(source), vault.take(source)
    assert (first.snapshot, second.bytes_added) == (second.snapshot, 0)
    elsewhere = Vault(vault.folder.parent / "another")
    assert elsewhere.take(source).snapshot == first.snapshot


def test_what_did_not_change_is_not_read(vault, source, monkeypatch):
    vault.take(source, began=later())
    read = []
    monkeypatch.setattr(snapshots, "cutter_for", lambda *words: read.append(words))
    taken = vault.take(source, began=later())
    assert (taken.unchanged, read) == (7, [])


def test_a_file_that_is_written_in_the_moment_of_a_snapshot_is_read_again(vault, source):
    """Its times need not show it. Break the rule (say that the snapshot began long after) and the change is missed."""
    file = source / "folder" / "nothing"
    vault.take(source)
    inode = file.stat()
    file.write_bytes(b"")
    assert vault.take(source).unchanged == 0
    assert inode.st_size == file.stat().st_size


def test_a_change_is_seen_though_size_and_time_are_set_back(vault, source):
    vault.take(source, began=later())
    file = source / "folder" / "noise"
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    taken = vault.take(source, began=later())
    assert taken.bytes_added > 0


def test_an_edit_adds_what_it_changed(vault, tmp_path):
    draw = random.Random(2)
    folder = tmp_path / "source"
    folder.mkdir()
    lines = [draw.randbytes(1000).hex() + "\n" for _ in range(3000)]
    (folder / "a.jsonl").write_text("".join(lines))
    first = vault.take(folder)
    for n in range(0, 3000, 100):
        lines[n] = draw.randbytes(1000).hex() + "\n"
    (folder / "a.jsonl").write_text("".join(lines))
    second = vault.take(folder)
    assert second.bytes_added < 0.03 * first.bytes_added
    vault.restore(first.snapshot, tmp_path / "first")
    vault.restore(second.snapshot, tmp_path / "second")
    assert (
        (tmp_path / "second" / "a.jsonl").read_text() == "".join(lines) != (tmp_path / "first" / "a.jsonl").read_text()
    )


def test_by_path(vault, source, tmp_path):
    taken = vault.take(source)
    vault.restore(taken.snapshot, tmp_path / "part", "folder/inner")
    assert tree(tmp_path / "part") == tree(source / "folder" / "inner")
    vault.restore(taken.snapshot, tmp_path / "file", "folder/inner/run.sh")
    assert (tmp_path / "file").read_text() == "#!/bin/sh\n"
    vault.restore(taken.snapshot, tmp_path / "further name", "same")
    assert (tmp_path / "further name").read_bytes() == (source / "same").read_bytes()
    with pytest.raises(UnknownName):
        vault.restore(taken.snapshot, tmp_path / "none", "folder/none")
    assert not (tmp_path / "none").exists()


def test_never_over_what_is_there(vault, source, tmp_path):
    taken = vault.take(source)
    target = tmp_path / "target"
    target.mkdir()
    vault.restore(taken.snapshot, target)  # an empty folder is as good as none
    before = tree(target)
    with pytest.raises(TargetExists):
        vault.restore(taken.snapshot, target)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetExists):
        vault.restore(taken.snapshot, tmp_path / "way")
    assert tree(target) == before


def test_over_existing_files_when_asked(vault, source, tmp_path):
    taken = vault.take(source)
    target = tmp_path / "target"
    target.mkdir()
    (target / "records.jsonl").write_text("other")
    (target / "own").write_text("stays")
    restore_over(Reader(vault.objects), taken.snapshot, target)
    assert (target / "own").read_text() == "stays"
    assert (target / "records.jsonl").read_bytes() == (source / "records.jsonl").read_bytes()


def test_over_existing_files_no_link_is_followed(vault, source, tmp_path):
    taken = vault.take(source)
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "folder").symlink_to(outside)
    with pytest.raises(StorageError):
        restore_over(Reader(vault.objects), taken.snapshot, target)
    assert not any(outside.iterdir())


def test_a_restore_goes_on_where_it_was(vault, source, tmp_path, monkeypatch):
    taken = vault.take(source)
    whole = Reader.data
    monkeypatch.setattr(Reader, "data", lambda self, page, entry: _break_at(self, page, entry, whole))
    with pytest.raises(CorruptObject):
        vault.restore(taken.snapshot, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    monkeypatch.undo()
    half = next(tmp_path.glob(".restoring-*"))
    (half / "records.jsonl").write_text("torn")
    done = vault.restore(taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(source)
    assert done.kept > 0
    assert not list(tmp_path.glob(".restoring-*"))


def _break_at(reader, page, entry, whole):
    if entry.path == "sparse":
        raise CorruptObject("on purpose")
    return whole(reader, page, entry)


def test_a_file_that_never_holds_still_is_named(vault, source, monkeypatch):
    stretch = snapshots._Snapshot._stretch

    def touching(self, file, *rest):
        stretch(self, file, *rest)
        os.utime(file.fileno())

    monkeypatch.setattr(snapshots._Snapshot, "_stretch", touching)
    with pytest.raises(SourceChanging, match=str(source)):
        vault.take(source)


def test_sockets_are_named_and_left_out(vault, tmp_path):
    import socket

    folder = tmp_path / "s"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        taken = vault.take(folder)
    assert taken.skipped == ("socket",)


def test_a_lost_index_is_read_back_from_the_packs(vault, source):
    first = vault.take(source)
    for file in (vault.folder / "chunks").iterdir():
        file.unlink()
    index = ChunkIndex(vault.folder / "chunks")
    assert known_packs(vault.objects, index) == 1
    assert known_packs(vault.objects, index) == 0
    for file in (vault.folder / "seen").iterdir():
        file.unlink()
    assert vault.take(source).bytes_added == 0
    assert first.bytes_added > 0


def test_a_flipped_bit_in_the_index_is_not_believed(vault, source):
    vault.take(source)
    rows = next((vault.folder / "chunks").glob("*.rows.npy"))
    data = bytearray(rows.read_bytes())
    data[-3] ^= 1
    rows.write_bytes(data)
    assert ChunkIndex(vault.folder / "chunks").packs == set()


def test_a_pack_that_is_gone_is_stored_again(vault, source, tmp_path):
    taken = vault.take(source, began=later())
    for digest in [digest for digest in vault.objects.list() if vault.objects.begins(digest, MAGIC)]:
        vault.objects.discard(digest)
        vault.objects.reclaim(digest)
    assert vault.take(source, began=later()).snapshot == taken.snapshot
    vault.restore(taken.snapshot, tmp_path / "again")


def test_many_packs(tmp_path, monkeypatch):
    """Small packs and blocks, so that a small file passes through all that a large one does."""
    from stillhouse.vault import storing

    monkeypatch.setattr(storing, "PACK_BYTES", 50_000)
    monkeypatch.setattr(storing, "BLOCK_BYTES", 7_000)
    vault = Vault(tmp_path / "vault", MemoryBackend())
    folder = tmp_path / "source"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}").write_bytes(random.Random(n).randbytes(200_000))
    (folder / "twice").write_bytes(random.Random(0).randbytes(200_000))
    taken = vault.take(folder)
    assert sum(vault.objects.begins(digest, MAGIC) for digest in vault.objects.list()) > 15
    assert taken.bytes_added < 1_400_000
    vault.restore(taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder)
    index = ChunkIndex(vault.folder / "chunks")
    assert len(list((vault.folder / "chunks").glob("*.packs"))) < 15  # runs are merged
    assert len(index.packs) > 15


def test_an_index_is_merged_piece_by_piece(tmp_path, monkeypatch):
    """Every chunk of many runs is found where it is, before, while and after they are merged, by who had it open and who not."""
    monkeypatch.setattr("stillhouse.vault.index._MERGED_AT_ONCE", 50)
    draw = random.Random(0)
    packs = {draw.randbytes(32): {draw.randbytes(32): place for place in range(draw.randint(1, 90))} for _ in range(40)}
    index, other = ChunkIndex(tmp_path), ChunkIndex(tmp_path)
    assert other.packs == set()
    for number, (pack, chunks) in enumerate(packs.items()):
        (other if number % 7 == 6 else index).add(pack, chunks)
    again = ChunkIndex(tmp_path)
    assert again.packs == set(packs)
    for pack, chunks in packs.items():
        for digest, place in chunks.items():
            assert again.find_one(digest) == ChunkPlace(pack, place) == again.find([draw.randbytes(32), digest])[1]
    assert index.packs | other.packs == set(packs)
    assert again.find_one(draw.randbytes(32)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(40))
@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "\u00e9", "x y", "..c"]), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=9000),
        max_size=8,
    )
)
def test_any_tree(tmp_path, files):
    import shutil

    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    folder.mkdir()
    for path, data in files.items():
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        except OSError:
            continue  # a file where another path needs a folder
    vault = Vault(tmp_path / "vault")
    taken = vault.take(folder)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder)


def test_any_flipped_bit_is_found_and_named(vault, source, tmp_path):
    """In every object, at places all over it: reading everything names the object, and no restore brings back other bytes."""
    taken = vault.take(source)
    draw = random.Random(5)
    backend = vault.objects.backend
    for digest in list(vault.objects.list()):
        path = next(backend.root.rglob(digest.replace(":", "-")))
        good = path.read_bytes()
        path.chmod(0o644)
        for place in {0, len(good) - 1, *(draw.randrange(len(good)) for _ in range(12))}:
            bad = bytearray(good)
            bad[place] ^= 1 << draw.randrange(8)
            path.write_bytes(bad)
            assert [name for name, problem in vault.objects.verify() if problem] == [digest]
            target = tmp_path / f"{digest[7:15]}-{place}"
            try:
                vault.restore(taken.snapshot, target)
            except CorruptObject:
                assert not target.exists()
            else:
                assert tree(target) == tree(source)
        path.write_bytes(good)


def test_modes_of_folders_do_not_hinder_a_restore(vault, tmp_path):
    folder = tmp_path / "source"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0o555)
    taken = vault.take(folder)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert stat.S_IMODE((tmp_path / "again" / "closed").stat().st_mode) == 0o555


def test_digests_are_raw_and_tagged():
    assert tagged_digest(raw_digest("blake3:" + "ab" * 32)) == "blake3:" + "ab" * 32
