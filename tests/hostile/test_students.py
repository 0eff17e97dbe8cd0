"""Bad students, bad checkpoints, bad moments of a training: a clear message each, the right exit code, nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from stillhouse.generation.load_model import load  # noqa: E402
from stillhouse.students.student import save_model  # noqa: E402
from tests.conftest import Cli  # noqa: E402
from tests.hostile.test_files import unprivileged_mounts  # noqa: E402

CODE = "```\ndef f(x): return x + 1\n```"
TRAIN = '[train]\nstudent = "tiny"\nlearning_rate = 0.01\nepochs = {epochs}\n'
SHORT = TRAIN.format(epochs=2)
LONG = 500  # it is killed long before


def add_local(cli, weights, name="tiny"):
    words = ["teacher", "add", name, "--kind", "local", "--model", "m", "--lab", "testlab", "--channel", "open-weights"]
    return cli(*words, "--terms", "licence/apache-2.0", "--weights", weights)


def recipe(cli, more=SHORT, name="recipe.toml"):
    path = cli.recipe("recorded", name=name)
    path.write_text(path.read_text() + more)
    return path


def prepared(home, tiny_model):
    home.prompts(12)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{CODE} # {n}"} for n in range(12)]))
    add_local(home, tiny_model)
    return home


@pytest.fixture
def ready(home, tiny_model, sandboxed):
    return prepared(home, tiny_model)


@pytest.fixture(scope="session")
def once_stopped(tiny_model, sandboxed, tmp_path_factory):
    """A training that was killed after its first checkpoint, which takes ten seconds: each test gets a copy."""
    home = Cli(tmp_path_factory.mktemp("stopped"))
    home("init")
    path = recipe(prepared(home, tiny_model), TRAIN.format(epochs=LONG))
    process = home.start("train", path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((home.home / "trainings").glob("*/step-*/checkpoint.json")):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return home.folder, path.name


@pytest.fixture
def stopped(once_stopped, cli):
    """A training that was killed, and its recipe."""
    folder, name = once_stopped
    shutil.copytree(folder, cli.folder, dirs_exist_ok=True)
    return cli, cli.folder / name


def newest(cli):
    return sorted((cli.home / "trainings").glob("*/step-*"))[-1]


def test_a_flipped_byte_in_a_checkpoint(stopped):
    cli, path = stopped
    file = newest(cli) / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    ran = cli("train", path, code=4)
    assert f"{file} has other bytes than were written" in ran.err
    assert "Delete that checkpoint's folder" in ran.err
    assert cli("model", "list", "--json").json == []


def test_another_version_s_checkpoint(stopped):
    cli, path = stopped
    state = newest(cli) / "checkpoint.json"
    state.chmod(0o644)
    state.write_bytes(state.read_bytes().replace(b'"format":1', b'"format":2'))
    ran = cli("train", path, code=1)
    assert "format 2, this one knows 1" in ran.err
    assert "delete the folder" in ran.err


def test_a_dataset_revised_while_it_trained(stopped):
    """The version that is trained on does not change; the same recipe then learns the new version, from its start."""
    cli, path = stopped
    cli.home.joinpath("seen").write_text(str(newest(cli).parent.name))
    cli.recording([{"task": f"t{n}", "text": f"{CODE} # new {n}"} for n in range(12)])
    cli.add_replay(cli.folder / "answers.jsonl", "revised")
    path.write_text(path.read_text().replace('use = "recorded"', 'use = "revised"').replace(str(LONG), "2"))
    done = cli("train", path, "--json").json
    assert (done["dataset"], done["model"], done["steps"]) == ("example@2", "example@1", 2)
    shown = cli("model", "show", "example", "--json").json
    assert shown["dataset"] == "example@2"
    assert cli.home.joinpath("trainings", cli.home.joinpath("seen").read_text()).is_dir(), "the other can still go on"


def test_interrupted_it_says_so_and_goes_on(ready):
    path = recipe(ready, TRAIN.format(epochs=LONG))
    process = ready.start("train", path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((ready.home / "trainings").glob("*/step-*/checkpoint.json")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Interrupted" in err
    plans = ready("plan", "list", "--json").json
    assert [receipt["outcome"] for receipt in plans[-1]["receipts"]] == ["stopped"]


def test_an_empty_dataset(home, tiny_model, sandboxed):
    home.prompts(3)
    home.add_replay(home.recording([{"task": f"t{n}", "text": "no code"} for n in range(3)]))
    add_local(home, tiny_model)
    ran = home("train", recipe(home), code=1)
    assert "There is nothing to learn from. example@1 has no row." in ran.err
    assert "dataset show" in ran.err


def test_one_record(home, tiny_model, sandboxed):
    home.prompts(1)
    home.add_replay(home.recording([{"task": "t0", "text": CODE}]))
    add_local(home, tiny_model)
    assert home("train", recipe(home), "--json").json["steps"] == 2


def test_records_longer_than_the_context(home, tiny_model, sandboxed):
    home.prompts(3)
    rows = [{"task": "t0", "text": CODE}, {"task": "t1", "text": CODE + "\n#" + "x" * 600}]
    home.add_replay(home.recording([*rows, {"task": "t2", "text": "z" * 700 + CODE}]))
    add_local(home, tiny_model)
    done = home("train", recipe(home), "--json").json
    assert done["left_out"] == {"longer than the context of 512 tokens": 2}
    assert home("model", "show", "example", "--json").json["rows"] == 1


def test_a_loss_that_is_no_number(ready, tiny_model, tmp_path):
    loaded = load(tiny_model, dtype="float32", cache=tmp_path)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight.fill_(float("nan"))
    save_model(loaded, tmp_path / "nan")
    add_local(ready, tmp_path / "nan", "broken")
    ran = ready("train", recipe(ready, TRAIN.format(epochs=1).replace("tiny", "broken")), code=1)
    assert "The loss is not a finite number any more. (step 1 of" in ran.err
    assert "learning_rate" in ran.err


def test_a_distribution_over_other_tokens(ready, tiny_model, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(tiny_model, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    add_local(ready, folder, "other")
    more = TRAIN.format(epochs=1) + 'signal = "forward-kl"\nteacher = "other"\n'
    ran = ready("train", recipe(ready, more), code=1)
    assert "cut text into different tokens" in ran.err
    assert "'a' is number" in ran.err


def test_an_evaluation_for_which_the_context_has_no_room(ready):
    words = ["model", "eval", "tiny", "--suite", "prompts.jsonl", "--split", "", "--samples", "1"]
    ran = ready(*words, "--max-tokens", "600", code=1)
    assert "the prompt leaves no room in the model's 512 tokens" in ran.err
    assert "Lower max_tokens" in ran.err
    ready.prompts(2)
    long = {
        "id": "long",
        "messages": [{"role": "user", "content": "x" * 490}],
        "entry_point": "f",
        "tests": "def check(f): pass",
    }
    with (ready.folder / "prompts.jsonl").open("a") as file:
        file.write(json.dumps(long) + "\n")
    ran = ready(*words, "--max-tokens", "30", "--json")
    assert ran.json["tasks"] == 2
    assert "1 tasks leave tiny no room" in ran.err


def test_adapters_are_not_taken_for_a_model(ready, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "adapters")
    (tmp_path / "adapters" / "adapter_config.json").write_text("{}")
    words = ["teacher", "add", "a", "--kind", "local", "--model", "m", "--lab", "l", "--channel", "open-weights"]
    ran = ready(*words, "--terms", "licence/mit", "--weights", tmp_path / "adapters", code=1)
    assert "holds adapters to weights that stand elsewhere" in ran.err
    assert "Merge them" in ran.err


def test_a_student_whose_weights_were_changed_after_policy_looked(ready, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "mine")
    add_local(ready, tmp_path / "mine", "mine")
    with (tmp_path / "mine" / "config.json").open("a") as config:
        config.write(" ")
    ran = ready("train", recipe(ready, SHORT.replace("tiny", "mine")), code=3)
    assert "have changed since they were registered" in ran.err


def test_weights_that_nobody_registered(ready, tiny_model, tmp_path):
    loaded = load(tiny_model, dtype="float32", cache=tmp_path)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight.add_(1)
    save_model(loaded, tmp_path / "stray")
    ran = ready("train", recipe(ready, f'[train]\nstudent = "{tmp_path / "stray"}"\n'), code=3)
    assert "the origin of these weights is not recorded" in ran.err
    assert "stillhouse teacher add NAME --kind local" in ran.err


def test_a_hub_name_without_a_network_and_one_that_was_fetched(ready, tiny_model, tmp_path):
    hub = tmp_path / "hub"
    snapshot = hub / "models--somebody--tiny" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(tiny_model, snapshot)
    (hub / "models--somebody--tiny" / "refs").mkdir()
    (hub / "models--somebody--tiny" / "refs" / "main").write_text("0123")
    named = TRAIN.format(epochs=1).replace("tiny", "somebody/tiny")
    offline = {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    assert ready.process("train", recipe(ready, named), "--json", **offline).json["model"] == "example@1"
    absent = recipe(ready, named.replace("somebody", "nobody"))
    ran = ready.process("train", absent, code=1, **offline)
    assert "nobody/tiny is no path here, and the hub does not give it" in ran.err


@pytest.mark.skipif(not unprivileged_mounts(), reason="this machine lets nobody mount a small file system")
def test_a_full_disk_at_a_checkpoint(ready, tmp_path):
    """On a disk too small for a checkpoint the training stops with a message; with room it goes on from what it had."""
    path = recipe(ready, TRAIN.format(epochs=2) + 'method = "full"\n')
    ready("collect", path)
    seed = tmp_path / "seed"
    shutil.copytree(ready.home, seed)
    size = sum(file.stat().st_size for file in seed.rglob("*") if file.is_file()) // 1024 + 400
    command = f"{sys.executable} -m stillhouse train {path} --json"
    script = f"mount -t tmpfs -o size={size}k tmpfs {ready.home} && cp -r {seed}/. {ready.home}/ && {command}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script], env=ready.environment, cwd=ready.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stdout + done.stderr
    error = json.loads(done.stdout)
    assert error["error"] == "StorageError", error
    assert "No space" in error["message"] or "full" in error["message"], error
    assert ready("train", path, "--json").json["model"] == "example@1"


def test_two_trainings_of_one_name_at_once(ready):
    path = recipe(ready, TRAIN.format(epochs=LONG))
    process = ready.start("train", path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((ready.home / "locks").glob("train-example*")):
        time.sleep(0.02)
    ran = ready("train", path, code=1)
    assert "Another run is at work on this" in ran.err
    process.kill()
    process.communicate()


def test_a_model_whose_facts_were_not_written_is_made_again(ready):
    """A kill between the folder's rename and the facts: the folder is no model, and the next run makes it again."""
    path = recipe(ready)
    (ready.home / "models" / "example-1").mkdir(parents=True)
    (ready.home / "models" / "example-1" / "half").write_text("x")
    done = ready("train", path, "--json").json
    assert not Path(done["folder"], "half").exists()


def test_a_home_key_that_others_can_read(ready):
    ready("train", recipe(ready))
    ready("passport", "write", "example")
    key = ready.home / "keys" / "home.key"
    assert key.stat().st_mode & 0o777 == 0o600
    os.chmod(key, 0o644)
    ran = ready("passport", "write", "example", code=1)
    assert "can be read by others" in ran.err
    assert "chmod 600" in ran.err
    os.chmod(key, 0o600)
    key.write_text("nonsense")
    assert "holds no private key" in ready("passport", "write", "example", code=1).err
