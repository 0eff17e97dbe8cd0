"""Power is lost at every moment of snapshots, a deletion, its undoing and a collection: what was told is there afterwards."""

import os
import random
import shutil
from datetime import date
from pathlib import Path

import msgspec
import pytest

from stillhouse import approvals
from stillhouse.custody.copies import home_snapshots
from stillhouse.custody.copies.copy_records import kept_since
from stillhouse.custody.deletion import deletion, trash
from stillhouse.errors import StillhouseError
from stillhouse.home.open_home import create_home, open_home
from stillhouse.home.progress import Silence
from stillhouse.home.settings import Settings, read_settings
from stillhouse.vault.durability import Durability
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.objects import Objects
from tests.crash_points import Disk, Recorder

# A state costs a seventh of a second, and there are hundreds: one in so many is tried each time, from a place that the day
# chooses; all of them by `make test-slow`.
PART = 10
NOT_THE_TRUTH = ("ledger", "cache", "locks", "reports")


def settings_of(home: Path) -> Settings:
    return msgspec.structs.replace(read_settings(home, {}), durability=Durability.POWER)


def make_source(root: Path, seed: int) -> dict[str, bytes]:
    root.mkdir()
    draw = random.Random(seed)
    contents = {name: draw.randbytes(3000) for name in "ab"}
    for name, data in contents.items():
        (root / name).write_bytes(data)
    return contents


class Life:
    """What is done while it is recorded, and what it must leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        create_home(settings_of(self.home))
        self.contents = {
            name: make_source(folder / name, seed) for seed, name in enumerate(("first", "second", "third"))
        }
        self.recorder = Recorder(self.home, NOT_THE_TRUTH)
        with self.recorder.recording(), open_home(settings_of(self.home)) as app:
            for name in ("first", "second"):
                home_snapshots.snapshot(app, str(folder / name), name, Silence())
                self.recorder.tell(name)
            node = "snapshot:" + home_snapshots.find(app, "first").snapshot
            asked = approvals.submit(app, deletion.plan_deletion(app, [node], "old"))
            self.plan = asked.digest
            self.recorder.tell("asked")
            approvals.execute(app, asked.digest)
            self.recorder.tell("deleted")
            trash.collect(app, trash.plan_collection(app))
            deletion.undo(app, asked.digest)
            self.recorder.tell("undone")
            home_snapshots.snapshot(app, str(folder / "third"), "third", Silence())
            self.recorder.tell("third")

    def check(self, told: frozenset[str], disk: Disk, where: Path) -> None:
        """Open what is left, and find all that was told; then do it all again."""
        disk.write_to(where)
        with open_home(settings_of(where)) as app:
            bad = [problem for _, problem in app.objects.verify() if problem]
            assert bad == []
            deleted = (
                "undone" not in told
                and bool(kept_since(app))
                and not any(one == "snapshot:" + self.digest(app, "first") for one in kept_since(app))
            )
            if "undone" not in told and "first" in told and deleted:
                assert "asked" in told, "it was deleted before anybody asked"
                deletion.undo(app, self.plan)
            for name in ("first", "second", "third"):
                if name in told:
                    self.restore(app, name, where)
            home_snapshots.snapshot(app, str(self.folder / "third"), "third", Silence())
            self.restore(app, "third", where)
            trash.collect(app, trash.plan_collection(app))
            for name in ("first", "second"):
                if name in told:
                    self.restore(app, name, where)

    def digest(self, app, name: str) -> str:
        try:
            return home_snapshots.find(app, name).snapshot
        except StillhouseError:
            return ""

    def restore(self, app, name: str, where: Path) -> None:
        out = where / "out"
        home_snapshots.restore_to(app, name, out, "", Silence())
        assert {path.name: path.read_bytes() for path in out.iterdir()} == self.contents[name]
        shutil.rmtree(out)


def play(life: Life, folder: Path, chosen) -> int:
    tried = 0
    for number, (what, told, disk) in enumerate(life.recorder.states()):
        if not chosen(number, what):
            continue
        tried += 1
        where = folder / "state"
        try:
            life.check(told, disk, where)
        except BaseException as failure:
            raise AssertionError(f"{what} (told: {sorted(told)}): {failure!r}") from failure
        finally:
            shutil.rmtree(where, ignore_errors=True)
    return tried


def test_power_lost_at_some_moments(tmp_path):
    life, first = Life(tmp_path), date.today().toordinal() % PART
    tried = play(life, tmp_path, lambda number, what: number % PART == first)
    assert tried > 300 / PART, "the recorder saw the work"


@pytest.mark.slow
@pytest.mark.parametrize("half", range(2))
def test_power_lost_at_every_moment(tmp_path, half):
    life = Life(tmp_path)
    tried = play(life, tmp_path, lambda number, what: number % 2 == half)
    assert tried > 300 / 2, "the recorder saw the work"


@pytest.mark.parametrize("broken", ["no fsync of files", "no fsync of folders"])
def test_a_vault_that_does_not_sync_is_caught(tmp_path, monkeypatch, broken):
    """The check can fail: without one of the two kinds of sync, some state loses what was told."""
    real = os.fsync

    def fsync(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        if is_folder != (broken == "no fsync of folders"):
            real(descriptor)

    monkeypatch.setattr("stillhouse.vault.files.os", _Os(fsync))
    life = Life(tmp_path)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match=r"lost|torn"):
        play(life, tmp_path, lambda number, what: "all lost" in what)


class _Os:
    """The module ``os``, but for one function."""

    def __init__(self, fsync) -> None:
        self.fsync = fsync

    def __getattr__(self, name: str):
        return getattr(os, name)


def test_the_model_of_a_disk(tmp_path):
    """Bytes without a sync, and names without that of their folder, can be lost; with both they cannot."""
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    recorder = Recorder(root, ("cache",))
    with recorder.recording():
        store = Objects(LocalBackend(root / "in"))
        digest = store.put(b"something")
        recorder.tell("stored")
    name = digest.replace(":", "-")
    seen = set()
    for number, (_, told, disk) in enumerate(recorder.states()):
        disk.write_to(tmp_path / f"{number}")
        found = list((tmp_path / f"{number}").rglob(name))
        if "stored" in told:
            assert [path.read_bytes() for path in found] == [b"something"]
        seen.add((bool(found), "stored" in told))
        assert all(path.read_bytes() == b"something" for path in found), "under its name it is whole, at every moment"
    assert seen == {(False, False), (True, False), (True, True)}
