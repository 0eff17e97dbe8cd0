"""Snapshots, deletions, undoing, collection, in any order and over many cycles, beside a model of what must be."""

import os
import random
import shutil
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stillhouse import approvals
from stillhouse.custody.checks.scrub import scrub
from stillhouse.custody.copies import home_snapshots
from stillhouse.custody.copies.copy_records import kept_since
from stillhouse.custody.deletion import deletion, trash
from stillhouse.custody.named_objects import surely_named_objects
from stillhouse.errors import CorruptObject, Held, StillhouseError
from stillhouse.home.open_home import create_home, open_home
from stillhouse.home.progress import Silence
from stillhouse.home.settings import read_settings
from tests.vaults import tree


class Custody(RuleBasedStateMachine):
    """``alive`` maps a snapshot to its files; ``gone`` are deletions that could be undone, with what they took."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        settings_ = read_settings(self.folder / "home", {})
        create_home(settings_)
        self.app = open_home(settings_)
        self.alive: dict[str, dict[str, bytes]] = {}
        self.gone: list[tuple[str, dict[str, dict[str, bytes]]]] = []
        self.held: dict[str, str] = {}
        self.restored = 0

    def teardown(self):
        self.app.close()
        shutil.rmtree(self.folder)

    @rule(
        files=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), max_size=4), size=st.sampled_from([10, 9000])
    )
    def take(self, files, size):
        source = self.folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        contents = {name: random.Random(seed).randbytes(size) for name, seed in files.items()}
        for name, data in contents.items():
            (source / name).write_bytes(data)
        (source / "same").write_text("in every one")
        for path in (
            *source.iterdir(),
            source,
        ):  # so that one content is one snapshot, today and when it is played again
            os.utime(path, ns=(0, 0))
        taken = home_snapshots.snapshot(self.app, str(source), "s", Silence())
        self.alive[taken.snapshot] = {**contents, "same": b"in every one"}
        # Taken again, it is there, whatever was deleted before.
        self.gone = [(plan, {s: f for s, f in took.items() if s != taken.snapshot}) for plan, took in self.gone]

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def delete(self, data):
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.alive)), min_size=1, max_size=2, unique=True))
        subjects = [f"snapshot:{one}" for one in chosen]
        if any(one in self.held for one in chosen):
            with pytest.raises(Held):
                deletion.plan_deletion(self.app, subjects, "")
            return
        asked = approvals.submit(self.app, deletion.plan_deletion(self.app, subjects, ""))
        approvals.execute(self.app, asked.digest)
        self.gone.append((asked.digest, {one: self.alive.pop(one) for one in chosen}))

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def undo(self, data):
        place = data.draw(st.integers(0, len(self.gone) - 1))
        plan, took = self.gone.pop(place)
        if took is None:
            with pytest.raises(CorruptObject):
                deletion.undo(self.app, plan)
            return
        deletion.undo(self.app, plan)
        self.alive |= took

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def hold(self, data):
        chosen = data.draw(st.sampled_from(sorted(self.alive)))
        if chosen not in self.held:
            self.held[chosen] = deletion.hold(self.app, f"snapshot:{chosen}", "")

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        chosen = data.draw(st.sampled_from(sorted(self.held)))
        asked = deletion.release(self.app, self.held.pop(chosen), "")
        approvals.execute(self.app, asked.digest)

    @rule()
    def collect(self):
        trash.collect(self.app, trash.plan_collection(self.app))
        named = surely_named_objects(self.app).objects
        assert {digest for digest in self.app.objects.list() if digest not in named} == set()

    @rule()
    def a_month_later(self):
        """The grace is over: what is deleted and not undone is gone for good, and nothing else is."""
        grace, days = trash.GRACE, trash.GRACE_DAYS
        trash.GRACE, trash.GRACE_DAYS = timedelta(0), 0
        try:
            trash.collect(self.app, trash.plan_collection(self.app))
        finally:
            trash.GRACE, trash.GRACE_DAYS = grace, days
        self.gone = []
        assert list(self.app.objects.discarded()) == []

    @rule()
    def lose_the_caches(self):
        shutil.rmtree(self.app.cache, ignore_errors=True)
        self.app.cache.mkdir()

    @invariant()
    def everything_alive_comes_back(self):
        assert scrub(self.app, None, 0, "", Silence()).bad == ()
        assert set(kept_since(self.app)) == {f"snapshot:{one}" for one in self.alive}, "the view says what the log does"
        for snapshot, files in self.alive.items():
            self.restored += 1
            target = self.folder / f"r{self.restored}"
            home_snapshots.restore_to(self.app, snapshot, target, "", Silence())
            assert {name: what[2] for name, what in tree(target).items() if name != "."} == files
            shutil.rmtree(target)


def for_as_many_as(histories):
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=histories, stateful_step_count=14, deadline=None, suppress_health_check=checks)


def test_some_histories():
    run_state_machine_as_test(Custody, settings=for_as_many_as(10))


@pytest.mark.slow
def test_many_histories():
    """Each takes a second or more."""
    run_state_machine_as_test(Custody, settings=for_as_many_as(120))


def test_a_clock_that_jumps_ends_no_grace(tmp_path, monkeypatch):
    """A year forward is no month of days that somebody lived through; and back is no time at all."""
    import datetime as clock

    settings_ = read_settings(tmp_path / "home", {})
    create_home(settings_)
    (tmp_path / "data").write_bytes(random.Random(0).randbytes(5000))
    with open_home(settings_) as app:
        taken = home_snapshots.snapshot(app, str(tmp_path / "data"), "d", Silence())
        asked = approvals.submit(app, deletion.plan_deletion(app, [f"snapshot:{taken.snapshot}"], ""))
        approvals.execute(app, asked.digest)

        class Later(clock.datetime):
            jump = clock.timedelta(days=400)

            @classmethod
            def now(cls, zone=None):
                return clock.datetime.now(zone) + cls.jump

        monkeypatch.setattr(trash, "datetime", Later)
        assert trash.find_garbage(app).reclaim == ()
        Later.jump = clock.timedelta(days=-400)
        assert trash.find_garbage(app).reclaim == ()
        Later.jump = clock.timedelta(days=400)
        monkeypatch.setattr(trash, "GRACE_DAYS", 0)
        monkeypatch.setattr(trash, "GRACE", clock.timedelta(0))
        assert trash.find_garbage(app).reclaim != (), "the days are what kept it"


def test_two_collectors_and_a_writer_at_once(tmp_path):
    """Seeded: what a writer names after a sweep looked, and before it moves, is there in the end."""
    settings_ = read_settings(tmp_path / "home", {})
    create_home(settings_)
    for seed in range(6):
        draw = random.Random(seed)
        data = tmp_path / f"data{seed}"
        data.write_bytes(draw.randbytes(30_000))
        with open_home(settings_) as writer, open_home(settings_) as collector:
            taken = _take_without_naming(writer, data)
            steps = [partial(_collect, collector), partial(home_snapshots.keep, writer, taken, "x", str(data), "")]
            if draw.random() < 0.5:
                steps.reverse()
            for step in [*steps, partial(_collect, collector)]:
                step()
        with open_home(settings_) as app:
            home_snapshots.restore_to(app, taken.snapshot, tmp_path / f"again{seed}", "", Silence())
            assert (tmp_path / f"again{seed}").read_bytes() == data.read_bytes()


def _take_without_naming(app, path):
    import time

    from stillhouse.vault.seen import Seen
    from stillhouse.vault.snapshots import take
    from stillhouse.vault.walking import Walk

    seen = Seen(app.cache / "seen", path, time.time_ns())
    try:
        return take(app.objects, lambda: home_snapshots.open_index(app), seen, Walk(path))
    finally:
        seen.close()


def _collect(app):
    try:
        trash.collect(app, trash.plan_collection(app))
    except StillhouseError as failure:
        raise AssertionError(str(failure)) from failure
