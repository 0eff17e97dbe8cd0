"""Enrolment, approval by others, rotation, loss and recovery, as a user types them."""

import json

import pytest


@pytest.fixture
def people(home):
    """Each person with a keys folder of their own, as on machines of their own; returns how one of them runs a command."""

    def run(who, *words, code=0):
        return home(*words, code=code, STILLHOUSE_KEYS=str(home.folder / f"keys-{who}"))

    return run


def enrol_two(people, home, threshold=1):
    people("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "approver")
    people("bob", "identity", "request", "bob", "--to", home.folder / "bob.json")
    words = [
        "identity",
        "enrol",
        "bob",
        "--role",
        "governance",
        "--role",
        "approver",
        "--request",
        home.folder / "bob.json",
    ]
    return people("ada", *words, "--threshold", threshold, "--json")


def test_one_person_works_alone_and_is_told_what_that_means(people, home):
    assert "no roster" in home("identity", "list").out
    people("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "approver")
    found = people("ada", "identity", "list", "--json").json
    assert found["you_sign_as"] == "ada"
    assert len(found["advisory"]) == 3
    granted = people("ada", "access", "grant", "rival", "--json")
    assert granted.json["done"]
    assert "ADVISORY" in granted.err
    assert people("nobody", "access", "grant", "rival", code=3), "somebody without a key is not ada"


def test_a_private_key_never_lies_in_the_home(home):
    refused = home(
        "identity", "enrol", "ada", "--role", "governance", code=2, STILLHOUSE_KEYS=str(home.home / "keys" / "people")
    )
    assert "inside the home" in refused.err
    assert not list(home.home.rglob("ada.key"))


def test_a_grant_needs_a_second_person_and_their_yes_is_over_this_very_plan(people, home):
    enrol_two(people, home)
    waits = people("ada", "access", "grant", "rival", "--json").json
    assert (waits["done"], waits["waits_for"]) == (False, ["bob"])
    assert people("ada", "access", "list", "--json").json["changes"] == []
    assert "Others must approve" in people("ada", "plan", "execute", waits["plan"], code=3).err
    people("ada", "plan", "approve", waits["plan"])
    assert "Others must approve" in people("ada", "plan", "execute", waits["plan"], code=3).err, (
        "one's own yes is not another's"
    )
    other = people("ada", "access", "grant", "another", "--json").json
    people("bob", "plan", "approve", other["plan"])
    assert "Others must approve" in people("ada", "plan", "execute", waits["plan"], code=3).err
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert "executed already" in people("ada", "plan", "execute", waits["plan"], code=3).err
    changed = people("ada", "plan", "execute", other["plan"], code=3).err
    assert "has changed since" in changed, "what the second rested on is not what it was"
    shown = people("ada", "plan", "show", waits["plan"], "--json").json
    assert {signature["by"] for signature in shown["approvals"]} == {"ada", "bob"}
    assert shown["receipts"][-1]["signature"]["by"] == "ada"


def test_a_revocation_waits_for_nobody(people, home):
    enrol_two(people, home)
    assert people("ada", "access", "revoke", "rival", "--even-if-nothing", "--json").json["done"]
    people("cy", "identity", "request", "cy", "--to", home.folder / "cy.json")
    people("ada", "identity", "enrol", "cy", "--role", "engineer", "--request", home.folder / "cy.json")
    assert "answers for permission" in people("cy", "access", "revoke", "other", "--even-if-nothing", code=3).err


def test_a_threshold_changes_the_roster_and_one_cannot(people, home):
    waits = enrol_two(people, home, threshold=2).json
    assert not waits["done"], "the new threshold needs bob, too"
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert people("ada", "identity", "list", "--json").json["threshold"] == 2
    alone = people("ada", "identity", "drop", "bob", "--json").json
    assert not alone["done"]
    assert people("ada", "plan", "execute", alone["plan"], code=3)
    roles = ["--role", "program", "--role", "approver"]
    assert "never approve" in people("ada", "identity", "enrol", "ci", *roles, code=2).err


def test_a_key_is_rotated_and_the_old_one_signs_nothing_any_more(people, home):
    people("ada", "identity", "enrol", "ada", "--role", "governance")
    first = people("ada", "access", "revoke", "rival", "--even-if-nothing", "--json").json["change"]["id"]
    old = (home.folder / "keys-ada" / "ada.key").read_bytes()
    people("ada", "identity", "rotate", "ada")
    assert people("ada", "identity", "list", "--json").json["you_sign_as"] == "ada"
    assert people("ada", "access", "list", "--json").json["changes"][0]["id"] == first, "what it signed stays signed"
    people("ada", "access", "revoke", "other", "--even-if-nothing")
    thief = home.folder / "keys-thief"
    thief.mkdir()
    (thief / "ada.key").write_bytes(old)
    (thief / "ada.key").chmod(0o600)
    assert "answers for permission" in people("thief", "access", "revoke", "third", "--even-if-nothing", code=3).err
    assert (
        "not the one that the roster has"
        in home(
            "access",
            "revoke",
            "third",
            "--even-if-nothing",
            code=3,
            STILLHOUSE_KEYS=str(thief),
            STILLHOUSE_IDENTITY="ada",
        ).err
    )


def test_lost_keys_are_replaced_by_the_recovery_key(people, home):
    recovery = home.folder / "away" / "recovery.key"
    people("ada", "identity", "enrol", "ada", "--role", "governance", "--recovery", recovery)
    (home.folder / "keys-ada" / "ada.key").unlink()
    assert people("ada", "access", "revoke", "rival", "--even-if-nothing", code=3)
    people("new", "identity", "request", "ada", "--to", home.folder / "again.json")
    words = ["identity", "rotate", "ada", "--request", home.folder / "again.json", "--recovery"]
    wrong = home.folder / "keys-new" / "ada.key"
    assert "not the recovery key" in people("new", *words, wrong, code=3).err
    waits = people("new", *words, recovery, "--json").json
    if not waits["done"]:
        people("new", "plan", "approve", waits["plan"])
        people("new", "plan", "execute", waits["plan"])
    assert people("new", "access", "revoke", "rival", "--even-if-nothing", "--json").json["done"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "eve"}, "does not prove"),
        ({"key": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"}, "not a public key"),
        ({"signature": {"by": "bob", "key": "x", "roster": 0, "value": "AAAA"}}, "does not prove"),
        ({"more": 1, "signature": None}, "no request"),
    ],
)
def test_a_request_must_prove_who_holds_the_key(people, home, change, said):
    people("ada", "identity", "enrol", "ada", "--role", "governance")
    people("bob", "identity", "request", "bob", "--to", home.folder / "bob.json")
    request = json.loads((home.folder / "bob.json").read_text()) | change
    (home.folder / "bob.json").write_text(json.dumps(request))
    name = change.get("name", "bob")
    words = ["identity", "enrol", name if name == "bob" else "bob", "--role", "engineer"]
    assert said in people("ada", *words, "--request", home.folder / "bob.json", code=None).err


def test_a_passphrase_protects_a_key_and_stands_nowhere(home):
    keys = {"STILLHOUSE_KEYS": str(home.folder / "keys"), "STILLHOUSE_KEY_PASSPHRASE": "correct horse battery"}
    home("identity", "enrol", "ada", "--role", "governance", **keys)
    assert b"ENCRYPTED" in (home.folder / "keys" / "ada.key").read_bytes()
    home("access", "revoke", "rival", "--even-if-nothing", **keys)
    wrong = {**keys, "STILLHOUSE_KEY_PASSPHRASE": "wrong", "STILLHOUSE_IDENTITY": "ada"}
    assert (
        "no private key that can be used" in home("access", "revoke", "other", "--even-if-nothing", code=1, **wrong).err
    )
    for file in home.folder.rglob("*"):
        if file.is_file():
            assert b"correct horse" not in file.read_bytes(), file


def test_whoever_of_two_executes_the_home_stays_usable(people, home):
    """Ada proposes, Bob approves and executes; Bob answers for permission himself."""
    enrol_two(people, home)
    people("cy", "identity", "request", "cy", "--to", home.folder / "cy.json")
    people("ada", "identity", "enrol", "cy", "--role", "approver", "--request", home.folder / "cy.json")
    plan = people("ada", "access", "grant", "rival", "--json").json["plan"]
    people("bob", "plan", "approve", plan)
    people("bob", "plan", "execute", plan)
    for who in ("ada", "bob", "cy"):
        assert people(who, "access", "list", "--json").json["changes"][0]["signed_by"] == "ada"


def test_a_rotation_that_waits_locks_nobody_out_and_loses_no_key(people, home):
    waits = enrol_two(people, home, threshold=2).json
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    enrolled = (home.folder / "keys-ada" / "ada.key").read_bytes()
    people("ada", "identity", "rotate", "ada")
    people("ada", "access", "revoke", "rival", "--even-if-nothing")
    plan = people("ada", "identity", "rotate", "ada", "--json").json
    assert plan["waits_for"] == ["bob"]
    assert (home.folder / "keys-ada" / "ada.key").read_bytes() == enrolled, (
        "until the roster has changed, it is the key"
    )
    people("bob", "plan", "approve", plan["plan"])
    people("bob", "plan", "execute", plan["plan"])
    assert people("ada", "access", "revoke", "other", "--even-if-nothing", "--json").json["done"]
    again = people("ada", "identity", "rotate", "ada", "--json").json
    people("bob", "plan", "approve", again["plan"])
    people("bob", "plan", "execute", again["plan"])
    assert people("ada", "access", "revoke", "third", "--even-if-nothing", "--json").json["done"]


def test_a_yes_to_a_roster_is_no_yes_to_another_plan_for_the_same(people, home):
    waits = enrol_two(people, home, threshold=2).json
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    people("mal", "identity", "request", "mal", "--to", home.folder / "mal.json")
    words = ["identity", "enrol", "mal", "--role", "engineer", "--request", home.folder / "mal.json", "--json"]
    first = people("ada", *words).json
    second = people("bob", *words).json
    assert second["plan"] != first["plan"]
    assert "Others must approve" in people("bob", "plan", "execute", second["plan"], code=3).err


def test_the_second_who_answers_for_permission_makes_the_threshold_two(people, home):
    """Unless another one is named on purpose; a third changes nothing."""
    people("ada", "identity", "enrol", "ada", "--role", "governance")
    for who in ("bob", "cy"):
        people(who, "identity", "request", who, "--to", home.folder / f"{who}.json")
    words = ["identity", "enrol", "bob", "--role", "governance", "--request", home.folder / "bob.json", "--json"]
    waits = people("ada", *words).json
    assert waits["waits_for"] == ["bob"]
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert people("ada", "identity", "list", "--json").json["threshold"] == 2
    words = ["identity", "enrol", "cy", "--role", "governance", "--request", home.folder / "cy.json", "--json"]
    assert (
        "threshold"
        not in people("ada", "plan", "show", people("ada", *words).json["plan"], "--json").out.split("what")[1]
    )


def test_one_person_with_two_keys_is_no_second_person(people, home):
    people("ada", "identity", "enrol", "ada", "--role", "governance")
    people("ada", "identity", "enrol", "other", "--role", "approver")
    said = "the keys of ada and other are all in"
    assert said in people("ada", "status").out
    assert any(said in line for line in people("ada", "identity", "list", "--json").json["advisory"])
    assert said not in people("bob", "status").out
