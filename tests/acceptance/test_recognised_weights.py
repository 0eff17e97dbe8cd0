"""A model that comes back under another name, licence and shape is the model that it was; its base and its siblings are not."""

import json
import shutil

import pytest

from tests.acceptance.test_access import TRAIN, import_rival, revoke, rows
from tests.acceptance.test_student import RIGHT, add_local


@pytest.fixture(scope="module")
def laundry(tmp_path_factory, tiny_model):
    """A home with a model that learned from a rival, and one that did not; then the rival revokes access."""
    pytest.importorskip("peft")
    from tests.conftest import Cli

    home = Cli(tmp_path_factory.mktemp("laundry"))
    home("init")
    home.prompts(4)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(4)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "february.jsonl", 200, 4), "february", "2026-02-01")
    for name, mix in (("mixed", ["february"]), ("clean", [])):
        path = home.recipe("recorded", name=f"{name}.toml", dataset=name)
        named = f'name = "{name}"'
        path.write_text(path.read_text().replace(named, f"{named}\nmix = {json.dumps(mix)}") + TRAIN)
        home("run", path)
    revoke(home)
    return home


def changed(home, name, source, change):
    """A copy of a model's folder whose tensors were changed; config, tokenizer and names of files differ, too."""
    from safetensors.torch import load_file, save_file

    target = home.folder / name
    shutil.copytree(source, target)
    for file in ("passport.json", "model.sig", "generation_config.json"):
        (target / file).unlink(missing_ok=True)
    tensors = change(load_file(target / "model.safetensors"))
    (target / "model.safetensors").unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / "weights-of-mine.safetensors")
    return target


def may_train(home, name, folder):
    words = ["teacher", "add", name, "--kind", "local", "--model", "m", "--lab", "me", "--channel", "open-weights"]
    home(*words, "--terms", "licence/mit", "--weights", folder)
    found = {one["use"]: one for one in home("policy", "explain", name, "--json").json}["train"]
    assert found["allowed"] or "revoked access" in found["reason"], found["reason"]
    return found["allowed"]


def folder_of(home, label):
    return home.home / home("model", "show", label, "--json").json["folder"]


def cast(tensors):
    import torch

    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def one_value(tensors):
    next(iter(tensors.values())).view(-1)[0] = 7.0
    return tensors


def test_a_changed_copy_is_still_that_model(laundry):
    source = folder_of(laundry, "mixed@1")
    for name, change in (("plain", dict), ("cast", cast), ("one-value", one_value)):
        assert not may_train(laundry, f"copy-{name}", changed(laundry, name, source, change)), name
    edges = laundry("lineage", "impact", "model:mixed@1", "--json").json
    assert "teacher:copy-cast" in json.dumps(edges)


def test_the_base_and_a_sibling_inherit_nothing(laundry, tiny_model):
    for name, source in (("base", tiny_model), ("sibling", folder_of(laundry, "clean@1"))):
        for form, change in (("plain", one_value), ("cast", cast)):
            assert may_train(laundry, f"{name}-{form}", changed(laundry, f"{name}-{form}", source, change)), (
                name,
                form,
            )


def test_a_child_that_names_other_parents_inherits_from_what_it_is(laundry):
    copy = changed(laundry, "child", folder_of(laundry, "mixed@1"), cast)
    laundry("model", "derive", "child", "--from", "clean@1", "--how", "merged", "--weights", copy)
    labs = {stamp["lab"] for stamp in laundry("model", "show", "child", "--json").json["origins"]}
    assert "rival" in labs


def half(tensors):
    import torch

    return {name: tensor.to(torch.float16) for name, tensor in tensors.items()}


def test_weights_that_were_found_to_be_no_copy_are_what_they_are_declared_to_be(laundry):
    copy = changed(laundry, "disputed", folder_of(laundry, "mixed@1"), half)
    words = ["policy", "not-a-copy", copy, "--reviewer", "ada", "--evidence", laundry.write("e.txt", "Compared.")]
    assert "not recognised" in laundry(*words, "--reason", "r", code=2).err
    assert not may_train(laundry, "disputed", copy)
    laundry(*words, "--reason", "r")
    found = {one["use"]: one for one in laundry("policy", "explain", "disputed", "--json").json}
    assert found["train"]["allowed"]
    other = changed(laundry, "disputed-2", folder_of(laundry, "mixed@1"), one_value)
    assert not may_train(laundry, "disputed-2", other), "a finding is about these weights alone"


def test_weights_of_a_registered_teacher_are_its_own_under_every_other_name(laundry, tiny_model):
    """A model that is said to be derived adds to what the teacher's registration says, and takes nothing away."""
    copy = changed(laundry, "theirs", tiny_model, half)
    words = [
        "teacher",
        "add",
        "theirs",
        "--kind",
        "local",
        "--model",
        "m",
        "--lab",
        "rival",
        "--channel",
        "open-weights",
    ]
    laundry(*words, "--terms", "licence/llama-2", "--weights", copy)
    before = laundry("policy", "explain", "theirs", "--json").json
    assert not any(one["allowed"] for one in before if one["use"] == "train")
    laundry("model", "derive", "laundered", "--from", "tiny", "--how", "fine-tuned", "--weights", copy)
    for name in ("theirs", "laundered@1"):
        found = {one["use"]: one for one in laundry("policy", "explain", name, "--json").json}
        assert not found["train"]["allowed"], name


def test_two_models_that_were_spliced_are_both_known(laundry):
    from safetensors.torch import load_file

    mixed = load_file(folder_of(laundry, "mixed@1") / "model.safetensors")
    names = sorted(mixed)[::2]

    def splice(tensors):
        return {name: mixed[name] if name in names else tensor for name, tensor in tensors.items()}

    spliced = changed(laundry, "spliced", folder_of(laundry, "clean@1"), splice)
    assert not may_train(laundry, "spliced", spliced)


def test_an_index_names_no_file_that_the_digest_does_not_cover(laundry):
    copy = changed(laundry, "indexed", folder_of(laundry, "clean@1"), one_value)
    (copy / "sub").mkdir()
    shutil.copyfile(folder_of(laundry, "mixed@1") / "model.safetensors", copy / "sub" / "x.safetensors")
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "sub/x.safetensors"}}')
    words = ["teacher", "add", "indexed", "--kind", "local", "--model", "m", "--lab", "me", "--channel", "open-weights"]
    refused = laundry(*words, "--terms", "licence/mit", "--weights", copy, code=None)
    assert refused.code == 1
    assert "no file of the folder itself" in refused.err


def test_what_else_lies_beside_the_tensors_is_passed_over(laundry, tiny_model):
    import torch

    copy = changed(laundry, "trained-elsewhere", tiny_model, lambda tensors: half(one_value(tensors)))
    torch.save({"learning_rate": torch.nn.Linear(1, 1)}, copy / "training_args.bin")
    assert may_train(laundry, "trained-elsewhere", copy)
