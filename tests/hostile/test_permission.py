"""Permission under attack: a ledger edited by hand, entries taken out, a log cut at its tail, approvals played again."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from stillhouse.clock import utc_now
from tests.views import edit


@pytest.fixture
def governed(home):
    """A home with two people, a revocation and a grant that the second one approved."""
    ada, bob = ({"STILLHOUSE_KEYS": str(home.folder / f"keys-{who}")} for who in ("ada", "bob"))
    home("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **ada)
    home("identity", "request", "bob", "--to", home.folder / "bob.json", **bob)
    words = ["identity", "enrol", "bob", "--role", "approver", "--request", home.folder / "bob.json"]
    home(*words, **ada)
    home("access", "revoke", "rival", "--even-if-nothing", "--since", "2026-01-15", **ada)
    plan = home("access", "grant", "other", "--json", **ada).json["plan"]
    home("plan", "approve", plan, **bob)
    home("plan", "execute", plan, **ada)
    home.ada, home.bob = ada, bob
    return home


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE acts SET content = replace(content, 'rival', 'nobody')",
        "UPDATE acts SET content = replace(content, '2026-01-15', '2029-01-15')",
        "DELETE FROM acts WHERE content LIKE '%rival%'",
        'UPDATE acts SET signatures = replace(signatures, \'"by":"ada"\', \'"by":"bob"\')',
        "UPDATE acts SET plan = 'blake3:00' WHERE kind = 'AccessChange'",
        "UPDATE acts SET content = replace(content, '\"bob\"', '\"eve\"')",
        "UPDATE acts SET signatures = '[]' WHERE content LIKE '%\"version\":2%'",
        "DELETE FROM acts WHERE content LIKE '%\"version\":1%'",
        "UPDATE acts SET signatures = '[]' WHERE kind = 'AccessChange'",
        "UPDATE acts SET previous = '' WHERE content LIKE '%other%'",
        "DELETE FROM acts WHERE content LIKE '%other%'",
        "DELETE FROM acts WHERE kind = 'Roster'",
        "UPDATE acts SET kind = 'Waiver' WHERE kind = 'AccessChange'",
        "UPDATE acts SET kind = 'Roster' WHERE kind = 'AccessChange'",
        "UPDATE acts SET content = 'x' WHERE kind = 'AccessChange'",
        "UPDATE acts SET signatures = '{}' WHERE kind = 'AccessChange'",
    ],
)
def test_a_ledger_that_was_edited_by_hand_decides_nothing(governed, statement):
    home = governed
    edit(home.home, statement)
    assert home("vault", "list", "--json").json == [], "what needs no decision goes on"
    refused = home("access", "list", code=4)
    assert "not signed by whom it names" in refused.err
    assert home("access", "gate", "x", code=4)
    home("doctor", "--rebuild", code=None)
    home("access", "list")


def test_without_the_remembered_head_a_missing_end_is_found_by_comparing_with_the_log(governed):
    edit(governed.home, "DELETE FROM acts WHERE content LIKE '%other%'")
    (governed.home / "permission.head").unlink()
    assert "acts: " in governed("doctor", code=4).out


def test_a_log_cut_at_the_tail_is_found_where_a_checkpoint_is_kept_elsewhere(cli):
    cli.folder.joinpath("elsewhere").mkdir()
    cli("init")
    (cli.home / "config.toml").write_text(f'[log]\ncheckpoints = "{cli.folder / "elsewhere"}"\n')
    cli("access", "revoke", "rival", "--even-if-nothing")
    cli("access", "revoke", "other", "--even-if-nothing")
    for segment in sorted((cli.home / "log").rglob("*")):
        if segment.is_file() and segment.stat().st_size > 200:
            data = segment.read_bytes()
            segment.write_bytes(data[: len(data) - len(data) // 3])
    cut = cli("doctor", code=None)
    assert cut.code == 4, cut.out


FORGE = """
import sys
from pathlib import Path

import msgspec

from stillhouse.home import facts
import stillhouse
from stillhouse.home.current_permission import load, own_signatory
from stillhouse.permission.chain import KIND, statement
from stillhouse.home.ledger import permission_queries
from stillhouse.nouns import AccessChange
from stillhouse.home.recorder import now
from stillhouse.home.settings import read_settings
from tests.views import edit

kind, how = sys.argv[2:]
with stillhouse.open(sys.argv[1]) as home:
    head = load(home.ledger, home.settings).state.head
    old = next(a.entry for a in permission_queries.acts(home.ledger) if getattr(a.entry.content, "kind", "") == "grant")
    change = AccessChange(id="forged", kind=kind, lab="rival")
    signed = (own_signatory(home.ledger, home.settings).sign(KIND, statement(change, old.plan, head)),)
    given = {"at": now(), "by": "x", "change": change, "plan": old.plan, "previous": head, "signatures": signed}
    if how == "played again":
        given |= {"change": old.content, "signatures": old.signatures}
    if how == "with old approvals":
        given |= {"signatures": (*signed, *old.signatures)}
    if how == "dated back":
        given |= {"at": "2020-01-01T00:00:00.000Z"}
    home.recorder.record(facts.AccessChanged(**given))
"""


@pytest.mark.parametrize(
    ("who", "kind", "how"),
    [
        ("ada", "grant", "alone"),
        ("ada", "grant", "with old approvals"),
        ("bob", "revoke", "alone"),
        ("", "grant", "alone"),
        ("", "grant", "dated back"),
        ("", "grant", "played again"),
        ("ada", "grant", "played again"),
    ],
)
def test_an_entry_that_goes_round_the_commands_counts_for_nothing(governed, who, kind, how):
    """With the governance key and no second yes, or one to something else; by an approver; with the home's own key; with none."""
    environment = {**os.environ, **(getattr(governed, who) if who else {"STILLHOUSE_KEYS": "/nowhere"})}
    subprocess.run([sys.executable, "-c", FORGE, str(governed.home), kind, how], check=True, env=environment)
    assert "not signed by whom it names" in governed("access", "list", code=4).err


def test_a_rule_that_cannot_be_decided_stops_everything(home, serve):
    server = serve()
    home.prompts(2)
    home.add_mock(server.url)
    row = {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    file = home.write("t.jsonl", json.dumps(row) + "\n")
    home(
        "dataset", "import", file, "--name", "t", "--lab", "testlab", "--channel", "official", "--terms", "licence/mit"
    )
    (home.home / "policy.toml").write_text(
        '[[rule]]\nname = "x"\neffect = "forbid"\nwhen = "stamp.lab == "\nreason = "r"\nowner = "o"\n'
    )
    for words in (("collect", home.recipe()), ("policy", "rules"), ("status",)):
        assert "rule of the organisation" in home(*words, code=2).err
    assert not server.requests
    (home.home / "policy.toml").write_text(
        '[[rule]]\nname = "no-testlab"\neffect = "forbid"\nwhen = \'stamp.lab == "testlab"\'\nreason = "not now"\nowner = "ada"\n'
        '[[rule.test]]\nuse = "train"\nmatches = true\nstamp = { lab = "testlab" }\n'
        '[[rule.test]]\nuse = "train"\nmatches = false\nstamp = { lab = "x" }\n'
    )
    assert "not now" in home("collect", home.recipe(), code=3).err
    assert home("policy", "rules", "--json").json[0]["note"] == "matches everything"
    text = (home.home / "policy.toml").read_text()
    (home.home / "policy.toml").write_text(text.replace("testlab", "nobody-here"))
    assert home("policy", "rules", "--json").json[0]["note"] == "matches nothing in this home"


def test_a_waiver_is_a_signed_plan_with_an_end(governed):
    home = governed
    words = ["policy", "waive", "--use", "train", "--owner", "ada", "--reason", "we asked them", "--json"]
    assert "is over already" in home(*words, "--lab", "x", "--expires", "2020-01-01", code=2, **home.ada).err
    assert "not a date" in home(*words, "--lab", "x", "--expires", "soon", code=2, **home.ada).err
    end = (utc_now().date() + timedelta(days=300)).isoformat()
    assert "not for everything" in home(*words, "--expires", end, code=2, **home.ada).err
    assert "is the latest" in home(*words, "--lab", "x", "--expires", "2099-01-01", code=2, **home.ada).err
    nobody = [word if word != "ada" else "the platform team" for word in words]
    assert "not on the roster" in home(*nobody, "--lab", "x", "--expires", end, code=2, **home.ada).err
    waits = home(*words, "--lab", "zhipu", "--expires", end, **home.ada).json
    assert waits["waits_for"] == ["bob"]
    home("plan", "approve", waits["plan"], **home.bob)
    home("plan", "execute", waits["plan"], **home.ada)
    row = {"model": "glm", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    file = home.write("z.jsonl", json.dumps(row) + "\n")
    home("dataset", "import", file, "--name", "z", "--lab", "zhipu", "--channel", "official", "--day", "2026-05-01")
    found = home("policy", "check", "z", "--use", "train", "--json").json
    assert found["allowed"] == 1
    assert len(found["waivers"]) == 1
    assert f"WAIVED by ada until {end}" in found["reasons"][0]
    assert "WAIVED" in home("access", "gate", "z").out


def test_a_home_whose_key_is_lost_writes_nothing_that_it_could_not_read_again(home):
    home("access", "revoke", "rival", "--even-if-nothing")
    (home.home / "keys" / "home.key").unlink()
    assert "is gone" in home("access", "revoke", "other", "--even-if-nothing", code=1).err
    assert [one["lab"] for one in home("access", "list", "--json").json["changes"]] == ["rival"]
    home("status")


def test_somebody_who_writes_meanwhile_is_no_forger(governed):
    """A reader that has read the head, and then an act more than it knew of."""
    code = (
        "import sys\nfrom pathlib import Path\nimport stillhouse\nfrom stillhouse.home import current_permission\n"
        "from stillhouse.home.settings import read_settings\n"
        "with stillhouse.open(sys.argv[1]) as home:\n"
        "    real, calls = current_permission.permission_queries.acts, []\n"
        "    def acts(ledger):\n"
        "        calls.append(1)\n"
        "        found = real(ledger)\n"
        "        return found[:-1] if len(calls) == 1 else found\n"
        "    current_permission.permission_queries.acts = acts\n"
        "    print(len(current_permission.load(home.ledger, home.settings).acts))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(governed.home)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "5", done.stderr
