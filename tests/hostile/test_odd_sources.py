"""Folders that change while they are taken, and files that are not what they seem: what is called taken comes back."""

import base64
import os
import signal
import time
from pathlib import Path

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
from pyarrow.parquet import encryption

from stillhouse.errors import CorruptObject, StorageError
from stillhouse.vault.index import ChunkIndex
from stillhouse.vault.manifests import Page, encode_page, encode_root
from stillhouse.vault.parquet import column_bounds
from stillhouse.vault.reading import Reader
from stillhouse.vault.seen import Seen
from stillhouse.vault.snapshots import check_manifest, take
from stillhouse.vault.walking import Walk, read_still
from tests.vaults import Vault, tree


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path / "vault")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def take_with(vault, source, happens):
    """A snapshot during which something happens as a name is met."""

    class Watched(Walk):
        def __iter__(self):
            for met in super().__iter__():
                happens(met)
                yield met

    seen = Seen(vault.folder / "seen", source, time.time_ns())
    try:
        return take(vault.objects, lambda: ChunkIndex(vault.folder / "chunks"), seen, Watched(source))
    finally:
        seen.close()


@pytest.mark.parametrize("gone", ["a", "m", "z", "am", "az", "mz", "amz"])
def test_a_file_of_several_names_loses_some_of_them(vault, source, tmp_path, gone):
    (source / "a").write_text("the checkpoint\n")
    for name in "mz":
        os.link(source / "a", source / name)
    (source / "other").write_text("other\n")
    taken = take_with(vault, source, lambda met: os.unlink(met.place) if met.path and met.path in gone else None)
    check_manifest(Reader(vault.objects), taken.snapshot)
    vault.restore(taken.snapshot, tmp_path / "again")
    again = tmp_path / "again"
    for name in set("amz") - set(gone):
        assert (again / name).read_text() == "the checkpoint\n"
    assert (again / "other").read_text() == "other\n"


def test_a_file_that_becomes_a_pipe_holds_up_nothing(vault, source):
    (source / "a").write_text("x")
    (source / "b").write_text("y")

    def happens(met):
        if met.path == "a":
            os.unlink(met.place)
            os.mkfifo(met.place)

    signal.alarm(60)  # a read of a pipe without a writer would wait for ever
    try:
        with pytest.raises(StorageError):
            for met in Walk(source):
                happens(met)
                if met.path == "a":
                    read_still(met, lambda descriptor, inode: (os.read(descriptor, 10), 0))
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("happening", ["truncate", "grow", "remove", "replace"])
def test_files_that_change_under_way_cost_no_snapshot_its_sense(vault, source, tmp_path, happening):
    for name in "abc":
        (source / name).write_text(name * 1000)

    def happens(met):
        if met.path == "b":
            match happening:
                case "truncate":
                    os.truncate(met.place, 10)
                case "grow":
                    with open(met.place, "a") as file:
                        file.write("more")
                case "remove":
                    os.unlink(met.place)
                case "replace":
                    os.unlink(met.place)
                    os.mkdir(met.place)

    try:
        taken = take_with(vault, source, happens)
    except StorageError:
        return  # said, and nothing is called taken
    check_manifest(Reader(vault.objects), taken.snapshot)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert (tmp_path / "again" / "a").read_text() == "a" * 1000
    assert (tmp_path / "again" / "c").read_text() == "c" * 1000


def test_folders_nested_deeper_than_calls_can_be(vault, source, tmp_path):
    place = os.open(source, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("file", os.O_CREAT, dir_fd=place))
    os.close(place)
    taken = vault.take(source)
    assert taken.files == 1
    vault.restore(taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(source)


@pytest.mark.parametrize("year", [1902, 1969, 2600, 9999])
def test_times_far_away(vault, source, tmp_path, year):
    (source / "file").write_text("x")
    moment = (year - 1970) * 31_556_952 * 10**9 + 123
    try:
        os.utime(source / "file", ns=(moment, moment))
    except OSError:
        pytest.skip("this file system knows no such time")
    before = (source / "file").stat().st_mtime_ns
    taken = vault.take(source)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert (tmp_path / "again" / "file").stat().st_mtime_ns == before


def test_a_pipe_keeps_its_mode(vault, source, tmp_path):
    os.mkfifo(source / "pipe")
    (source / "pipe").chmod(0o640)
    vault.restore(vault.take(source).snapshot, tmp_path / "again")
    assert (tmp_path / "again" / "pipe").stat().st_mode == (source / "pipe").stat().st_mode


class Keys(encryption.KmsClient):
    def __init__(self, configuration):
        super().__init__()

    def wrap_key(self, key, name):
        return base64.b64encode(key)

    def unwrap_key(self, key, name):
        return base64.b64decode(key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_parquet_is_a_file_like_any_other(vault, source, tmp_path, plaintext_footer):
    table = pyarrow.table({"id": range(900), "x": ["a"] * 900})
    properties = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration("f", column_keys={"c": ["id"]}, plaintext_footer=plaintext_footer),
    )
    with pyarrow.parquet.ParquetWriter(source / "t.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    vault.restore(vault.take(source).snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(source)


FORGED = {
    "a further name of nothing": lambda at: {**at, "z": msgspec.structs.replace(at["z"], target="b/gone")},
    "a further name of a folder": lambda at: {**at, "z": msgspec.structs.replace(at["z"], target="b")},
    "a further name before its file": lambda at: {**at, "a": msgspec.structs.replace(at["z"], path="a", target="z")},
    "no folder above": lambda at: {name: entry for name, entry in at.items() if name != "b"},
    "less than its size": lambda at: {**at, "a": msgspec.structs.replace(at["a"], size=5)},
    "more than its size": lambda at: {**at, "a": msgspec.structs.replace(at["a"], size=1)},
    "out of order": lambda at: dict(reversed(at.items())),
    "one name twice": lambda at: {**at, "twice": at["z"]},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_manifest_that_is_not_closed_over_itself_is_refused(vault, source, forged):
    """What the walk after every snapshot finds: each way in which a listing can promise what it does not hold."""
    (source / "a").write_text("xx")
    (source / "b").mkdir()
    (source / "b" / "c").write_text("y")
    os.link(source / "b" / "c", source / "z")
    taken = vault.take(source).snapshot
    reader = Reader(vault.objects)
    check_manifest(reader, taken)
    root = reader.root(taken)
    *_, page = reader.pages(root)  # the root's own path ends the first
    entries = FORGED[forged]({entry.path: entry for entry in page.entries})
    digest = vault.objects.put(encode_page(Page(page.packs, tuple(entries.values()))))
    *first, ref = root.pages
    ref = msgspec.structs.replace(ref, digest=digest, entries=len(entries))
    with pytest.raises(CorruptObject):
        check_manifest(reader, vault.objects.put(encode_root(msgspec.structs.replace(root, pages=(*first, ref)))))


@pytest.mark.parametrize("names", ["amz", "am", "ma"])
@pytest.mark.parametrize("touched", [True, False])
def test_a_file_of_several_names_is_replaced_under_its_first(vault, source, tmp_path, names, touched):
    """`latest` is renamed over while it is met: the checkpoint that it was stays in the snapshot by its other names."""
    first = sorted(names)[0]
    (source / first).write_text("step 100")
    for name in names:
        if name != first:
            os.link(source / first, source / name)

    def happens(met):
        if met.path == first:
            (tmp_path / "new").write_text("step 200 and more")
            os.replace(tmp_path / "new", source / first)
            if touched:
                os.utime(source / sorted(names)[1])

    taken = take_with(vault, source, happens)
    check_manifest(Reader(vault.objects), taken.snapshot)
    vault.restore(taken.snapshot, tmp_path / "again")
    found = {path.name: path.read_text() for path in (tmp_path / "again").iterdir()}
    assert found == {name: "step 200 and more" if name == first else "step 100" for name in names}


def test_a_folder_that_becomes_a_link_leads_nowhere(vault, source, tmp_path):
    (source / "d").mkdir()
    (source / "d" / "k").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "k").write_text("outside")

    def happens(met):
        if met.path == "d":
            (source / "d").rename(tmp_path / "moved")
            (source / "d").symlink_to(tmp_path / "outside")

    taken = take_with(vault, source, happens)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert not [path for path in (tmp_path / "again").rglob("*") if path.is_file() and path.read_text() == "outside"]


def test_a_folder_that_is_exchanged_for_another_is_taken_as_it_is_then(vault, source, tmp_path):
    (source / "d").mkdir()
    (source / "d" / "old").write_text("old")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "new").write_text("new")

    def happens(met):
        if met.path == "d":
            (source / "d").rename(tmp_path / "moved")
            (tmp_path / "other").rename(source / "d")

    taken = take_with(vault, source, happens)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert (tmp_path / "again" / "d" / "new").read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not enter")
def test_a_folder_that_may_be_listed_and_not_entered_is_named(source, tmp_path, monkeypatch):
    (source / "open").write_text("x")
    (source / "shut").mkdir()
    (source / "shut" / "inner").write_text("x")
    (source / "shut").chmod(0o444)
    tmp_path.chmod(0o755)
    # The folders above belong to root alone, and are not asked on a relative way.
    monkeypatch.chdir(tmp_path)
    os.seteuid(65534)
    try:
        walk = Walk(Path(source.name))
        walk.skip_unreadable = True
        met = [one.path for one in walk]
        with pytest.raises(StorageError, match="could not be read"):
            list(Walk(Path(source.name)))
    finally:
        os.seteuid(0)
    assert met == ["", "open", "shut"]
    assert walk.unreadable == ["shut/inner"]


def test_names_of_attributes_are_bytes_of_any_kind(vault, source, tmp_path):
    (source / "a").write_text("x")
    names = [b"user.k\xff", b"user.plain", b"user.with\\slash"]
    for name in names:
        os.setxattr(source / "a", name, name)
    taken = take_with(vault, source, lambda met: None)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert {os.fsencode(name) for name in os.listxattr(tmp_path / "again" / "a")} >= set(names)
    assert all(os.getxattr(tmp_path / "again" / "a", name) == name for name in names)


def test_a_parquet_file_with_any_byte_wrong_is_a_file_like_any_other(vault, source, tmp_path):
    """Arrow's own reader ends the process on some of these."""
    table = pyarrow.table({"a": range(600), "b": ["x"] * 600, "c": [[n, n] for n in range(600)]})
    pyarrow.parquet.write_table(table, tmp_path / "whole.parquet", row_group_size=200)
    whole = (tmp_path / "whole.parquet").read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(footer, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x1E
        (source / f"{place}.parquet").write_bytes(damaged)
    taken = take_with(vault, source, lambda met: None)
    vault.restore(taken.snapshot, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(source)


def test_where_columns_lie_is_what_arrow_says(tmp_path):
    for number, more in enumerate(({}, {"row_group_size": 50, "compression": "zstd"}, {"use_dictionary": False})):
        table = pyarrow.table({"a": range(500), "b": ["x"] * 500, "c": [[1, 2]] * 500, "d": [{"e": 1.5}] * 500})
        file = tmp_path / f"{number}.parquet"
        pyarrow.parquet.write_table(table, file, **more)
        metadata, bounds = pyarrow.parquet.read_metadata(file), set()
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(column)
                start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                bounds |= {start, start + chunk.total_compressed_size}
        with file.open("rb") as opened:
            assert column_bounds(opened, file.stat().st_size) == sorted(bounds)
