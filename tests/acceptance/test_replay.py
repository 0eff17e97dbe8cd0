"""A run from log and vault alone: the data equal, the weights within tolerance, what differs named."""

import json

import pytest

from tests.acceptance.test_access import import_rival, mixed_recipe, revoke, rows
from tests.acceptance.test_student import RIGHT, WRONG, add_local


@pytest.fixture
def ran(home, tiny_model, sandboxed):
    """A run whose author has left: prompts and recipe are gone, and so is the recording."""
    pytest.importorskip("peft")
    home.prompts(6)
    recording = home.recording([{"task": f"t{n}", "text": f"{RIGHT if n % 3 else WRONG} # {n}"} for n in range(6)])
    home.add_replay(recording)
    add_local(home, tiny_model)
    import_rival(home, rows(home, "january.jsonl", 100, 3), "january", "2026-01-05")
    home.done = home("run", mixed_recipe(home, "mixed", ["january"]), "--json").json
    for name in ("prompts.jsonl", "mixed.toml", "answers.jsonl", "january.jsonl"):
        (home.folder / name).unlink()
    return home


def test_a_run_is_repeated_without_whoever_ran_it(ran):
    found = ran("run", "--replay", "mixed@1", "--json").json
    assert found["data_equal"]
    assert found["dataset"]["content_digest"] == ran.done["content_digest"]
    assert found["weights"]["furthest_apart"] <= found["weights"]["tolerance"]
    assert found["weights_within_tolerance"]
    assert found["losses"]["steps"] > 0
    assert found["differences"] == []
    assert ran("run", "--replay", found["run"], "--json").json["data_equal"], "by the run's own name"
    assert len(ran("model", "list", "--json").json) == 1, "nothing was added to the home"


def test_what_policy_denies_today_is_compared_and_not_trained(ran):
    revoke(ran)
    ran("access", "revoke", "rival", "--even-if-nothing")
    found = ran("run", "--replay", "mixed", "--json").json
    assert found["data_equal"], "as of then"
    assert found["weights"] is None
    assert any("3 of 7 rows may not be used to train today" in difference for difference in found["differences"])


def test_differences_are_named(ran):
    with (ran.home / "config.toml").open("a") as file:
        file.write("\n")
    code = (
        "import json, sys\nfrom pathlib import Path\nimport stillhouse\nfrom stillhouse.home import facts\n"
        "from stillhouse.runs.run_manifest import stored_run\nfrom stillhouse.home.settings import read_settings\n"
        "import msgspec\n"
        "with stillhouse.open(sys.argv[1]) as home:\n"
        "    stored = stored_run(home, 'mixed@1')\n"
        "    then = json.loads(home.objects.get(stored.environment)) | {'torch': '1.0', 'gone': '2'}\n"
        "    named = {k: v for k, v in stored.shown().items() if k != 'at'}\n"
        "    named |= {'environment': home.objects.put(json.dumps(then).encode()), 'machine': 'Linux x86_64, 999 cores',\n"
        "              'code': home.objects.put(b'other')}\n"
        "    home.recorder.record(facts.RunOpened(at='2027-01-01T00:00:00.000Z', by='t', **named))\n"
    )
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", code, str(ran.home)], check=True)
    found = ran("run", "--replay", "mixed@1", "--json").json
    text = json.dumps(found["differences"])
    for word in (
        "package torch: 1.0 then",
        "package gone: 2 then, absent now",
        "999 cores then",
        "code: Stillhouse itself",
    ):
        assert word in text, word


def test_what_cannot_be_repeated_says_why(home):
    assert "No run 'nobody' can be repeated" in home("run", "--replay", "nobody", code=2).err
    assert "either a recipe, or --replay" in home("run", code=2).err
