"""A base model has no chat template: the recipe brings one, or the training is refused before anything is done."""

import json
import shutil

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.acceptance.test_student import EVAL, RIGHT, TRAIN, add_local, recipe  # noqa: E402


@pytest.fixture
def base(home, tiny_model, sandboxed, tmp_path):
    """A home whose student is a base model."""
    weights = tmp_path / "base"
    shutil.copytree(tiny_model, weights)
    (weights / "chat_template.jinja").unlink(missing_ok=True)
    said = json.loads((weights / "tokenizer_config.json").read_text())
    said.pop("chat_template", None)
    (weights / "tokenizer_config.json").write_text(json.dumps(said))
    home.prompts(8)
    rows = [{"task": f"t{n}", "text": f"{RIGHT} # {n}.{s}", "sample": s} for n in range(8) for s in range(3)]
    home.add_replay(home.recording(rows))
    add_local(home, weights)
    return home


def test_it_is_refused_before_the_first_step_and_says_what_to_write(base):
    ran = base("train", recipe(base, TRAIN), code=1)
    assert "Its tokenizer has no chat template." in ran.err
    assert 'chat_template = "chatml"' in ran.err
    assert base("model", "list", "--json").json == []
    assert not list((base.home / "trainings").glob("*/step-*"))


def test_chatml_by_name_is_learned_evaluated_and_saved(base):
    done = base("run", recipe(base, TRAIN + 'chat_template = "chatml"\n' + EVAL), "--json").json
    assert set(done["eval"]["prompts.jsonl"]) >= {"before", "after"}, "the base model is asked with it, too"
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.home / "models" / "example-1")
    turn = [{"role": "user", "content": "x"}]
    written = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert written == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    words = [
        "model",
        "eval",
        "example",
        "--suite",
        "prompts.jsonl",
        "--split",
        "",
        "--samples",
        "1",
        "--max-tokens",
        "9",
    ]
    assert base(*words, "--json").json["tasks"] == 8
    again = base("run", recipe(base, TRAIN + 'chat_template = "chatml"\n' + EVAL), "--json").json
    assert (again["model"], again["eval"]) == (done["model"], done["eval"])


def test_a_template_of_a_file_is_kept_with_the_recipe(base):
    template = base.write(
        "own.jinja", "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}[answer] "
    )
    done = base("train", recipe(base, TRAIN + 'chat_template = "own.jinja"\n'), "--json").json
    tokenizer = transformers.AutoTokenizer.from_pretrained(done["folder"])
    assert tokenizer.chat_template == template.read_text()
    template.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    other = base("train", recipe(base, TRAIN + 'chat_template = "own.jinja"\n'), "--json").json
    assert other["model"] == "example@2", "another template is another training"


def test_a_template_takes_the_place_of_the_student_s_own(home, tiny_model, sandboxed):
    home.prompts(4)
    home.add_replay(home.recording([{"task": f"t{n}", "text": RIGHT} for n in range(4)]))
    add_local(home, tiny_model)
    done = home("train", recipe(home, TRAIN + 'chat_template = "chatml"\n'), "--json").json
    assert "<|im_start|>" in transformers.AutoTokenizer.from_pretrained(done["folder"]).chat_template


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"{{ nothing }}", "never mentions `messages`"),
    ],
)
def test_a_bad_file_is_a_mistake_in_the_recipe(base, content, said):
    if content is not None:
        (base.folder / "own.jinja").write_bytes(content)
    ran = base("train", recipe(base, TRAIN + 'chat_template = "own.jinja"\n'), code=2)
    assert said in ran.err
    assert "[train] chat_template" in ran.err


def test_a_template_that_jinja_cannot_read_leaves_every_record_out_by_name(base):
    base.write("own.jinja", "{% for m in messages %}{{ m['content'] }")
    ran = base("train", recipe(base, TRAIN + 'chat_template = "own.jinja"\n'), code=1)
    assert "the chat template refuses it" in ran.err
