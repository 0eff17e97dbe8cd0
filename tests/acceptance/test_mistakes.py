"""Mistakes that people make: each is said, with what to do next and the right exit code, and nothing is lost or bought by it."""

import json
import os
import shutil

import pytest
from aiohttp import web

from tests.acceptance.test_custody import data, objects_on_disk  # noqa: F401
from tests.server import chat


@pytest.mark.parametrize(
    "key", ["sk-proj-0123456789abcdef", "sk_live_0123456789abcdefghij", "AIzaSyD0123456789abcdefghijklmnop", "a b"]
)
def test_a_key_in_place_of_the_name_of_its_variable_is_written_nowhere(home, key):
    words = [
        "teacher",
        "add",
        "t",
        "--kind",
        "openai",
        "--model",
        "m",
        "--lab",
        "testlab",
        "--channel",
        "official",
        "--unmetered",
    ]
    said = home(
        *words, "--terms", "licence/mit", "--base-url", "http://127.0.0.1:1/v1", "--key-env", key, "--json", code=2
    )
    assert "is not the name of an environment variable" in said.out
    assert key not in said.out + said.err
    for file in home.home.rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("name", ["TEACHER_KEY", "key", "OPENAI_API_KEY_2", "my_own_key_for_testlab_1"])
def test_variables_may_be_named_as_usual(home, name):
    home.add_mock("http://127.0.0.1:1/v1", "mock", "--unmetered", "--key-env", name)


@pytest.mark.parametrize("command", ["show", "impact"])
def test_lineage_of_what_nobody_knows(home, command):
    home.add_mock("http://127.0.0.1:1/v1")
    assert home("lineage", command, "teacher:mock", "--json", code=0).json is not None
    for node in ("teacher:nope", "mock", "dataset:x@1", "run:x", ""):
        assert "Nothing here is called" in home("lineage", command, node, code=2).err


def test_a_file_that_is_no_log_of_a_proxy(home):
    log = home.write("access.log", "this\nis\nno log\n")
    assert "none of its 3 lines can be read" in home("access", "egress", log, code=2).err


def test_a_student_that_is_not_there_is_known_before_anything_is_bought(home, serve):
    server = serve()
    home.add_mock(server.url)
    home.prompts(2)
    path = home.recipe()
    path.write_text(path.read_text() + '[train]\nstudent = "nope"\n')
    for words in (("run", path), ("run", path, "--plan"), ("train", path)):
        assert "nope" in home(*words, code=2).err
    assert server.requests == []


def test_an_export_that_fails_leaves_no_file(home, serve):
    home.add_mock(serve().url)
    home.prompts(2)
    home("collect", home.recipe())
    for name in objects_on_disk(home):
        for path in (home.home / "objects").rglob(name):
            path.unlink()
    home("dataset", "export", "example", "rows.jsonl", code=4)
    assert not (home.folder / "rows.jsonl").exists(), "half a file is none"


def test_a_version_without_rows_is_not_exported(home, serve):
    async def empty(server, body):
        return web.json_response(chat(""))

    home.add_mock(serve(empty).url)
    home.prompts(2)
    home("collect", home.recipe())
    assert "holds no rows" in home("dataset", "export", "example", "rows.jsonl", code=2).err
    assert not (home.folder / "rows.jsonl").exists()


def test_a_copy_s_place_counts_from_the_home(home, data, tmp_path_factory):  # noqa: F811
    config = home.home / "config.toml"
    config.write_text(config.read_text() + '\n[copies.far]\nplace = "../far"\n')
    home("vault", "snapshot", data)
    home("vault", "backup")
    assert (home.folder / "far").is_dir()
    home.folder = tmp_path_factory.mktemp("elsewhere")
    done = home("vault", "backup", "--json").json
    assert done[0]["added"] == 0 if isinstance(done, list) else done["added"] == 0
    assert not (home.folder.parent / "far").exists()


def test_a_snapshot_that_is_deleted_is_marked(home, data):  # noqa: F811
    taken = home("vault", "snapshot", data, "--json").json["snapshot"]
    asked = home("delete", "plan", f"snapshot:{taken}", "--json").json
    assert [one["deleted"] for one in home("vault", "list", "--json").json] == [False]
    home("plan", "execute", asked["plan"])
    assert [one["deleted"] for one in home("vault", "list", "--json").json] == [True]
    assert "deleted" in home("vault", "list").out


def test_objects_that_are_gone_are_found(home, data):  # noqa: F811
    home("vault", "snapshot", data)
    assert home("doctor")
    kept = home.folder / "kept"
    shutil.move(home.home / "objects", kept)
    (home.home / "objects").mkdir()
    found = home("doctor", "--json", code=4).json["checks"]
    assert [
        check
        for check in found
        if check["name"] == "objects" and check["state"] == "bad" and "is missing" in check["detail"]
    ]


def test_a_ledger_file_that_is_damaged(home):
    """It is a view: what to do is said, and helps."""
    (home.home / "ledger.db").write_bytes(b"no database at all" * 500)
    for suffix in ("-wal", "-shm"):
        (home.home / f"ledger.db{suffix}").unlink(missing_ok=True)
    assert "Remove ledger.db" in home("status", code=1).err
    (home.home / "ledger.db").unlink()
    assert json.loads(home("status", "--json").out)


def test_a_gateway_key_that_has_expired_already(home):
    words = ["gateway", "key", "add", "me", "--project", "p", "--use", "train", "--expires"]
    assert "is over already" in home(*words, "2020-01-01", code=2).err
    home(*words, "2099-01-01")


def test_a_teacher_whose_key_is_not_set_is_named_by_the_gateway(home, gateway):
    home.add_mock("http://127.0.0.1:1/v1", "open")
    home.add_mock("http://127.0.0.1:1/v1", "shut", "--unmetered", "--key-env", "KEY_THAT_IS_NOT_SET")
    _, said = gateway().ended()
    assert "shut is left out: the variable KEY_THAT_IS_NOT_SET with its key is not set." in said
    assert "open is left out" not in said


@pytest.mark.parametrize(
    "name", [b"\xff.jsonl", b"\xed\xa0\x80.jsonl", b"new\nline.jsonl", "\u202eidden.jsonl".encode()]
)
def test_files_may_be_called_anything(home, name):
    folder = home.folder / "corpus"
    folder.mkdir()
    path = os.fsdecode(os.fsencode(folder) + b"/" + name)
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"prompt": "a", "response": "b"}\n{"broken')
    assert home("dataset", "import", path, "--name", "file", "--json").json["rows"] == 1
    assert home("dataset", "import", folder, "--name", "folder", "--json").json["rows"] == 1
    assert home("lineage", "show", "dataset:file@1", "--json").json


def test_a_snapshot_of_what_is_none(home):
    assert "neither a file nor a folder" in home("vault", "snapshot", "/dev/null", code=2).err
    assert "is the home itself" in home("vault", "snapshot", home.home, code=2).err
    assert home("vault", "list", "--json").json == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://me:sk-secret-123@llm.example.org/v1", "user name or a password"), ("https:///v1", "names no host"),
        ("https://me:sk-secret-123@[::1", "user name or a password"), ("ftp://me:sk-secret-123@h/v1", "user name or a password"),
        ("https://me:sk-secret-123@h:http/v1", "user name or a password"), ("me:sk-secret-123@h/v1", "user name or a password"),
        ("llm.example.org/v1", "names no host"), ("http://h:0/v1", "names no host"),
        ("https://[::1", "names no host"), ("https://a%00b.example/v1", "names no host"),
        ("https://evil.example\\.good.example/v1", "names no host"),
        ("https://llm.example.org:http/v1", "names no host"), ("http://127.0.0.1:99999/v1", "names no host"),
    ],
)  # fmt: skip
def test_an_address_is_one_and_holds_no_secret(home, address, why):
    words = [
        "teacher",
        "add",
        "t",
        "--kind",
        "openai",
        "--model",
        "m",
        "--lab",
        "l",
        "--channel",
        "cloud",
        "--terms",
        "a/b",
    ]
    told = home(*words, "--unmetered", "--base-url", address, code=2)
    assert why in told.err
    assert "sk-secret-123" not in told.err + told.out
    assert b"sk-secret-123" not in b"".join(path.read_bytes() for path in home.home.rglob("*") if path.is_file())


def test_a_competitor_that_nobody_is_called_is_pointed_out(home):
    """A slip in the name would allow what it was to forbid."""
    config = home.home / "config.toml"
    config.write_text(
        config.read_text().replace('competes_with = ["*"]', 'competes_with = ["opnai", "Claude", "*", "acme"]')
    )
    said = home("status").out
    assert "no known lab is called 'opnai' (openai?)" in said
    assert "'acme'" in said
    assert "Claude" not in said
    assert len(home("status", "--json").json["unknown_labs"]) == 2


def test_a_denied_import_says_how_to_declare(home):
    path = home.write("own.jsonl", '{"prompt": "Hi?", "response": "Yes."}\n')
    told = home("dataset", "import", path, "--name", "own", "--origin", "human", "--use", "train")
    assert "--origin human --terms organisation/own" in told.err
    done = home(
        "dataset",
        "import",
        path,
        "--name",
        "own",
        "--origin",
        "human",
        "--terms",
        "organisation/own",
        "--use",
        "train",
        "--json",
    )
    assert done.json["rows"] == 1
    assert "Declare what the rows do not say" not in done.err


@pytest.mark.parametrize("model", ["gpt-4o", "claude-opus-4-1", "models/gemini-2.5-pro", "qwen-max"])
def test_a_closed_model_s_name_on_this_machine_is_pointed_out(home, model):
    """It may be somebody's own model, called so for a tool; it may be a proxy to the lab."""
    words = ["--kind", "openai", "--lab", "mine", "--channel", "official", "--terms", "organisation/own", "--unmetered"]
    told = home("teacher", "add", "t", *words, "--model", model, "--base-url", "http://127.0.0.1:4000/v1").err
    assert "passes calls on" in told
    assert home("status", "--json").json["borrowed_names"].keys() == {"t"}
    assert "CHECK        teacher t: " in home("status").out
    assert (
        "is a model of"
        in home("teacher", "add", "u", *words, "--model", model, "--base-url", "http://10.0.0.7/v1", code=3).err
    )


def test_what_a_later_change_replaces_is_not_in_force(home):
    """All of it: what a narrower change leaves stands as before."""

    def states():
        return [one["in_force"] for one in home("access", "list", "--json").json["changes"]]

    for words in (["revoke", "acme"], ["grant", "acme", "--use", "evaluate"]):
        home("access", *words, *(["--even-if-nothing"] if words[0] == "revoke" else []))
    assert states() == [True, True]
    home("access", "grant", "Acme")
    assert states() == [False, False, True]
    home("access", "revoke", "acme", "--model", "acme-1", "--even-if-nothing")
    assert states() == [False, False, True, True]


def test_plans_read_as_text_and_void_ones_are_called_so(home):
    ada, bob = ({"STILLHOUSE_KEYS": str(home.folder / f"keys-{who}")} for who in ("ada", "bob"))
    home("identity", "enrol", "ada", "--role", "governance", "--role", "approver", **ada)
    home("identity", "request", "bob", "--to", home.folder / "bob.json", **bob)
    home("identity", "enrol", "bob", "--role", "approver", "--request", home.folder / "bob.json", **ada)
    plans = [home("access", "grant", lab, "--json", **ada).json["plan"] for lab in ("acme", "other")]
    shown = home("plan", "show", plans[0]).out
    assert "lab: acme" in shown
    assert not set("{}[]'") & set(shown)
    home("plan", "approve", plans[0], **bob)
    home("plan", "execute", plans[0], **ada)
    assert "signed by: ada, bob" in home("plan", "show", plans[0]).out
    outcomes = {one["digest"]: one["outcome"] for one in home("plan", "list", "--json").json}
    assert (outcomes[plans[0]], outcomes[plans[1]]) == ("done", "void")


def test_own_work_is_bound_by_no_document(home):
    assert "No document binds it" in home("terms", "show", "organisation/own").out
