"""What decides is signed: where there is a roster, a file or a registration that nobody signed opens nothing."""

import json
import os
from datetime import timedelta

import pytest

from stillhouse.clock import now, utc_now
from stillhouse.home import facts
from stillhouse.home.current_permission import load, own_signatory
from stillhouse.home.ledger import origin_queries
from stillhouse.nouns import Channel, PolicyAdoption, Teacher, TeacherKind
from stillhouse.permission.chain import KIND, statement
from tests.acceptance.test_custody import people  # noqa: F401
from tests.hostile.test_what_may_go import inside, record

RULE = """
[[rule]]
name = "our-account"
effect = "permit"
when = 'stamp.channel == "personal"'
reason = "it is ours"
owner = "eve"
[[rule.test]]
use = "train"
matches = true
stamp = { channel = "personal" }
[[rule.test]]
use = "train"
matches = false
stamp = { channel = "official" }
"""
TERMS = """
[[version]]
service = "Acme"
document = "Terms"
verdict = "allow"
summary = "anything goes"
effective = "2020-01-01"
confidence = "read"
source = "their site"
"""
PRICE = '[[price]]\nlab = "testlab"\nmodel = "priced"\nsince = "2020-01-01"\nprice_in = "1"\nprice_out = "1"\nsource = "x"\n'
FIELDS = {"channel": Channel.OPEN_WEIGHTS, "terms": ("licence/mit",), "base_url": "http://127.0.0.1:9"}
# A draft of each kind, and the rows that it would open a door for.
DRAFTS = {
    "policy.toml": (RULE, {"lab": "testlab", "channel": "personal", "terms": "licence/mit"}),
    "terms/acme.toml": (TERMS, {"lab": "testlab", "channel": "official", "terms": "Acme/Terms"}),
    "config.toml": (
        "[organisation]\ncompetes_with = []\n",
        {"lab": "openai", "channel": "official", "terms": "ChatGPT/Commercial Terms"},
    ),
}


def write(home, name, text):
    path = home.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def imported(home, how):
    row = {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    file = home.write("rows.jsonl", json.dumps(row) + "\n")
    words = [word for name, value in how.items() for word in (f"--{name}", value)]
    home("dataset", "import", file, "--name", "rows", "--day", "2026-07-20", *words)


def allowed(home):
    return home("policy", "check", "rows", "--use", "train", "--json", code=None).json["allowed"]


@pytest.mark.parametrize("name", DRAFTS)
def test_a_file_opens_nothing_until_it_is_adopted(home, people, name):  # noqa: F811
    text, how = DRAFTS[name]
    imported(home, how)
    assert allowed(home) == 0
    before = (home.home / name).read_text() if (home.home / name).exists() else ""
    write(home, name, text)
    assert allowed(home) == 0, "whoever can write files decides nothing"
    said = "organisation.json is changed" if name == "config.toml" else f"{name} is new"
    assert home("status", "--json").json["policy"] == {"adopted": True, "drafts": [said]}
    assert f"DRAFT        {said}" in home("status").out
    check = next(one for one in home("doctor", "--json", code=None).json["checks"] if one["name"] == "policy")
    assert check["state"] == "note"
    assert said in check["detail"]
    for who in ("bob", "eve"):
        assert people(who, "policy", "adopt", code=3)
    waits = people("ada", "policy", "adopt", "--json").json
    assert waits["waits_for"] == ["bob"]
    assert allowed(home) == 0
    shown = people("bob", "plan", "show", waits["plan"], "--json").json["recomputed"]
    assert shown["what"] == [said]
    assert any(line.startswith("+") for line in next(iter(shown["documents"].values())))
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert allowed(home) == 1
    assert home("status", "--json").json["policy"]["drafts"] == []
    write(home, name, before)
    assert allowed(home) == 1, "what was adopted decides, whatever becomes of the file"


def test_without_a_roster_files_decide_and_the_first_member_adopts_them(home):
    write(home, "terms/acme.toml", TERMS)
    imported(home, DRAFTS["terms/acme.toml"][1])
    assert allowed(home) == 1
    assert "no roster" in home("policy", "adopt", code=2).err
    keys = {"STILLHOUSE_KEYS": str(home.folder / "keys-ada")}
    write(home, "policy.toml", "[[rule]]\n")
    assert "policy.toml" in home("identity", "enrol", "ada", "--role", "governance", code=2, **keys).err
    assert home("identity", "list", "--json").json["members"] == [], "a roster begins with what can be relied on"
    (home.home / "policy.toml").unlink()
    home("identity", "enrol", "ada", "--role", "governance", **keys)
    (home.home / "terms" / "acme.toml").unlink()
    assert allowed(home) == 1
    assert "terms/acme.toml is removed" in home("status").out
    assert "removed" in home("policy", "adopt", "--plan", **keys).out
    assert allowed(home) == 1, "a plan does nothing"
    assert home("policy", "adopt", "--json", **keys).json["done"]
    assert allowed(home) == 0
    assert "as they were adopted" in home("policy", "adopt", **keys).out


def test_prices_count_as_they_were_adopted(home, people):  # noqa: F811
    write(home, "prices.toml", PRICE)
    words = ["teacher", "add", "t", "--kind", "openai", "--model", "priced", "--lab", "testlab", "--channel"]
    words += ["open-weights", "--terms", "licence/mit", "--base-url", "http://127.0.0.1:9"]
    assert "has no price" in people("ada", *words, code=2).err


def test_a_teacher_is_registered_by_who_answers_for_it(home, people, serve):  # noqa: F811
    server = serve()
    words = ["teacher", "add", "mock", "--kind", "openai", "--model", "m", "--lab", "testlab", "--channel"]
    words += ["open-weights", "--terms", "licence/mit", "--base-url", server.url, "--unmetered"]
    for who in ("bob", "eve"):
        assert "answers for permission" in people(who, *words, code=3).err
    waits = people("ada", *words, "--json").json
    assert waits["waits_for"] == ["bob"]
    home.prompts(1)
    assert "No teacher" in home("collect", home.recipe(), code=2).err
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert home("collect", home.recipe(), "--json").json["answers"] == 1
    assert people("eve", *words).out.startswith("registered"), "what is registered already needs nobody"


def test_a_registration_that_nobody_signed_is_a_draft(home, people, serve):  # noqa: F811
    """As an older version writes it, or somebody who goes past the commands. An adoption of files takes none of them along."""
    server = serve()
    fields = {"model": "m", "lab": "testlab", "channel": Channel.OPEN_WEIGHTS, "terms": ("licence/mit",)}
    teacher = Teacher(name="mock", kind=TeacherKind.OPENAI, base_url=server.url, **fields)
    record(home, (facts.TeacherRegistered, {"teacher": teacher}))
    home.prompts(1)
    assert "is a draft" in home("collect", home.recipe(), code=2).err
    assert "teacher mock was registered without a signature" in home("status").out
    assert "as they were adopted" in people("ada", "policy", "adopt").out
    words = [
        "teacher",
        "add",
        "mock",
        "--kind",
        "openai",
        "--model",
        "m",
        "--lab",
        "testlab",
        "--channel",
        "open-weights",
    ]
    words += ["--terms", "licence/mit", "--base-url", server.url, "--unmetered", "--json"]
    waits = people("ada", *words).json["plan"]
    assert people("bob", "plan", "show", waits, "--json").json["recomputed"]["teacher"]["lab"] == "testlab"
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    assert home("collect", home.recipe(), "--json").json["answers"] == 1
    for other in (
        Teacher(name="mock", kind=TeacherKind.OPENAI, base_url="http://127.0.0.1:9", **fields),
        Teacher(name="mock", kind=TeacherKind.OPENAI, base_url=server.url, **fields | {"terms": ("organisation/own",)}),
    ):
        record(home, (facts.TeacherRegistered, {"teacher": other}))
        with inside(home) as app:
            assert origin_queries.teacher(app.ledger, "mock") == teacher, "the last one that was signed counts"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (facts.PolicyAdopted, {"adoption": PolicyAdoption(documents={}, teachers=())}),
        (facts.TeacherApproved, {"teacher": Teacher(name="t", kind=TeacherKind.OPENAI, model="m", lab="x", **FIELDS)}),
    ],
)
@pytest.mark.parametrize("who", ["ada", "eve"])
def test_an_act_without_every_signature_shuts_every_door(home, people, kind, content, who):  # noqa: F811
    """By the home's key, or by who may ask for it and nobody else."""
    with inside(home, who) as app:
        head = load(app.ledger, app.settings).state.head
        signed = own_signatory(app.ledger, app.settings).sign(KIND, statement(*content.values(), "blake3:0", head))
        app.recorder.record(kind(at=now(), by="x", plan="blake3:0", previous=head, signatures=(signed,), **content))
    assert "not signed by whom it names" in home("teacher", "list", code=None).err + home("policy", "rules", code=4).err


def test_what_the_server_takes_and_where_weights_lie_need_no_signature(home, people, serve):  # noqa: F811
    home_words = ["teacher", "add", "mock", "--kind", "openai", "--model", "m", "--lab", "testlab", "--channel"]
    home_words += ["open-weights", "--terms", "licence/mit", "--base-url", serve().url, "--unmetered"]
    waits = people("ada", *home_words, "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    people("eve", *home_words, "--rejects", "seed")
    assert home("teacher", "list", "--json").json[0]["rejects"] == ["seed"]


def test_a_document_that_is_lost_shuts_every_door(home, people):  # noqa: F811
    imported(home, DRAFTS["policy.toml"][1])
    write(home, "policy.toml", RULE)
    waits = people("ada", "policy", "adopt", "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    assert allowed(home) == 1
    with inside(home) as app:
        digest = app.objects.put(RULE.encode())
    for path in (home.home / "objects").rglob(f"*{digest.partition(':')[2]}*"):
        path.chmod(0o600)
        path.unlink()
    assert (
        "policy.toml, as it was adopted, cannot be read"
        in home("policy", "check", "rows", "--use", "train", code=4).err
    )
    assert home("vault", "list", "--json").json == [], "what needs no decision goes on"
    bad = {one["name"] for one in home("doctor", "--json", code=4).json["checks"] if one["state"] == "bad"}
    assert "policy" in bad
    assert people("ada", "access", "revoke", "testlab", "--reason", "x", "--json").json["done"], (
        "who restricts needs none"
    )
    assert people("ada", "access", "grant", "other", code=4)
    write(home, "policy.toml", RULE)
    assert "as they were adopted" in people("ada", "policy", "adopt").out, "the same file brings it back"
    assert allowed(home) == 0, "and the revocation counts"


def test_what_an_adoption_names_is_never_collected(home, people):  # noqa: F811
    write(home, "policy.toml", RULE)
    waits = people("ada", "policy", "adopt", "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    (home.home / "policy.toml").unlink()
    people("ada", "vault", "gc", code=None)
    assert home("policy", "rules", "--json").json[0]["name"] == "our-account"


def test_a_home_from_before_decides_as_it_did_until_it_is_adopted(tmp_path):
    import time_machine

    from tests.older_homes import MOMENT, unpacked

    with time_machine.travel(MOMENT["home-1"], tick=True):
        older = unpacked("home-1", tmp_path)
        before = older("policy", "explain", "mock", "--json").json
        standing = older("status", "--json").json["policy"]
        assert not standing["adopted"]
        assert "organisation.json decides, and nobody signed it" in standing["drafts"]
        assert "teacher mock decides, and nobody signed it" in standing["drafts"]
        waits = older("policy", "adopt", "--json").json
        what = older("plan", "show", waits["plan"], "--json").json["recomputed"]["what"]
        assert any(
            line.startswith("teacher mock: m of testlab, open-weights, licence/apache-2.0, http") for line in what
        )
        older("plan", "approve", waits["plan"], STILLHOUSE_KEYS=str(older.folder / "keys-bob"))
        older("plan", "execute", waits["plan"])
        assert older("status", "--json").json["policy"] == {"adopted": True, "drafts": []}
        assert older("policy", "explain", "mock", "--json").json == before
        assert older("policy", "explain", "taught@1", "--json", code=None).code == 0, (
            "what was trained there needs nobody"
        )
        (older.home / "config.toml").write_text("[organisation]\ncompetes_with = []\n")
        assert older("policy", "explain", "mock", "--json").json == before


@pytest.mark.parametrize("name", ["folder", "loop", "pipe", "dangling", "newline", "not text"])
def test_a_draft_that_cannot_be_read_is_named_and_stops_nothing(home, people, name, serve):  # noqa: F811
    folder = home.home / "terms"
    folder.mkdir()
    path = folder / {"newline": "a\nb.toml", "not text": os.fsdecode(b"\xff.toml")}.get(name, "x.toml")
    made = {
        "folder": lambda: path.mkdir(),
        "loop": lambda: path.symlink_to(path),
        "pipe": lambda: os.mkfifo(path),
        "dangling": lambda: path.symlink_to("/nowhere"),
    }
    made.get(name, lambda: path.write_text(TERMS))()
    [problem] = home("status", "--json").json["policy"]["drafts"]
    assert "cannot be read" in problem
    assert "\n" not in problem
    assert home("doctor", "--json", code=None).json
    assert "cannot be read" in people("ada", "policy", "adopt", code=2).err
    home("policy", "rules")


def test_an_approver_reads_the_lines_that_decide(home, people):  # noqa: F811
    write(home, "policy.toml", "# note \u2028[[rule]]\u2028name = 'no-rival'\x1b[2K\n")
    waits = people("ada", "policy", "adopt", "--json", code=None)
    if waits.code:  # a control character is no TOML
        write(home, "policy.toml", "# note \u2028[[rule]]\u2028name = 'no-rival'\n")
        waits = people("ada", "policy", "adopt", "--json")
    shown = people("bob", "plan", "show", waits.json["plan"], "--json").json["recomputed"]["documents"]["policy.toml"]
    assert [line for line in shown if line.startswith("+#")] == [r"+# note \u2028[[rule]]\u2028name = 'no-rival'"]


def test_what_cannot_be_shown_is_approved_by_nobody(home, people):  # noqa: F811
    write(home, "policy.toml", RULE)
    waits = people("ada", "policy", "adopt", "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    write(home, "policy.toml", RULE.replace("it is ours", "it is theirs"))
    waits = people("ada", "policy", "adopt", "--json").json["plan"]
    with inside(home) as app:
        digest = app.objects.put(RULE.encode())
    for path in (home.home / "objects").rglob(f"*{digest.partition(':')[2]}*"):
        path.unlink()
    assert people("bob", "plan", "approve", waits, code=4)
    assert people("ada", "plan", "execute", waits, code=None).code in (3, 4)


def test_a_swapped_recording_answers_nothing(home):
    home.prompts(1)
    path = home.recording([{"task": "t0", "text": "def f(a, b):\n    return a + b"}])
    home.add_replay(path)
    home("identity", "enrol", "ada", "--role", "governance", STILLHOUSE_KEYS=str(home.folder / "keys-ada"))
    path.write_text(path.read_text().replace("a + b", "b + a"))
    assert "has changed since it was registered" in home("collect", home.recipe("recorded"), code=3).err


def test_a_second_governor_says_yes_to_its_own_enrolment_under_its_own_name(home):
    ada, bob = ({"STILLHOUSE_KEYS": str(home.folder / f"keys-{who}")} for who in ("ada", "bob"))
    home("identity", "enrol", "ada", "--role", "governance", **ada)
    home("identity", "request", "bob", "--to", home.folder / "bob.json", **bob)
    words = ["identity", "enrol", "bob", "--role", "governance", "--request", home.folder / "bob.json", "--json"]
    plan = home(*words, **ada).json["plan"]
    home("plan", "approve", plan, STILLHOUSE_IDENTITY="bob", **bob)
    home("plan", "execute", plan, **ada)
    assert home("identity", "list", "--json").json["threshold"] == 2


def test_what_came_by_an_unknown_channel_is_published_by_no_waiver(home):
    imported(home, {"lab": "somelab", "terms": "licence/mit"})
    words = ["policy", "waive", "--owner", "ada", "--reason", "x", "--lab", "somelab", "--expires", until()]
    for use, allowed in (("train", 1), ("publish-data", 0)):
        home(*words, "--use", use)
        assert home("policy", "check", "rows", "--use", use, "--json", code=None).json["allowed"] == allowed, use


def until():
    return (utc_now().date() + timedelta(days=30)).isoformat()


def test_a_model_that_was_made_elsewhere_is_a_draft_until_it_is_signed(home, people, tmp_path):  # noqa: F811
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
        save_file({"a": torch.full((4, 4), float(len(name)))}, tmp_path / name / "model.safetensors")
    words = ["teacher", "add", "theirs", "--kind", "local", "--model", "m", "--lab", "x", "--channel", "open-weights"]
    waits = people("ada", *words, "--terms", "licence/mit", "--weights", tmp_path / "theirs", "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    people("eve", "model", "derive", "ours", "--from", "theirs", "--how", "merged", "--weights", tmp_path / "ours")
    assert "is a draft" in home("policy", "explain", "ours@1", code=2).err
    assert "teacher ours@1 was registered without a signature" in home("status").out
    for who in ("bob", "eve"):
        assert people(who, "teacher", "sign", "ours@1", code=3)
    assert "No draft" in people("ada", "teacher", "sign", "theirs", code=2).err
    waits = people("ada", "teacher", "sign", "ours@1", "--json").json["plan"]
    people("bob", "plan", "approve", waits)
    people("ada", "plan", "execute", waits)
    assert home("policy", "explain", "ours@1", "--json").json
