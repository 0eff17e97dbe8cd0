"""A clock that is wrong once, at any moment of a story, costs nothing: what is newest, what is due and what may go."""

import shutil
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from tests.acceptance.test_custody import data, objects_on_disk  # noqa: F401
from tests.vaults import tree

JUMPS = {
    "5 minutes ahead": timedelta(minutes=5),
    "a year ahead": timedelta(days=366),
    "ten years behind": timedelta(days=-3653),
}


def first_snapshot(home, data):  # noqa: F811
    home("vault", "snapshot", data, "--name", "kept")


def backup(home, data):  # noqa: F811
    home("vault", "backup")


def change_and_snapshot(home, data):  # noqa: F811
    (data / "new").write_text("what came later")
    home("vault", "snapshot", data, "--name", "kept")


def scratch_snapshot(home, data):  # noqa: F811
    (home.folder / "scratch").mkdir()
    (home.folder / "scratch" / "x").write_text("x" * 5000)
    home("vault", "snapshot", home.folder / "scratch", "--name", "scratch")


def delete_scratch(home, data):  # noqa: F811
    taken = next(one for one in home("vault", "list", "--json").json if one["name"] == "scratch")["snapshot"]
    plan = home("delete", "plan", f"snapshot:{taken}", "--json").json["plan"]
    home("plan", "execute", plan)


def tick(home, data):  # noqa: F811
    home("tick", code=None)


def collect_garbage(home, data):  # noqa: F811
    home("vault", "gc")


STORY = (first_snapshot, backup, scratch_snapshot, change_and_snapshot, backup, delete_scratch, tick, collect_garbage)


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize(
    "moment", range(len(STORY)), ids=[f"{place}-{step.__name__}" for place, step in enumerate(STORY)]
)
def test_a_clock_that_is_wrong_once(home, data, jump, moment):  # noqa: F811
    config = home.home / "config.toml"
    config.write_text(config.read_text() + f'\n[copies.far]\nplace = "{home.folder / "far"}"\n')
    for place, step in enumerate(STORY):
        wrong = time_machine.travel(datetime.now(UTC) + JUMPS[jump], tick=True)
        with wrong if place == moment else nullcontext():
            step(home, data)
    newest = tree(data)
    # What was deleted is still on its way out, and comes back.
    deleted = home("delete", "list", "--json").json[0]
    assert home("delete", "undo", deleted["deletion"], "--json").json["objects"] > 0
    home("vault", "restore", "scratch", "back-scratch")
    # The newest of a name is the one that was taken last, here and in the copy.
    home("vault", "restore", "kept", "back")
    assert tree(home.folder / "back") == newest
    shutil.rmtree(home.folder / "back")
    home("vault", "pull", home.folder / "far", "--home", home.folder / "replica")
    home("vault", "restore", "kept", "back", "--home", home.folder / "replica")
    assert tree(home.folder / "back") == newest
    # What was backed up counts as that, whatever the clock said of either.
    for one in home("vault", "list", "--json").json:
        if one["name"] == "kept":
            impact = home("delete", "plan", f"snapshot:{one['snapshot']}", "--plan", "--json").json["impact"]
            assert impact["copies elsewhere"] == ["far"]
    # Nothing is put off for a year: what is new goes into the next backup, and counts from then on.
    (data / "newer").write_text("and later still")
    home("vault", "snapshot", data, "--name", "kept")
    taken = home("vault", "list", "--json").json[-1]["snapshot"]
    before = home("delete", "plan", f"snapshot:{taken}", "--plan", "--json").json["impact"]
    assert before["last copy"] is True
    home("vault", "backup")
    after = home("delete", "plan", f"snapshot:{taken}", "--plan", "--json").json["impact"]
    assert after["copies elsewhere"] == ["far"]
    home("vault", "gc")
    assert home("vault", "verify", "--json").json["bad"] == []
