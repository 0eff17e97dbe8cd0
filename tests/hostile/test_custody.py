"""Custody where somebody or something works against it: each of these once went wrong, or would have."""

import json
import os
import shutil
import signal
import struct
import time
from pathlib import Path

import pytest

from stillhouse.canon import canonical, digest_bytes
from stillhouse.custody.copies import home_snapshots
from stillhouse.custody.copies.places import find_copy, open_place
from stillhouse.custody.copies.resistance import probe_folder
from stillhouse.custody.deletion.deletion_impact import reach_of
from stillhouse.errors import CorruptObject
from stillhouse.home.open_home import FOLLOWS, create_home, open_home
from stillhouse.home.progress import Silence
from stillhouse.home.settings import read_settings
from stillhouse.sandbox.inner import syscalls
from stillhouse.vault import snapshots
from stillhouse.vault.copying import newest_name
from tests.acceptance.test_copies import configure, copied, damage, data  # noqa: F401
from tests.vaults import Vault, tree

needs_landlock = pytest.mark.skipif(
    syscalls.landlock_version() < syscalls.GUARD_VERSION, reason="this kernel has no Landlock 3: guard run refuses here"
)


@needs_landlock
@pytest.mark.parametrize("nested", ["objects", "log"])
def test_a_folder_protected_within_a_protected_one_opens_nothing(copied, nested):  # noqa: F811
    words = ["guard", "run", "--protect", copied.home / nested, "--", "touch"]
    copied.process(*words, copied.home / "log" / "evil", code=1)
    copied.process(*words, copied.home / "objects" / "evil", code=1)


@needs_landlock
def test_objects_behind_a_link_are_protected_where_they_are(copied):  # noqa: F811
    big = copied.folder / "big"
    shutil.move(copied.home / "objects", big)
    (copied.home / "objects").symlink_to(big)
    victim = next(big.rglob("blake3-*"))
    copied.process("guard", "run", "--", "rm", "-f", victim, code=1)
    assert victim.exists()


def test_a_home_is_rebuilt_from_a_copy_that_is_damaged_in_places(copied, data):  # noqa: F811
    """As far as it goes, and it says what is missing."""
    home = copied
    names = home("vault", "list", "--json").json
    bad = damage(home.folder / "far")
    for head in (home.folder / "far" / "heads").rglob("head-*"):
        (head.parent / "head-00000000000000000-stray").write_text("no head")
    shutil.rmtree(home.home)
    assert "were not copied" in home("vault", "pull", home.folder / "far", code=4).err
    assert home("vault", "list", "--json").json == names
    found = home("vault", "verify", "--json", code=4).json["bad"]
    assert [one["object"] for one in found] == [bad]


def test_a_damaged_head_is_passed_over(copied, data):  # noqa: F811
    home = copied
    (data / "x").write_text("x")
    home("vault", "snapshot", data)
    home("vault", "backup")
    newest = max((home.folder / "far" / "heads").rglob("head-*"), key=lambda path: path.name)
    newest.chmod(0o644)
    newest.write_bytes(newest.read_bytes()[:-5])
    home("vault", "pull", home.folder / "far", "--home", home.folder / "again")
    assert len(home("vault", "list", "--home", home.folder / "again", "--json").json) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"files": {"../pwned": "x"}},
        {"files": {"keys/home.key": "x"}},
        {"files": {"log/w0000/x": "x"}},
        {"ends": [{"writer": "../../pwned", "segment": "000000000000.segment", "object": "x"}]},
        {"ends": [{"writer": "w0000", "segment": "../../VERSION", "object": "x"}]},
    ],
    ids=range(5),
)
def test_a_copy_cannot_write_where_it_likes(tmp_path, copied, more):  # noqa: F811
    home, copy = copied, find_copy(read_settings(copied.home, {}), "far")
    place = open_place(copy)
    for end in more.get("ends", []):
        end["object"] = place.objects.put(b"evil")
    head = {"at": "2999-01-01T00:00:00.000Z", "entries": 10**6, "ends": [], "files": {}, **more}
    head["after"] = newest_name(place.heads)  # else it would not be the newest, whatever its time
    raw = canonical(head)
    place.heads.put(f"head-29990101-{digest_bytes(raw).partition(':')[2]}", raw)
    target = home.folder / "in" / "again"
    assert "no part of a home" in home("vault", "pull", home.folder / "far", "--home", target, code=4).err
    assert not list(home.folder.rglob("pwned*"))
    assert not (target / "keys" / "home.key").exists()


def test_a_pull_waits_for_nobody_and_replaces_nothing_that_is_being_written(copied):  # noqa: F811
    replica = copied.folder / "replica"
    copied("vault", "pull", copied.home, "--home", replica)
    (replica / FOLLOWS).unlink()  # as one that writes into the chains that it pulled
    with open_home(read_settings(replica, {})) as app:
        home_snapshots.snapshot(app, str(copied.folder / "data"), "own", Silence())  # holds its chain
        assert "being written" in copied("vault", "pull", copied.home, "--home", replica, code=1).err
    assert "not the continuation" in copied("vault", "pull", copied.home, "--home", replica, code=4).err


def test_a_follower_checks_what_it_has_and_still_follows(copied, data):  # noqa: F811
    """Its receipts go into a chain of its own, beside which the other home's goes on."""
    replica = copied.folder / "replica"
    for round_ in range(3):
        copied("vault", "pull", copied.home, "--home", replica)
        copied("vault", "verify", "--home", replica)
        copied("vault", "scrub", "--home", replica)
        copied("drill", "run", "data", "--home", replica)
        (data / f"more{round_}").write_text("more")
        copied("vault", "snapshot", data)
    copied("vault", "pull", copied.home, "--home", replica)
    mine, its = (copied("vault", "list", "--json", "--home", home).json for home in (copied.home, replica))
    assert mine == its
    assert len(copied("drill", "list", "--json", "--home", replica).json) == 3


def test_nothing_is_built_on_a_damaged_pack(home, data):  # noqa: F811
    """The source is whole: a snapshot after the damage was found stores it again, and comes back."""
    damage(home.home)
    home("vault", "verify", code=4)
    shutil.rmtree(home.home / "cache")
    home("vault", "snapshot", data)
    home("vault", "restore", "data", "again")
    assert tree(home.folder / "again") == tree(data)
    assert home("vault", "verify", "--json").json["bad"] == []


def test_a_snapshot_that_ends_while_a_deletion_is_carried_out_is_whole(tmp_path, monkeypatch):
    """It checks that its objects are there, and then they go: whoever takes them must look again."""
    from stillhouse import approvals
    from stillhouse.custody.deletion import deletion

    settings = read_settings(tmp_path / "home", {})
    create_home(settings)
    (tmp_path / "data").write_bytes(os.urandom(50_000))
    with open_home(settings) as app, open_home(settings) as other:
        taken = home_snapshots.snapshot(app, str(tmp_path / "data"), "d", Silence())
        (tmp_path / "same").mkdir()
        shutil.copy(tmp_path / "data", tmp_path / "same" / "data")
        asked = approvals.submit(app, deletion.plan_deletion(app, [f"snapshot:{taken.snapshot}"], ""))
        discard = deletion.discard

        def meanwhile(*words):
            home_snapshots.snapshot(other, str(tmp_path / "same"), "same", Silence())
            discard(*words)

        monkeypatch.setattr(deletion, "discard", meanwhile)
        approvals.execute(app, asked.digest)
        home_snapshots.restore_to(other, "same", tmp_path / "again", "", Silence())


def test_a_hold_holds_every_dataset_that_a_snapshot_is_of(tmp_path):
    settings = read_settings(tmp_path / "home", {})
    create_home(settings)
    (tmp_path / "data").write_text("x")
    with open_home(settings) as app:
        from stillhouse.clock import now
        from stillhouse.home import facts

        taken = home_snapshots.snapshot(app, str(tmp_path / "data"), "d", Silence())
        for subject in ("dataset:a@1", "dataset:b@1"):
            home_snapshots.keep(app, taken, "d", "x", subject)
        app.recorder.record(facts.HoldPlaced(at=now(), by="x", hold="h1", subject="dataset:a@1", reason="lawsuit"))
        app.recorder.refresh()
        assert [hold.hold for hold in reach_of(app, (f"snapshot:{taken.snapshot}",)).holds] == ["h1"]


def test_files_and_folders_that_vanish_under_way_are_as_if_they_had_gone_before(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for n in range(5):
        (source / f"{n}").write_text(str(n))
    real = snapshots._Snapshot._file

    def vanishing(self, met):
        if met.path == "2":
            (source / "2").unlink()
        return real(self, met)

    monkeypatch.setattr(snapshots._Snapshot, "_file", vanishing)
    keep = Vault(tmp_path / "vault")
    taken = keep.take(source)
    assert taken.files == 4
    keep.restore(taken.snapshot, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["0", "1", "3", "4"]


@pytest.mark.parametrize(
    "header", ['{"a":{"data_offsets":[Infinity,1]}}', '{"a":' + "[" * 50_000, '{"a": 5}', '{"": {}}']
)
def test_an_odd_header_spoils_no_snapshot(tmp_path, header):
    source = tmp_path / "odd.safetensors"
    text = header.encode()
    source.write_bytes(struct.pack("<Q", len(text)) + text + os.urandom(20_000))
    keep = Vault(tmp_path / "vault")
    keep.restore(keep.take(source).snapshot, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == source.read_bytes()


def test_the_probe_of_what_is_not_there_claims_nothing(tmp_path):
    assert all(line.resists == () for line in probe_folder("x", tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    (line,) = [line for line in probe_folder("x", tmp_path / "empty") if line.attacker == "this program"]
    assert line.resists == ()


def test_the_probe_sees_what_others_may_do_to_the_folder_itself(copied):  # noqa: F811
    def other_user():
        return next(line for line in probe_folder("x", copied.home / "objects") if line.attacker == "other user")

    assert other_user().resists
    (copied.home / "objects").chmod(0o777)
    assert other_user().resists == ()


def test_two_names_of_one_place_are_one_copy(copied):  # noqa: F811
    configure(copied, f'[copies.twice]\nplace = "{copied.folder / "far"}"\ndomain = "a third team"\n')
    copied("vault", "backup", "--copy", "twice")
    below = copied("status", "--json").json["below_minimum"]
    assert "2 of 3 copies" in below[0]["lacks"]


def test_an_emptied_copy_is_found_by_a_sample_too_and_counts_no_more(copied):  # noqa: F811
    shutil.rmtree(copied.folder / "far" / "objects")
    assert copied("vault", "scrub", "--copy", "far", "--sample", 5, "--json", code=4).json["bad"]
    assert "1 of 3 copies" in copied("status", "--json").json["below_minimum"][0]["lacks"]
    assert "scrub far" in copied("status", "--json").json["overdue"]


def test_a_backup_of_what_is_not_whole_is_no_copy(home, data):  # noqa: F811
    configure(home, f'[copies.far]\nplace = "{home.folder / "far"}"\n')
    max((home.home / "objects").rglob("blake3-*"), key=lambda path: path.stat().st_size).unlink()
    assert "neither here nor there" in home("vault", "backup", code=4).err
    assert home("status", "--json").json["copies"] == []


def test_odd_names_of_sources(home):
    odd = os.fsdecode(os.fsencode(home.folder) + b"/odd \xff")
    Path(odd).write_text("x")
    home("vault", "snapshot", odd)
    assert json.dumps(home("vault", "list", "--json").json)
    home("vault", "restore", home("vault", "list", "--json").json[0]["snapshot"], "again")


def test_a_copy_is_mended_from_the_home_alone(copied):  # noqa: F811
    damage(copied.folder / "far")
    assert "repaired from `home`" in copied("vault", "scrub", "--copy", "far", "--repair-from", "far", code=2).err


def test_what_is_of_another_kind_is_not_replaced(tmp_path):
    from stillhouse.errors import TargetExists
    from stillhouse.vault.reading import Reader
    from stillhouse.vault.restoring import restore_over

    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "inner").write_text("x")
    (source / "file").write_text("x")
    keep = Vault(tmp_path / "vault")
    taken = keep.take(source)
    for wrong in ("folder", "file"):
        target = tmp_path / f"target-{wrong}"
        target.mkdir()
        if wrong == "folder":
            (target / "folder").write_text("a file")
        else:
            (target / "file").mkdir()
            (target / "file" / "kept").write_text("kept")
        before = tree(target)
        with pytest.raises(TargetExists):
            restore_over(Reader(keep.objects), taken.snapshot, target)
        assert {name: before[name][2] for name in before} == {name: tree(target)[name][2] for name in before}
        assert not list(target.rglob(".stillhouse-*"))


def test_a_manifest_that_cannot_be_read_stops_a_collection(home, data):  # noqa: F811
    """Nobody knows what it named: nothing may go."""
    root = next(path for path in (home.home / "objects").rglob("blake3-*") if path.read_bytes().startswith(b"SHPAGE1"))
    root.chmod(0o644)
    root.write_bytes(root.read_bytes()[:-3])
    home("vault", "gc", code=4)
    with open_home(read_settings(home.home, {})) as app:
        assert list(app.objects.discarded()) == []
        with pytest.raises(CorruptObject):
            reach_of(app, ("snapshot:x",))


def test_a_hold_needs_nothing_but_the_log(home, data):  # noqa: F811
    """What is damaged elsewhere must not keep anybody from saying that something stays."""
    damage(home.home)
    for page in (home.home / "objects").rglob("blake3-*"):
        page.chmod(0o644)
        page.write_bytes(page.read_bytes()[:-3])
    snapshot = home("vault", "list", "--json").json[0]["snapshot"]
    home("vault", "hold", f"snapshot:{snapshot}")
    assert home("vault", "holds", "--json").json


def test_what_may_not_be_read_is_named_with_what_to_do(tmp_path, monkeypatch):
    import errno

    from stillhouse.errors import StorageError

    source = tmp_path / "source"
    source.mkdir()
    (source / "secret").write_text("x")
    real = os.open

    def refused(path, *words, **named):
        if str(path).endswith("secret") or path == os.fsencode(source / "secret"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *words, **named)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StorageError, match="secret") as failure:
        Vault(tmp_path / "vault").take(source)
    assert "right" in failure.value.next_step


def test_a_disk_that_fails_while_it_writes_behind_fails_the_restore(tmp_path, monkeypatch):
    """The kernel tells of it once, to whoever syncs first: that must not be lost."""
    from stillhouse.errors import StorageError
    from stillhouse.vault import restoring

    source = tmp_path / "source"
    source.mkdir()
    for n in range(600):
        (source / f"{n}").write_bytes(bytes([n % 256]) * 300)
    keep = Vault(tmp_path / "vault")
    taken = keep.take(source)
    told = []

    def sync(folder):
        if not told:
            told.append(folder)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(restoring, "_sync_all", sync)
    monkeypatch.setattr(restoring, "_FLUSH_BYTES", 1000)
    with pytest.raises(StorageError, match="durable"):
        keep.restore(taken.snapshot, tmp_path / "again")
    assert told and not (tmp_path / "again").exists()


@pytest.mark.parametrize("delay", [0.5, 0.7, 0.9])
def test_a_suspended_collector_takes_nothing_that_was_named_meanwhile(home, delay):
    """A laptop's lid closes in the middle of a collection; what it had found to be garbage is snapshot before it opens again."""
    source = home.folder / "data"
    source.mkdir()
    (source / "a.jsonl").write_text("".join(f'{{"row": {n}}}\n' for n in range(3000)))
    home_snapshots = Vault(home.home)
    home_snapshots.take(source)  # stored, and named by nothing: as if killed before the end
    process = home.start("vault", "gc", "--json")
    time.sleep(delay)
    process.send_signal(signal.SIGSTOP)
    try:
        while home(
            "vault", "snapshot", source, code=None
        ).code:  # it was writing to the ledger just then: a little later
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate()
    home("vault", "restore", "data", "out")
    assert (home.folder / "out" / "a.jsonl").read_bytes() == (source / "a.jsonl").read_bytes()
    home("vault", "gc")
    home("vault", "restore", "data", "again")
    home("vault", "verify")
