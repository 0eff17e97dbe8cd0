"""What was revoked since a passport was written: asked of the home, of the file, and of the list that a home publishes."""

import base64
import json
import shutil

import pytest

import stillhouse
from stillhouse.clock import now
from stillhouse.home.facts import PassportWritten
from stillhouse.passport.verify_passport import read_statement
from stillhouse.passport.write_passport import write_passport
from tests.acceptance.test_access import import_rival, mixed_recipe, revoke, rows
from tests.acceptance.test_student import RIGHT, add_local
from tests.conftest import Cli


@pytest.fixture(scope="module")
def revoked_home(tmp_path_factory, tiny_model):
    """A model of two sources, its passport and a list of before; then one source is revoked, and a list of after."""
    pytest.importorskip("peft")
    home = Cli(tmp_path_factory.mktemp("status"))
    home("init")
    home.prompts(4)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(4)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "february.jsonl", 100, 3), "february", "2026-02-05")
    assert home("passport", "status", "--json").json == []
    assert "passport write" in home("passport", "revoked", "--to", home.folder / "none.json", code=2).err
    home("run", mixed_recipe(home, "mixed", ["february"]), "--json")
    (home.home / "models" / "mixed-1" / "passport.json").rename(home.folder / "given.json")
    assert [one["revoked_since"] for one in home("passport", "status", "--json").json] == [[]]
    assert verified(home, home.folder / "given.json")["revoked_since"] == []
    assert home("passport", "revoked", "--to", home.folder / "before.json", "--json").json["revoked"] == 0
    revoke(home)
    assert home("passport", "revoked", "--to", home.folder / "after.json", "--json").json["revoked"] == 1
    return home


@pytest.fixture
def stranger(tmp_path):
    """Somebody with the passport, the weights and no home."""
    return Cli(tmp_path)


def verified(home, passport, *words, code=0, model=None):
    files = model or home.home / "models" / "mixed-1"
    return home("passport", "verify", passport, "--files", files, *words, "--json", code=code).json


def test_the_home_says_which_passports_and_why(revoked_home):
    [found] = revoked_home("passport", "status", "--json").json
    assert found["model"] == "mixed@1" and "train" in found["uses"]
    assert len(found["revoked_since"]) == 1 and "rival revoked access since 2026-01-15" in found["revoked_since"][0]
    assert "revoked since" in revoked_home("passport", "status").out
    assert revoked_home("passport", "status", revoked_home.folder / "given.json", "--json", code=3).json == [found]


def test_verifying_where_there_is_a_home_says_so_too(revoked_home):
    found = verified(revoked_home, revoked_home.folder / "given.json")
    assert found["result"] == "trusted" and "rival" in found["revoked_since"][0]


def test_the_list_tells_whoever_has_no_home(revoked_home, stranger):
    given, model = revoked_home.folder / "given.json", revoked_home.home / "models" / "mixed-1"
    assert verified(stranger, given, model=model)["revoked_since"] is None, "nobody was asked"
    words = ("--revoked", revoked_home.folder / "before.json")
    assert verified(stranger, given, *words, model=model)["revoked_since"] == []
    words = ("--revoked", revoked_home.folder / "after.json")
    assert "rival" in verified(stranger, given, *words, model=model, code=3)["revoked_since"][0]


def test_a_passport_that_was_formatted_again_is_the_same_one(revoked_home, stranger, tmp_path):
    envelope = json.loads((revoked_home.folder / "given.json").read_text())
    envelope["signatures"].insert(0, {"keyid": "another", "sig": "AAAA"})
    (again := tmp_path / "again.json").write_text(json.dumps(envelope))
    words = ("--revoked", revoked_home.folder / "after.json")
    assert verified(stranger, again, *words, model=revoked_home.home / "models" / "mixed-1", code=3)["revoked_since"]


def test_a_list_that_was_changed_or_is_a_strangers_is_refused(revoked_home, stranger, tmp_path):
    given, model = revoked_home.folder / "given.json", revoked_home.home / "models" / "mixed-1"

    def said(published, *words, code):
        words = ("--files", model, "--revoked", published, *words)
        return stranger("passport", "verify", given, *words, code=code).err

    envelope = json.loads((revoked_home.folder / "after.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["revoked"] = []
    changed = {**envelope, "payload": base64.b64encode(json.dumps(statement).encode()).decode()}
    (forged := tmp_path / "forged.json").write_text(json.dumps(changed))
    assert "was changed" in said(forged, code=4)
    assert "no list of revoked passports" in said(given, code=4)
    assert "no list of revoked passports" in said(stranger.write("x.json", "{}"), code=4)
    assert "cannot be read" in said(tmp_path / "nowhere.json", code=2)
    from stillhouse.passport.revoked_since import PassportStatus, publish
    from stillhouse.permission.signatures import Signatory
    from stillhouse.permission.signing_keys import home_signer

    other = home_signer(tmp_path / "other-keys")
    (theirs := tmp_path / "theirs.json").write_bytes(
        publish([PassportStatus(model="m@1", digest="blake3:00", written="2026-01-01T00:00:00Z")],
                Signatory("home", other, 0), "2026-01-02T00:00:00Z")
    )  # fmt: skip
    assert "not by the passport's signer" in said(theirs, code=4)
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "theirs.pub").write_text(other.public.pem)
    assert "does not name this passport" in said(theirs, "--trust", trust, code=3)


def test_a_changed_passport_has_no_status(revoked_home, tmp_path):
    envelope = json.loads((revoked_home.folder / "given.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["origins"] = []
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (changed := tmp_path / "changed.json").write_text(json.dumps(envelope))
    assert "was changed" in revoked_home("passport", "status", changed, code=4).err
    assert "is no passport" in revoked_home("passport", "status", revoked_home.folder / "after.json", code=2).err


def test_another_home_judges_a_passport_by_the_origins_that_it_names(revoked_home, tmp_path):
    other = Cli(tmp_path)
    other("init")
    given = revoked_home.folder / "given.json"
    assert other("passport", "status", given, "--json").json[0]["revoked_since"] == []
    revoke(other)
    assert "rival" in other("passport", "status", given, "--json", code=3).json[0]["revoked_since"][0]


def test_one_that_is_written_again_says_it_itself_and_a_reversal_ends_it(revoked_home, tmp_path):
    shutil.copytree(revoked_home.home, tmp_path / "home", symlinks=True)
    home, again = Cli(tmp_path), tmp_path / "again.json"
    home("passport", "write", "mixed", "--to", again)
    assert verified(home, again)["result"] == "trusted"
    home("passport", "write", "mixed")
    assert verified(home, again)["result"] == "trusted", "another one beside the weights does not matter"
    assert home("passport", "status", again, "--json").json[0]["revoked_since"] == []
    assert [bool(one["revoked_since"]) for one in home("passport", "status", "--json").json] == [True, False, False]
    [change] = home("access", "list", "--json").json["changes"]
    home("access", "revoke", "rival", "--reverses", change["id"], "--reason", "their letter of 1 March")
    assert not any(one["revoked_since"] for one in home("passport", "status", "--json").json)


def test_a_passport_has_what_others_revoked_while_the_home_was_open(revoked_home, tmp_path):
    shutil.copytree(revoked_home.home, tmp_path / "home", symlinks=True)
    cli, path = Cli(tmp_path), tmp_path / "late.json"
    with stillhouse.open(cli.home) as home:
        cli("access", "revoke", "testlab", "--reason", "their letter of today")
        write_passport(home, "mixed@1", path)
    assert {change["lab"] for change in read_statement(path)["predicate"]["revocations"]} == {"rival", "testlab"}
    assert not cli("passport", "status", path, "--json").json[0]["revoked_since"]


def test_a_passport_of_a_model_that_the_ledger_has_not_costs_no_other_its_status(revoked_home, tmp_path):
    shutil.copytree(revoked_home.home, tmp_path / "home", symlinks=True)
    cli = Cli(tmp_path)
    with stillhouse.open(cli.home) as home:
        home.recorder.record(
            PassportWritten(at=now(), by=home.recorder.by, model="gone@1", digest="blake3:00", signer="sha256:00")
        )
    known, unknown = cli("passport", "status", "--json").json
    assert "rival" in known["revoked_since"][0] and "not in the ledger" in unknown["revoked_since"][0]
