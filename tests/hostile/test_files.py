"""Bad files, bad moments: each gets a clear message, the right exit code, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.views import edit

GOOD = "[teacher]\nuse = 'recorded'\n[prompts]\nfile = 'prompts.jsonl'\n[dataset]\nname = 'example'\n"


@pytest.fixture
def ready(home):
    home.prompts(3)
    home.add_replay(home.recording([{"task": f"t{n}", "text": "```\ndef f(x): return x + 1\n```"} for n in range(3)]))
    return home


@pytest.mark.parametrize(
    ("recipe", "code", "message"),
    [
        (GOOD + "[collect]\nsample = 2\n", 2, "unknown key `sample` in [collect]"),
        (GOOD.replace("recorded", "nobody"), 2, "No teacher is registered as 'nobody'; there is: recorded"),
        (GOOD.replace("prompts.jsonl", "missing.jsonl"), 2, "missing.jsonl does not exist"),
        ("\x00", 2, "not TOML"),
        ("", 2, "missing key"),
    ],
)
def test_bad_recipes(ready, recipe, code, message):
    path = ready.write("bad.toml", recipe)
    for command in ("run", "collect"):
        ran = ready(command, path, "--json", code=code)
        assert message in ran.json["message"]
        assert ran.json["next_step"]
        assert ran.err.startswith("stillhouse: ")


def test_a_recipe_that_is_not_there(ready):
    assert "no.toml does not exist" in ready("run", "no.toml", code=2).err
    assert "not UTF-8" in ready("run", _raw(ready, b"\xff\xfe"), code=2).err
    assert ready("run", ready.folder, code=2).err


def _raw(ready, data):
    path = ready.folder / "raw.toml"
    path.write_bytes(data)
    return path


def test_a_task_without_tests(ready):
    ready.write("prompts.jsonl", json.dumps({"id": "a", "prompt": "q", "entry_point": "f"}))
    ran = ready("run", ready.recipe("recorded"), code=2)
    assert "line 1: a task with an entry point needs tests" in ran.err


def test_prompts_without_code_are_collected_and_not_judged(ready):
    ready.write("prompts.jsonl", json.dumps({"id": "t0", "prompt": "tell me"}))
    done = ready("run", ready.recipe("recorded"), "--json").json
    assert (done["answers"], done["verified"], done["rows"]) == (1, 0, 1)


@pytest.mark.parametrize("content", ["{", '{"task": 1}', "\x00", '{"task": "t"}'])
def test_a_bad_recording(home, content):
    path = home.write("r.jsonl", content)
    home.add_replay(path)
    home.prompts(1)
    assert "cannot be read" in home("run", home.recipe("recorded"), code=1).err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--kind", "local", "--weights", "/no/such"], 1, "does not exist"),
        (["--kind", "local"], 2, "needs --weights"),
        (["--kind", "replay", "--weights", "/no/such"], 2, "no recording"),
        (["--kind", "robot"], 2, "robot"),
        (["--kind", "openai", "--unmetered", "--base-url", "ftp://x"], 2, "names no host"),
        (["--kind", "openai", "--price-in", "-1", "--price-out", "1"], 2, "price"),
    ],
)
def test_bad_registrations(home, words, code, message):
    given = ["--model", "m", "--lab", "l", "--channel", "open-weights", "--terms", "licence/mit"]
    ran = home("teacher", "add", "t", *given, *words, code=code)
    assert message in ran.err
    assert "No teacher" in home("teacher", "probe", "t", code=2).err


def test_names(home, serve):
    url = serve().url
    home.add_mock(url)
    home.add_mock(url)  # the same again changes nothing
    given = ["--kind", "openai", "--model", "m", "--channel", "official", "--terms", "licence/mit", "--unmetered"]
    assert "registered already" in home("teacher", "add", "mock", *given, "--lab", "x", "--base-url", url, code=2).err
    assert "is not a valid name" in home("teacher", "add", "No Good", *given, "--lab", "x", code=2).err


def test_weights_may_move(home, tiny_model, tmp_path):
    given = ["--kind", "local", "--model", "m", "--lab", "l", "--channel", "open-weights", "--terms", "licence/mit"]
    home("teacher", "add", "t", *given, "--weights", tiny_model)
    shutil.copytree(tiny_model, tmp_path / "moved")
    home("teacher", "add", "t", *given, "--weights", tmp_path / "moved")
    assert home("teacher", "list", "--json").json[-1]["weights"] == str(tmp_path / "moved")
    (tmp_path / "moved" / "config.json").write_text("{}")
    assert "registered already" in home("teacher", "add", "t", *given, "--weights", tmp_path / "moved", code=2).err


def test_a_model_folder_without_a_tokenizer(home, tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    given = ["--kind", "local", "--model", "m", "--lab", "l", "--channel", "open-weights", "--terms", "licence/mit"]
    home("teacher", "add", "t", *given, "--weights", folder)
    home.prompts(1)
    ran = home("run", home.recipe("t"), "--json", code=1)
    assert ran.json["error"] == "ModelUnusable"


def test_no_home_and_a_home_of_a_newer_version(cli):
    assert "stillhouse init" in cli("status", code=1).err
    cli("init")
    version = cli.home / "VERSION"
    version.chmod(0o644)
    version.write_text("99\n")
    ran = cli("status", "--json", code=1)
    assert ran.json["error"] == "HomeNewer"
    assert "Upgrade" in ran.json["next_step"]
    version.write_text("what")
    assert cli("status", "--json", code=1).json["error"] == "StorageError"


def test_init_again_changes_nothing(ready):
    before = ready("status", "--json").json["counts"]
    assert ready("init", "--json").json["new"] is False
    assert ready("status", "--json").json["counts"] == before


def test_a_bad_config(home):
    (home.home / "config.toml").write_text("[organisation]\ncompetes_with = 7\n")
    assert "config.toml" in home("status", code=1).err
    (home.home / "config.toml").write_text("[")
    assert "docs/settings.md" in home("status", code=1).err


def test_two_runs_on_one_home(home, serve):
    server = serve(delay=0.3)
    home.add_mock(server.url)
    home.prompts(12)
    first = home.start("collect", home.recipe(in_flight=1), "--json")
    while not server.requests:
        assert first.poll() is None
    ran = home("collect", home.recipe(in_flight=1), "--json", code=1)
    assert ran.json["error"] == "HomeBusy"
    other = home("collect", home.recipe(name="other.toml", dataset="other", in_flight=4, max_tokens=9), "--json").json
    assert other["paid"] == 12, "another recipe may run beside it"
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert json.loads(out)["answers"] == 12
    assert {check["state"] for check in home("doctor", "--json").json["checks"]} <= {"ok", "note"}


class TestDamage:
    """A flipped bit anywhere that matters is found, named, and exit code 4."""

    @pytest.fixture
    def done(self, ready, sandboxed):
        ready("run", ready.recipe("recorded"))
        return ready

    def flip(self, path, place):
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[place % len(data)] ^= 4
        path.write_bytes(bytes(data))

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_in_the_log(self, done, share):
        segment = max(done.home.glob("log/*/*.segment"), key=lambda path: path.stat().st_size)
        self.flip(segment, int(segment.stat().st_size * share))
        ran = done("doctor", "--json", code=4)
        assert {check["name"] for check in ran.json["checks"] if check["state"] == "bad"} >= {"log"}
        assert done("run", done.recipe("recorded", samples=2), "--json", code=4).json["error"] == "CorruptLog"

    def test_in_an_object(self, done):
        rows = done("dataset", "show", "example", "--json").json["files"]["rows.parquet"]
        path = next(done.home.glob(f"objects/*/{rows.replace(':', '-')}"))
        self.flip(path, 50)
        ran = done("vault", "verify", "--json", code=4)
        assert [rows] == [bad["object"] for bad in ran.json["bad"]]
        checks = done("doctor", "--json", code=4).json["checks"]
        assert [check["name"] for check in checks if check["state"] == "bad"] == ["objects"]
        assert done("dataset", "export", "example", "x.jsonl", "--json", code=4).json["error"] == "CorruptObject"

    def test_in_the_ledger(self, done):
        edit(done.home, "UPDATE answers SET finish = 'forged'")
        ran = done("doctor", "--json", code=4)
        assert [check["name"] for check in ran.json["checks"] if check["state"] == "bad"] == ["ledger"]
        rebuilt = done("doctor", "--rebuild", "--json").json
        assert rebuilt["rebuilt_from_entries"] > 0
        assert {check["state"] for check in rebuilt["checks"]} <= {"ok", "note"}

    def test_a_lost_ledger_is_rebuilt(self, done):
        before = done("dataset", "show", "example", "--json").json
        for file in done.home.glob("ledger.db*"):
            file.unlink()
        assert done("dataset", "show", "example", "--json").json == before
        done("doctor")

    def test_a_ledger_that_is_no_database(self, done):
        for file in done.home.glob("ledger.db-*"):
            file.unlink()
        (done.home / "ledger.db").write_bytes(b"not a database" * 1000)
        assert done("status", "--json", code=1).json["error"] == "LedgerUnavailable"

    def test_a_rewritten_log_against_a_checkpoint_elsewhere(self, done, tmp_path):
        (done.home / "config.toml").write_text(f'[log]\ncheckpoints = "{tmp_path / "second"}"\n')
        assert done("tick", "--json").json["checkpoint"]
        done("doctor")
        shutil.rmtree(done.home / "log")
        (done.home / "ledger.db").unlink()
        done("init")
        ran = done("doctor", "--json", code=4)
        assert any("checkpoint" in check["detail"] for check in ran.json["checks"] if check["state"] == "bad")

    def test_a_torn_tail_is_cut_and_reported(self, done):
        segment = max(done.home.glob("log/*/*.segment"), key=lambda path: path.stat().st_size)
        with segment.open("ab") as file:
            file.write(b"\x10\x00\x00\x00\xef")
        done("run", done.recipe("recorded", samples=2), code=None)
        assert done("status", "--json").json["counts"]["tails"] == 1
        assert list(done.home.glob("log/*/torn/*"))
        done("doctor")


def unprivileged_mounts() -> bool:
    done = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False)
    return done.returncode == 0


FULL = """
mount -t tmpfs -o size={size}k tmpfs {home} && cp -r {seed}/. {home}/ && {command}
code=$?
ls -la {home} > /dev/null
exit $code
"""


@pytest.mark.skipif(not unprivileged_mounts(), reason="this machine does not allow a small file system to be mounted")
@pytest.mark.parametrize("extra", [8, 40, 72, 104, 136, 168, 200])
def test_a_full_disk_at_any_write(ready, sandboxed, extra):
    """The home is put on a file system that has so many KiB left: wherever it fills up, the message says so."""
    seed = ready.folder / "seed"
    shutil.copytree(ready.home, seed)
    size = sum((path.stat().st_size + 4095) // 4096 * 4 + 4 for path in seed.rglob("*")) + extra
    recipe = ready.recipe("recorded", samples=3)
    command = " ".join([sys.executable, "-m", "stillhouse", "run", str(recipe), "--json"])
    script = FULL.format(size=size, home=ready.home, seed=seed, command=command)
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, env=ready.environment, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode != 0 or extra > 8, "the smallest must be full, or this test tests nothing"
    if done.returncode != 0:
        error = json.loads(done.stdout)
        assert error["error"] in ("StorageError", "LedgerUnavailable"), error
        assert "full" in error["message"] or "No space" in error["message"], error
        assert "space" in error["next_step"] or "again" in error["next_step"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_home_that_may_not_be_written(cli):
    cli.folder.chmod(0o500)
    assert "could not be made" in cli("init", code=1).err
    cli.folder.chmod(0o700)


def test_an_export_onto_a_file_that_exists(ready, sandboxed):
    ready("run", ready.recipe("recorded"))
    ready("dataset", "export", "example", "out.jsonl")
    assert "exists already" in ready("dataset", "export", "example", "out.jsonl", code=2).err
    assert "could not be written" in ready("dataset", "export", "example", "no/such/out.jsonl", code=1).err
    assert "No dataset is called 'other'; there is: example@1" in ready("dataset", "show", "other", code=2).err
    assert "No plan begins" in ready("plan", "show", "ffff", code=2).err
    assert "does not know" in ready("terms", "show", "no/such", code=2).err
