"""What an import leaves for ever: which records there were, of whom, in what; the same when their words are gone."""

import json

import pytest

RIVAL = (
    "--lab",
    "rival",
    "--model",
    "rival-1",
    "--channel",
    "official",
    "--terms",
    "licence/mit",
    "--day",
    "2026-01-01",
)


@pytest.fixture
def home(home):
    config = home.home / "config.toml"
    stores = f'key_stores = ["keys/erasure", "{home.folder / "stick"}"]'
    config.write_text(f"{config.read_text()}\n[custody]\n{stores}\n")
    return home


@pytest.fixture
def people(home):
    def run(who, *words, code=0):
        return home(*words, code=code, STILLHOUSE_KEYS=str(home.folder / f"keys-{who}"))

    run("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "custodian")
    run("bob", "identity", "request", "bob", "--to", home.folder / "bob.json")
    run("ada", "identity", "enrol", "bob", "--role", "approver", "--request", home.folder / "bob.json")
    return run


def rows(count):
    said = "words that stand in an answer of some length " * 6
    return [
        {"messages": [{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": f"{said} {n}"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 50}} for n in range(count)
    ]  # fmt: skip


def write(home, name, count):
    return home.write(name, "".join(json.dumps(row) + "\n" for row in rows(count)))


def reach(home):
    """Everything that is asked of records, datasets and their lineage."""
    change = ("access", "revoke", "rival", "--since", "2025-12-01", "--plan", "--json")
    impact = home(*change).json
    own = ("--origin", "human", "--terms", "organisation/own", "--plan", "--json")
    return {
        "impact": {name: impact[name] for name in ("records", "tokens", "datasets", "runs", "irreplaceable")},
        "lineage": home("lineage", "show", "dataset:a@1", "--json").json,
        "inventory": home("dataset", "inventory", "--json").json,
        "counts": home("status", "--json").json["counts"]["answers"],
        "policy": home("policy", "check", "a", "--use", "train", "--json", code=None).json,
        "recognised": home("dataset", "import", home.folder / "a.jsonl", "--name", "x", *own)
        .json["does"]
        .get("recognised"),
    }


def test_after_a_deletion(home):
    home("dataset", "import", write(home, "a.jsonl", 12), "--name", "a", *RIVAL)
    before = reach(home)
    assert (before["impact"]["records"], before["counts"]) == (12, 12)
    asked = home("delete", "plan", "dataset:a@1", "--reason", "a test", "--json").json
    home("plan", "execute", asked["plan"])
    assert "missing" in home("dataset", "export", "a", "out.jsonl", "--use", "store", code=4).err
    home("vault", "gc")
    assert reach(home) == before
    assert home("doctor", "--rebuild", "--json").json["rebuilt_from_entries"] and reach(home) == before
    assert "Nothing in the vault is kept for" in home("delete", "plan", "index:a@1", code=2).err


def test_after_an_erasure(home, people):
    home("dataset", "import", write(home, "a.jsonl", 12), "--name", "a", *RIVAL, "--erasable", "s1")
    before = reach(home)
    assert before["recognised"] == {"question and answer": 12}
    asked = people("ada", "delete", "erase", "s1", "--reason", "article 17", "--json").json
    people("bob", "plan", "approve", asked["plan"])
    people("ada", "plan", "execute", asked["plan"])
    home("vault", "gc")
    gone = {"recognised": None}  # whose words nobody can know again
    assert reach(home) == before | gone
    assert home("doctor", "--rebuild", "--json").json["rebuilt_from_entries"] and reach(home) == before | gone


def test_what_is_imported_twice_counts_once(home):
    path = write(home, "a.jsonl", 12)
    home("dataset", "import", path, "--name", "a", *RIVAL)
    before = reach(home)
    home("dataset", "import", path, "--name", "b", *RIVAL)
    home("dataset", "import", write(home, "c.jsonl", 15), "--name", "c", *RIVAL)
    after = reach(home)
    assert (after["counts"], after["impact"]["records"]) == (15, 15)
    assert after["lineage"] == before["lineage"]
    assert after["impact"]["runs"].keys() > before["impact"]["runs"].keys()
