"""From a recipe to a trained, evaluated, signed model, as a user types it; on a model of a few thousand weights."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

RIGHT, WRONG = "```python\ndef f(x):\n    return x + 1\n```", "```python\ndef f(x):\n    return x\n```"
TRAIN = '[train]\nstudent = "tiny"\nlearning_rate = 0.01\nepochs = 3\n'
EVAL = '[eval]\nsuites = ["prompts.jsonl"]\nsamples = 2\nmax_tokens = 24\n'


def add_local(cli, weights, name="tiny", *more):
    words = ["teacher", "add", name, "--kind", "local", "--model", "m", "--lab", "testlab", "--channel", "open-weights"]
    return cli(*words, "--terms", "licence/apache-2.0", "--weights", weights, *more)


def recipe(cli, more=TRAIN + EVAL, **options):
    path = cli.recipe("recorded", samples=3, **options)
    path.write_text(path.read_text() + more)
    return path


@pytest.fixture
def ready(home, tiny_model, sandboxed):
    """A home with recorded answers, of which a third is wrong, and a student."""
    rows = [
        {"task": f"t{n}", "sample": s, "text": WRONG if (n + s) % 3 == 0 else f"{RIGHT} # {n}.{s}"}
        for n in range(24)
        for s in range(3)
    ]
    home.prompts(24)
    home.add_replay(home.recording(rows))
    add_local(home, tiny_model)
    return home


def test_from_a_recipe_to_a_signed_model(ready):
    plan = ready("train", recipe(ready), "--plan", "--json").json
    assert plan["kind"] == "collect", "first things first"
    done = ready("run", recipe(ready), "--json").json
    assert (done["dataset"], done["model"], done["answers"], done["verified"]) == ("example@1", "example@1", 72, 48)
    found = done["eval"]["prompts.jsonl"]
    assert set(found) >= {"before", "after", "unverified", "difference", "difference_to_unverified"}
    assert (found["tasks"], found["samples"]) == (24, 2), "all of the suite, however fast the machine is"
    assert 0 <= found["after"]["pass_at_1"] <= 1
    assert found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
    models = {model["name"]: model for model in ready("model", "list", "--json").json}
    assert set(models) == {"example", "example-unverified"}
    tokens = {name: _answer_tokens(ready, name) for name in models}
    assert abs(tokens["example"] - tokens["example-unverified"]) <= 3 * 60, "the comparison learns as many tokens"
    shown = ready("model", "show", "example", "--json").json
    assert len(shown["losses"]) == shown["steps"]
    fed = [key for keys in shown["fed"].values() for key in keys]
    assert len(fed) == 3 * shown["rows"] == 3 * len(set(fed)), "which record fed which step, every epoch"
    assert "example@1" in ready("model", "show", "example").out
    report = json.loads((Path(done["report"]).parent / "report.json").read_text())
    assert [training["model"] for training in report["trainings"]] == ["example@1", "example-unverified@1"]
    assert len(report["trainings"][0]["losses"]) == shown["steps"]
    assert len(report["findings"]) == 2
    page = Path(done["report"]).read_text()
    for word in ("Training", "What came of it", "loss (nats a token)", "example-unverified@1"):
        assert word in page
    assert ready("passport", "verify", done["passport"], "--json").json["result"] == "trusted"
    again = ready("run", recipe(ready), "--json").json
    assert (again["model"], again["eval"], again["reused"]) == (done["model"], done["eval"], 72), (
        "all of it is in the log"
    )
    plan = ready("train", recipe(ready), "--plan", "--json").json
    assert (plan["kind"], plan["does"]["dataset"]) == ("train", "example@1")
    ready("doctor")


def _answer_tokens(cli, name):
    return cli("model", "show", name, "--json").json["answer_tokens"]


def test_killed_while_it_trains_it_goes_on_with_the_same_losses(ready, tmp_path_factory, tiny_model):
    slow = TRAIN.replace("epochs = 3", "epochs = 60")
    path = recipe(ready, slow)
    ready("collect", path)
    for seconds in (7.0, 9.0, 8.0):
        process = ready.start("train", path)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ready("train", path)
    calm = type(ready)(tmp_path_factory.mktemp("calm"))
    calm("init")
    calm.prompts(24)
    calm.add_replay(ready.folder / "answers.jsonl")
    add_local(calm, tiny_model)
    calm("train", recipe(calm, slow))
    ours, theirs = (cli("model", "show", "example", "--json").json for cli in (ready, calm))
    assert ours["losses"] == theirs["losses"]
    assert ours["weights_digest"] == theirs["weights_digest"]
    assert ours["fed"] == theirs["fed"]
    states = {check["name"]: check["state"] for check in ready("doctor", "--json").json["checks"]}
    assert (states["objects"], states["ledger"]) == ("ok", "ok")


def test_two_processes_train_one_model(ready):
    done = ready("train", recipe(ready, TRAIN), "--processes", "2", "--json").json
    assert done["model"] == "example@1"
    assert Path(done["folder"], "model.safetensors").exists()


def test_what_a_model_learned_from_comes_with_its_answers(ready):
    ready("train", recipe(ready, TRAIN))
    shown = ready("model", "show", "example", "--json").json
    assert {origin["lab"] for origin in shown["origins"]} == {"testlab", ""}
    ready("teacher", "add", "innocent", "--kind", "local", "--model", "fresh", "--lab", "somebody", "--channel", "open-weights",
          "--terms", "licence/mit", "--weights", ready.home / shown["folder"])  # fmt: skip
    shutil.copytree(ready.home / shown["folder"], ready.folder / "edited")
    with (ready.folder / "edited" / "config.json").open("a") as config:
        config.write(" ")
    add_local(ready, ready.folder / "edited", "washed")
    for teacher in ("example@1", "innocent", "washed"):
        path = ready.recipe(
            teacher,
            name=f"{teacher[:4]}.toml",
            dataset=f"from-{teacher[:4]}",
            samples=1,
            max_tokens=8,
            keep=("truncated",),
        )
        ready("run", path)
        stamps = ready("policy", "check", f"from-{teacher[:4]}", "--use", "train", "--json").json
        assert stamps["denied"] == 0
        edges = ready("lineage", "show", f"dataset:from-{teacher[:4]}@1", "--json").json
        assert {"dataset:example@1", "teacher:recorded", "teacher:tiny"} <= {edge["parent"] for edge in edges}
    impact = ready("lineage", "impact", "teacher:recorded", "--json").json
    assert {
        "model:example@1",
        "teacher:innocent",
        "dataset:from-exam@1",
        "dataset:from-inno@1",
        "dataset:from-wash@1",
    } <= set(impact["nodes"])


def test_a_home_that_has_moved(ready):
    ready("train", recipe(ready, TRAIN))
    moved = ready.home.rename(ready.folder / "moved")
    ready("train", recipe(ready, TRAIN), "--home", moved)
    path = ready.recipe("example", name="second.toml", dataset="second", max_tokens=4, keep=("truncated",))
    assert ready("collect", path, "--home", moved, "--json").json["answers"] == 24


def test_a_student_by_path_is_what_its_weights_are_known_as(ready, tiny_model):
    by_path = TRAIN.replace('"tiny"', json.dumps(str(tiny_model)))
    assert ready("train", recipe(ready, by_path), "--json").json["model"] == "example@1"
    assert ready("model", "show", "example", "--json").json["base"] == "tiny"


def test_a_smaller_student_by_the_teacher_s_distribution(ready, tiny_model):
    ready.write("kl.toml", f"""
[teacher]
use = "tiny"
[prompts]
file = "prompts.jsonl"
[collect]
samples = 2
max_tokens = 24
[dataset]
name = "near"
verified = false
[train]
student = "tiny"
layers = 2
method = "full"
signal = "forward-kl"
epochs = 2
{EVAL}""")  # fmt: skip
    done = ready("run", "kl.toml", "--json").json
    found = done["eval"]["prompts.jsonl"]
    assert found["before"]["agreement"] == pytest.approx(1.0), "two of two layers are the teacher itself"
    assert found["after"]["loss"] > 0
    assert "difference" in found
    assert "unverified" not in found, "nothing was verified, so there is nothing to compare"
    assert "near" in ready("run", "kl.toml").out


def test_passports(ready, cli):
    ready("train", recipe(ready, TRAIN))
    path = Path(ready("passport", "write", "example", "--json").json["passport"])
    payload = _payload(path)
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    names = {subject["name"] for subject in payload["subject"]}
    assert {"model.safetensors", "config.json", "dataset/rows.parquet"} <= names
    assert all(set(subject["digest"]) == {"blake3", "sha256"} for subject in payload["subject"])
    said = payload["predicate"]
    assert said["model"]["steps"] > 0
    assert {decision["use"] for decision in said["decisions"]} >= {"train", "release-weights"}
    assert "open-weights" in said["channels"]
    assert "licence/mit" in said["terms"]
    assert said["dataset"]["funnel"][0]["step"] == "answers"

    def verify(*words, code):
        return ready("passport", "verify", path, *words, "--json", code=code).json

    assert verify(code=0)["result"] == "trusted"
    (elsewhere := ready.folder / "elsewhere").mkdir()
    unknown = verify("--home", elsewhere, code=0)
    assert unknown["result"] == "intact, unknown signer"
    assert unknown["not_checked"] == ["dataset/dropped.parquet", "dataset/rows.parquet"]
    other = type(ready)(elsewhere)
    other("init")
    other("passport", "verify", path, code=0)
    assert verify("--trust", ready.home / "keys" / "home.pub", "--home", elsewhere, code=0)["result"] == "trusted"
    weights = path.parent / "model.safetensors"
    weights.chmod(0o644)
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    unsigned = "model.sig: it was made over other files than these"
    assert verify(code=4)["broken"] == ["model.safetensors: has other bytes", unsigned]
    assert "has other bytes" in ready("passport", "write", "example", code=4).err
    assert "has other bytes" in ready("run", recipe(ready, TRAIN), code=4).err
    weights.write_bytes(good)
    (path.parent / "extra.safetensors").write_bytes(good)
    assert verify(code=4)["broken"] == ["extra.safetensors: is no part of the model", unsigned]
    (path.parent / "extra.safetensors").unlink()
    (path.parent / "config.json").unlink()
    assert verify(code=4)["broken"] == ["config.json: is missing", unsigned]
    assert "move the model's folder away" in ready("run", recipe(ready, TRAIN), code=4).err
    path.parent.rename(ready.folder / "away")
    ready("train", recipe(ready, TRAIN))
    ready("passport", "write", "example")
    assert verify(code=0)["result"] == "trusted", "trained again, it is the same model"
    assert len(ready("model", "list", "--json").json) == 1


def test_an_untrusted_signer_is_refused_where_roots_are_named(ready):
    ready("train", recipe(ready, TRAIN))
    path = ready("passport", "write", "example", "--to", ready.folder / "p.json", "--json").json["passport"]
    other = type(ready)(ready.folder / "other")
    other.folder.mkdir()
    other("init")
    roots = ready.write("roots.pem", "no key")
    assert "holds no public key" in ready("passport", "verify", path, "--trust", roots, code=2).err
    assert ready("passport", "verify", path, "--trust", "nowhere.pem", code=2)


def _payload(path):
    import base64

    return json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))


def test_how_much_is_evaluated(ready):
    def asked(section):
        found = ready(
            "run", recipe(ready, f'{TRAIN}[eval]\nsuites = ["prompts.jsonl"]\nmax_tokens = 4\n{section}'), "--json"
        )
        return [found.json["eval"]["prompts.jsonl"][name] for name in ("tasks", "samples")]

    assert asked('samples = 1\ntasks = { "prompts.jsonl" = 5 }\n') == [5, 1]
    assert asked('tasks = { "prompts.jsonl" = 7 }\n') == [7, 4]
    tasks, samples = asked("minutes = 0.0001\n")
    assert tasks * samples < 24 * 4, "scaled to the time, for those who ask for it"


def test_bad_requests(ready, tmp_path):
    def said(more, code):
        return ready("train", recipe(ready, more), code=code).err

    assert "no [train] section" in said("", 2)
    assert "There is no model, teacher or path 'nobody'" in said('[train]\nstudent = "nobody"\n', 2)
    assert "answers over replay, and a student needs weights" in said('[train]\nstudent = "recorded"\n', 2)
    assert "layers must be at least 2" in said(TRAIN + "layers = 1\n", 2)
    assert "learning_rate must lie" in said('[train]\nstudent = "tiny"\nlearning_rate = 2.0\n', 2)
    assert "has 2 layers, and the recipe wants 9" in said(TRAIN + "layers = 9\n", 1)
    odds = [
        "suites = []",
        "samples = -1",
        "tasks = { train = 3 }",
        "tasks = { held-out = 0 }",
        "minutes = 1.0\nsamples = 2",
    ]
    for odd in [*odds, *(f"minutes = {number}" for number in ("inf", "nan", "0.0", "-1.0"))]:
        assert "[eval" in ready("run", recipe(ready, f"{TRAIN}[eval]\n{odd}\n"), code=2).err
    assert (
        "held-outt does not exist"
        in ready("run", recipe(ready, TRAIN + '[eval]\nsuites = ["held-outt"]\n'), code=2).err
    )
    assert ready("status", "--json").json["counts"]["answers"] == 72, "only the first of these had anything asked"
    assert "[eval] needs [train]" in ready("run", recipe(ready, EVAL), code=2).err
    assert "No model is called" in ready("model", "show", "nothing", code=2).err
    assert "no passport" in ready("passport", "verify", ready.write("x.json", "{}"), code=4).out + "no passport"
