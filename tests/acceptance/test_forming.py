"""Datasets that are formed again: what a change costs, what versions share, and that forming survives whatever ends it."""

import json

import pytest
from aiohttp import web

from stillhouse.datasets.shards import read_rows
from stillhouse.home.ledger import dataset_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from tests.conftest import Cli
from tests.server import chat

RIVAL = ("--lab", "rival", "--channel", "official", "--terms", "licence/mit", "--day", "2026-03-01")


def prompts(home: Cli, count: int) -> None:
    rows = [{"id": f"t{number}", "messages": [{"role": "user", "content": f"say {number}"}]} for number in range(count)]
    home.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


async def answering(server, body):
    said = body["messages"][-1]["content"]
    return web.json_response(
        chat(f"{said}, said the teacher. " + " ".join(f"word{number}" for number in range(len(said), 300)))
    )


@pytest.fixture
def collected(home, serve):
    """A home with thirty answers in a dataset, and the recipe that it is of."""
    home.add_mock(serve(answering).url)
    prompts(home, 30)
    recipe = home.recipe()
    home("collect", recipe)
    return home, recipe


def objects(home: Cli) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (home.home / "objects").rglob("*") if path.is_file()}


def keys(home: Cli, label: str) -> list[str]:
    with open_home(read_settings(home.home)) as app:
        version = dataset_queries.dataset(app.ledger, label)
        return sorted(row["key"] for row in read_rows(app.objects, version))


def test_nothing_new_writes_nothing(collected):
    home, recipe = collected
    before = objects(home)
    again = home("collect", recipe, "--json").json
    assert again["dataset"] == "example@1"
    assert objects(home) == before


def test_a_prompt_more_costs_its_row(collected):
    home, recipe = collected
    before = objects(home)
    prompts(home, 31)
    assert home("collect", recipe, "--json").json["dataset"] == "example@2"
    added = {name: size for name, size in objects(home).items() if name not in before}
    assert sum(added.values()) < sum(before.values()) / 3
    files = [home("dataset", "show", label, "--json").json["files"] for label in ("example@1", "example@2")]
    assert set(files[0].values()) < set(files[1].values())
    assert len(keys(home, "example@2")) == 31


def test_a_version_that_shares_outlives_the_other(collected):
    """Files of a deleted version that another one has, too, stay; and the other way round."""
    home, recipe = collected
    prompts(home, 31)
    home("collect", recipe)
    for gone, left in (("example@1", "example@2"), ("example@2", "example@1")):
        rows = keys(home, left)
        asked = home("delete", "plan", f"dataset:{gone}", "--reason", "a test", "--json").json
        home("plan", "execute", asked["plan"])
        home("vault", "gc")
        assert keys(home, left) == rows
        home("dataset", "export", left, home.folder / f"{left}.jsonl", "--use", "store")
        home("delete", "undo", asked["plan"])
    home("doctor")


def test_a_version_after_its_parent_was_deleted(collected):
    home, recipe = collected
    home("plan", "execute", home("delete", "plan", "dataset:example@1", "--reason", "a test", "--json").json["plan"])
    prompts(home, 31)
    assert home("collect", recipe, "--json").json["dataset"] == "example@2"
    assert len(keys(home, "example@2")) == 31


def test_what_was_revoked_is_in_no_file(collected):
    """Of a mix one source is revoked: the next version's files hold none of its rows, and share none that does."""
    home, _ = collected
    rows = [
        {"messages": [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": f"rival {n}"}]}
        for n in range(9)
    ]
    home.write("rival.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    home("dataset", "import", "rival.jsonl", "--name", "rival", *RIVAL)
    path = home.recipe(name="mixed.toml", dataset="mixed")
    path.write_text(path.read_text() + 'mix = ["rival@1"]\n')
    assert home("collect", path, "--json").json["dataset"] == "mixed@1"
    assert len(keys(home, "mixed@1")) == 39
    home("access", "revoke", "rival", "--reason", "a test")
    assert home("collect", path, "--json").json["dataset"] == "mixed@2"
    shown = [home("dataset", "show", label, "--json").json for label in ("mixed@1", "mixed@2")]
    assert shown[1]["rows"] == len(keys(home, "mixed@2")) == 30
    of_rows = [{digest for name, digest in one["files"].items() if name.startswith("rows")} for one in shown]
    assert not of_rows[0] & of_rows[1]


@pytest.mark.parametrize(
    "engine",
    [
        "workers = 1",
        "workers = 3",
        # Starting Ray takes half a minute here.
        pytest.param('kind = "ray"', marks=pytest.mark.slow),
    ],
)
def test_engines_change_nothing(collected, engine, monkeypatch):
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    home, recipe = collected
    first = home("dataset", "show", "example@1", "--json").json["content_digest"]
    config = home.home / "config.toml"
    config.chmod(0o644)
    config.write_text(config.read_text() + f"\n[engine]\n{engine}\n")
    for path in (home.home / "cache" / "findings").glob("*"):
        path.unlink()
    assert home("collect", recipe, "--json").json["content_digest"] == first


@pytest.mark.parametrize("wrong", ['kind = "spark"', "workers = -1", "workers = 2000", "threads = 4"])
def test_an_engine_that_there_is_not(home, wrong):
    config = home.home / "config.toml"
    config.chmod(0o644)
    config.write_text(config.read_text() + f"\n[engine]\n{wrong}\n")
    assert "config.toml" in home("status", code=1).err
