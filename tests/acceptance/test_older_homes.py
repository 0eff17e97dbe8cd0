"""A home that an earlier version left says what it said then, is worked on, and costs nothing twice."""

import json

import pytest
import time_machine

from tests.older_homes import FIXTURES, MOMENT, holds, outputs, unpacked


@pytest.fixture(params=sorted(MOMENT))
def older(request, tmp_path):
    with time_machine.travel(MOMENT[request.param], tick=True):
        cli = unpacked(request.param, tmp_path)
        cli.name = request.param
        yield cli


def test_it_says_what_it_said(older):
    """Where a text for people is worded better, the line of that command is written again, with the reason in the commit."""
    with time_machine.travel(MOMENT[older.name], tick=False):
        found = outputs(older)
    for line in (FIXTURES / older.name / "outputs.jsonl").read_text().splitlines():
        words, code, value = json.loads(line)
        assert found[words][0] == code and holds(found[words][1], value), words


def test_what_was_paid_for_is_there(older):
    """Nobody answers at the teacher's address any more, and nobody is asked."""
    found = older("collect", "recipe.toml", "--json").json
    assert (found["answers"], found["paid"]) == (8, 0)
    again = older("dataset", "export", "mixed", older.folder / "again.jsonl", code=3)
    assert "revoked" in again.err, "the revocation is known, too"
    older("dataset", "export", "batched", older.folder / "again.jsonl")
    assert len((older.folder / "again.jsonl").read_text().splitlines()) == 4


def test_what_was_kept_comes_back(older):
    older("vault", "verify")
    older("vault", "restore", "precious", "back")
    for path in (older.folder / "precious").iterdir():
        assert (older.folder / "back" / path.name).read_bytes() == path.read_bytes()
    assert "s2" in older("dataset", "export", "survey", "gone.jsonl", code=None).err, "what was erased stays erased"


def test_its_chain_goes_on(older):
    """Acts are signed on top of those of then, by the people of then; the log and the view stay consistent."""
    older("access", "revoke", "testlab", "--even-if-nothing", "--reason", "a letter")
    asked = older("access", "grant", "otherlab", "--reason", "an agreement", "--json").json
    older("plan", "approve", asked["plan"], STILLHOUSE_KEYS=str(older.folder / "keys-bob"))
    older("plan", "execute", asked["plan"])
    assert [one["lab"] for one in older("access", "list", "--json").json["changes"]][-2:] == ["testlab", "otherlab"]
    checks = older("doctor", "--json", code=None).json["checks"]
    bad = [one for one in checks if one["state"] == "bad" and one["name"] != "models"]  # merged weights lay elsewhere
    assert not bad


def test_a_run_of_then_is_repeated(older):
    pytest.importorskip("peft")
    found = older("run", "--replay", "taught@1", "--json", code=None)
    # The weights were made on another machine, and may differ by more than two runs on one do.
    assert found.json["data_equal"], found.err


def test_passports_of_then_are_known_to_a_list_of_now(older):
    older("passport", "revoked", "--to", "list.json")
    ran = older("passport", "verify", "home/models/mixed-1/passport.json", "--revoked", "list.json", code=None)
    assert "does not name this passport" not in ran.err
