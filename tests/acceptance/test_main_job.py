"""The main job as a user types it, from an empty folder to an exported dataset."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

RIGHT, WRONG = "```python\ndef f(x):\n    return x + 1\n```", "```python\ndef f(x):\n    return x\n```"


@pytest.fixture
def recorded(home):
    rows = [
        {"task": f"t{n}", "sample": s, "text": WRONG if (n + s) % 3 == 0 else RIGHT} for n in range(8) for s in range(3)
    ]
    home.prompts(8)
    home.add_replay(home.recording(rows))
    return home


def test_from_nothing_to_an_explained_dataset(recorded, sandboxed):
    plan = recorded("run", recorded.recipe("recorded", samples=3), "--plan", "--json").json
    assert plan["does"]["answers_to_ask_for"] == 24
    done = recorded("run", recorded.recipe("recorded", samples=3), "--json").json
    assert (done["dataset"], done["answers"], done["verified"], done["rows"]) == ("example@1", 24, 16, 8)
    assert (done["model"], done["passport"], done["eval"]) == (None, None, None)
    report = json.loads((Path(done["report"]).parent / "report.json").read_text())
    assert [step["step"] for step in report["funnel"]] == [
        "answers",
        "complete",
        "verified",
        "distinct",
        "not held out",
        "allowed",
    ]
    assert report["isolation"] == f"{sandboxed}+seccomp"
    assert {edge["child"] for edge in report["lineage"]} >= {"dataset:example@1"}
    assert [decision["use"] for decision in report["decisions"] if decision["allowed"]]
    markdown = (Path(done["report"]).parent / "report.md").read_text()
    assert "| verified | 16 |" in markdown
    recorded("dataset", "export", "example", "out.jsonl")
    rows = [json.loads(line) for line in (recorded.folder / "out.jsonl").read_text().splitlines()]
    assert [row["messages"][-1] for row in rows] == [{"role": "assistant", "content": RIGHT}] * 8
    assert {row["stillhouse"]["dataset"] for row in rows} == {"example@1"}
    plans = recorded("plan", "list", "--json").json
    assert [plan["plan"]["kind"] for plan in plans] == ["collect", "form-dataset"]
    assert [plan["receipts"][0]["outcome"] for plan in plans] == ["done", "done"]
    assert "done" in recorded("plan", "show", plans[0]["digest"][7:15]).out
    recorded("doctor")


def test_the_same_work_has_the_same_digest_on_another_home(recorded, sandboxed, tmp_path_factory):
    first = recorded("run", recorded.recipe("recorded", samples=3), "--json").json
    other = type(recorded)(tmp_path_factory.mktemp("other"))
    other("init")
    other.prompts(8)
    other.add_replay(recorded.folder / "answers.jsonl", "by-another-name")
    second = other("run", other.recipe("by-another-name", samples=3), "--json").json
    assert first["content_digest"] == second["content_digest"]
    manifests = [cli("dataset", "show", "example", "--json").json["manifest_digest"] for cli in (recorded, other)]
    assert manifests[0] != manifests[1], "days and paths are in the manifest"


def test_killed_while_it_runs_it_goes_on(home, serve, sandboxed):
    server = serve(delay=0.1)
    home.add_mock(server.url)
    home.prompts(12)
    recipe = home.recipe(samples=4, in_flight=4)
    calm = type(home)(home.folder / "calm")
    calm.folder.mkdir()
    calm("init")
    calm.add_mock(server.url)
    calm.prompts(12)
    expected = calm("run", calm.recipe(samples=4, in_flight=4), "--json").json
    for seconds in (0.9, 1.2, 1.4, 1.7, 2.0):
        process = home.start("run", recipe)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    done = home("run", recipe, "--json").json
    assert (done["content_digest"], done["rows"]) == (expected["content_digest"], expected["rows"])
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert (states["log"], states["objects"], states["ledger"]) == ("note", "ok", "ok")


def test_json_alone_goes_to_standard_output(recorded, sandboxed):
    for words in (
        ("run", recorded.recipe("recorded")), ("status",), ("doctor",), ("tick",), ("teacher", "list"), ("dataset", "list"),
        ("dataset", "show", "example"), ("plan", "list"), ("terms", "list"), ("terms", "show", "licence/mit"),
        ("policy", "explain", "recorded"), ("policy", "check", "example", "--use", "train"), ("vault", "list"),
        ("vault", "verify"), ("lineage", "show", "dataset:example@1"), ("teacher", "probe", "recorded"),
    ):  # fmt: skip
        ran = recorded(*words, "--json", code=None)
        json.loads(ran.out)
        if ran.code == 0:
            assert recorded(*words).out.strip(), "and there is something for people, too"


def test_progress_is_shown_while_it_runs(home, serve):
    home.add_mock(serve(delay=0.5).url)
    home.prompts(16)
    process = home.start("collect", home.recipe(in_flight=1))
    err = b""
    while b"/16 after 5 s" not in err:
        line = process.stderr.readline()
        assert line, err
        err += line
    process.kill()
    process.communicate()
    assert b"ask mock (16)" in err


@pytest.mark.model
def test_a_model_on_this_machine_is_a_teacher_like_any_other(home, tiny_model, sandboxed):
    given = ["--kind", "local", "--model", "tiny", "--lab", "l", "--channel", "open-weights", "--terms", "licence/mit"]
    home("teacher", "add", "tiny", *given, "--weights", tiny_model)
    home.prompts(5)
    recipe = home.recipe("tiny", samples=3, max_tokens=40, seed=4, keep=("truncated",))
    process = home.start("run", recipe)
    time.sleep(4)
    process.kill()
    process.communicate()
    done = home("run", recipe, "--json").json
    assert done["answers"] == 15
    other = type(home)(home.folder / "other")
    other.folder.mkdir()
    other("init")
    other("teacher", "add", "tiny", *given, "--weights", tiny_model)
    other.prompts(5)
    (other.home / "cache").rmdir()
    (home.home / "cache").rename(other.home / "cache")  # the probe's choice, which a cold start may make otherwise
    again = other("run", other.recipe("tiny", samples=3, max_tokens=40, seed=4, keep=("truncated",)), "--json").json
    assert again["content_digest"] == done["content_digest"]
    answers = [
        cli(
            "collect",
            cli.recipe("tiny", samples=3, max_tokens=40, seed=4, dataset="all", keep=("truncated",)),
            "--json",
        ).json
        for cli in (home, other)
    ]
    assert [one["paid"] for one in answers] == [0, 0]
    assert answers[0]["content_digest"] == answers[1]["content_digest"]


@pytest.mark.slow
@pytest.mark.model
def test_the_quick_demo(cli, embedded, sandboxed):
    done = cli("demo", "--quick", "--json").json
    assert (done["dataset"], done["answers"]) == ("demo-quick@1", 160)
    assert done["verified"] > 5
    assert 0 < done["rows"] <= done["verified"]
    assert Path(done["report"]).exists()
    again = cli("demo", "--quick", "--json").json
    assert (again["reused"], again["content_digest"]) == (160, done["content_digest"])


@pytest.mark.slow
@pytest.mark.model
def test_the_story_of_a_revocation_is_told_on_the_real_model(cli, embedded, sandboxed):
    """A minute or two: four small trainings of the embedded model."""
    pytest.importorskip("peft")
    told = cli("demo", "--story", "revoked", "--json").json
    assert told["stays"] == ["before"]
    assert told["models"] == ["story-mixed@1", "story-taught@1"]
    assert told["clean"] == "story-mixed@2"
    assert told["refused"]["calls that reached it"] == "0"
    assert {name for name in told["refused"] if "revoked access" in told["refused"][name]} == {
        "official",
        "personal key",
        "intermediary",
    }
    assert told["capability"]["tasks"] == 16
    assert any("given-out.jsonl" in what for what in told["notify"])
    assert any("passport of story-mixed@1" in what for what in told["notify"])
    page = Path(told["report"]).read_text()
    assert "The rival is made up" in page
    assert page.index("<h2>Conclusion") < page.index("<svg"), "what came of it is said first"
    assert cli("passport", "verify", told["clean_passport"], "--json").json["result"] == "trusted"
    assert cli("passport", "verify", told["passport"], "--json").json["result"] == "trusted"
    assert "there are: revoked, deleted" in cli("demo", "--story", "other", code=2).err
