"""Promise 4. Nothing is used that policy does not allow; unknown means no.

Decided so far at collection, when a dataset is formed, and before a training. Not covered yet: import, mixing, release, waivers.
"""

import re

import pytest


def add(home, url, code=0, **changes):
    given = {
        "kind": "openai", "model": "m", "lab": "testlab", "channel": "official", "terms": "licence/mit", "base-url": url,
    } | {key.replace("_", "-"): value for key, value in changes.items()}  # fmt: skip
    words = [word for key, value in given.items() if value for word in (f"--{key}", value)]
    return home("teacher", "add", "mock", *words, "--unmetered", "--json", code=code)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"terms": "no-such/terms@2026-01-01"}, "is not known"),
        ({"channel": "personal"}, "personal account"),
        ({"channel": "intermediary"}, "intermediary"),
        ({"channel": "unknown"}, "not known how it was reached"),
        ({"terms": "ChatGPT/Commercial Terms", "lab": "openai"}, "forbids competing models"),
        ({"terms": "Grok/Commercial Terms"}, "forbids training any model"),
        ({"terms": "Amazon Web Services/Terms of Service"}, "forbids generating content for training"),
        ({"terms": "OpenRouter/Terms of Service"}, "no terms of the model itself"),
    ],
)
def test_collecting_is_refused_with_the_rule(home, serve, changes, reason):
    server = serve()
    add(home, server.url, **changes)
    home.prompts(1)
    for command in ("run", "collect"):
        ran = home(command, home.recipe(), "--json", code=3)
        assert reason in ran.json["message"]
        assert ran.json["exit_code"] == 3
    assert server.requests == [], "nothing was asked"
    assert home("status", "--json").json["counts"]["refusals"] == 2, "and the refusal is evidence"


def test_collecting_to_evaluate_makes_no_training_data(home, serve):
    add(home, serve().url, terms="Grok/Commercial Terms", lab="xai")
    home.prompts(3)
    done = home("run", home.recipe(purpose="evaluate", samples=2), "--json").json
    assert (done["answers"], done["rows"]) == (6, 0)
    funnel = home("dataset", "show", "example", "--json").json["funnel"]
    assert funnel[-1]["step"] == "allowed"
    assert funnel[-1]["dropped"] == {"denied": funnel[-2]["kept"]}


def test_organisation_facts_change_decisions_and_are_read_from_the_home(home, serve):
    server = serve()
    add(home, server.url, terms="ChatGPT/Commercial Terms", lab="openai")
    home.prompts(1)
    home("run", home.recipe(samples=2), code=3)
    (home.home / "config.toml").write_text('[organisation]\ncompetes_with = ["someone else"]\n')
    home("run", home.recipe(samples=2))
    assert home("policy", "check", "example", "--use", "train", "--json").json["denied"] == 0
    (home.home / "config.toml").write_text('[organisation]\ncompetes_with = ["openai"]\n')
    denied = home("policy", "check", "example", "--use", "train", "--json", code=3).json
    assert (denied["allowed"], denied["denied"]) == (0, 1)
    assert "competes with openai" in denied["reasons"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "https://api.openai.com/v1"},
        {"base_url": "https://openrouter.ai/api/v1"},
        {"base_url": "https://x.openai.azure.com", "channel": "official"},
        {"base_url": "", "lab": "mylab", "channel": "open-weights"},
        {"base_url": "", "lab": "openai", "channel": "official"},
        {"base_url": "", "kind": "anthropic", "lab": "anthropic", "channel": "official"},
    ],
)
def test_a_known_host_that_contradicts_its_declaration_is_refused(home, changes):
    ran = add(home, "", code=3, **changes)
    assert ran.json["error"] == "TeacherContradiction"
    assert "mock" not in [teacher["name"] for teacher in home("teacher", "list", "--json").json]


@pytest.mark.model
def test_known_weights_that_contradict_their_declaration_are_refused(home, embedded):
    words = [
        "teacher",
        "add",
        "mine",
        "--kind",
        "local",
        "--model",
        "m",
        "--channel",
        "open-weights",
        "--weights",
        embedded,
    ]
    ran = home(*words, "--lab", "me", "--terms", "licence/apache-2.0", code=3)
    assert "SmolLM2" in ran.err
    home(*words, "--lab", "huggingface", "--terms", "licence/apache-2.0")


def test_weights_that_changed_since_are_refused(home, tiny_model, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    words = ["teacher", "add", "mock", "--kind", "local", "--model", "m", "--lab", "l", "--channel", "open-weights"]
    home(*words, "--terms", "licence/mit", "--weights", copy)
    config = copy / "config.json"
    config.write_text(config.read_text().replace("512", "500"))
    home.prompts(1)
    assert "changed since" in home("run", home.recipe(max_tokens=8), code=3).err


def test_a_recipe_cannot_widen_what_was_registered(home, serve):
    add(home, serve().url)
    home.prompts(1)
    recipe = home.recipe()
    recipe.write_text(recipe.read_text().replace('use = "mock"', 'use = "mock"\nterms = ["licence/mit"]'))
    assert "unknown key `terms` in [teacher]" in home("run", recipe, code=2).err


def test_explanations_name_the_rule(home, serve):
    add(home, serve().url, terms="licence/llama-3.1")
    decisions = {decision["use"]: decision for decision in home("policy", "explain", "mock", "--json").json}
    assert decisions["train"]["allowed"]
    assert 'display "Built with Llama"' in decisions["train"]["duties"]
    assert "licence/llama-3.1@2024-07-23" in decisions["train"]["reason"]
    asof = home(
        "terms", "asof", "--service", "Llama API", "--document", "Terms of Service", "--date", "2026-07-08", "--use",
        "train", "--json",
    ).json  # fmt: skip
    assert (asof["verdict"], asof["decision"], asof["observed"]) == ("no-competing-model", "deny", "2026-07-08")


@pytest.fixture
def stored(home, tiny_model, sandboxed):
    """A dataset that was formed to be stored only, from a teacher whose terms forbid training on its answers."""
    pytest.importorskip("peft")
    home.prompts(2)
    recording = home.recording([{"task": f"t{n}", "text": "```\ndef f(x): return x + 1\n```"} for n in range(2)])
    words = ["teacher", "add", "grok", "--kind", "replay", "--model", "m", "--lab", "xai", "--channel", "official"]
    home(*words, "--terms", "Grok/Commercial Terms", "--weights", recording)
    words = [
        "teacher",
        "add",
        "tiny",
        "--kind",
        "local",
        "--model",
        "m",
        "--lab",
        "testlab",
        "--channel",
        "open-weights",
    ]
    home(*words, "--terms", "licence/mit", "--weights", tiny_model)
    recipe = home.recipe("grok", purpose="evaluate", dataset="forbidden")
    recipe.write_text(recipe.read_text() + 'use = "store"\n[train]\nstudent = "tiny"\n')
    return home, recipe


def test_training_is_refused_with_rows_rule_and_remedy(stored):
    home, recipe = stored
    for command in ("train", "run"):
        refused = home(command, recipe, code=3)
        assert re.search(r"2 of 2 rows of forbidden@1 may not be used to train: xai: .* forbids training", refused.err)
        assert "policy check forbidden@1 --use train" in refused.err
    assert home("model", "list", "--json").json == []
    assert home("status", "--json").json["counts"]["refusals"] == 2
    assert not (home.home / "trainings").exists(), "not a step was taken"


def test_what_is_refused_to_its_rows_is_refused_to_a_model_s_answers(stored, tiny_model):
    """A model that learned from answers under conditions passes them on, under whatever name its weights are registered."""
    home, recipe = stored
    recipe.write_text(recipe.read_text().replace('use = "store"', ""))
    (home.home / "config.toml").write_text('[organisation]\ncompetes_with = ["nobody"]\n')
    words = ["teacher", "add", "openai", "--kind", "replay", "--model", "m", "--lab", "openai", "--channel", "official"]
    home(*words, "--terms", "ChatGPT/Commercial Terms", "--weights", home.folder / "answers.jsonl")
    recipe.write_text(recipe.read_text().replace("grok", "openai").replace("evaluate", "train"))
    done = home("train", recipe, "--json").json
    words = [
        "teacher",
        "add",
        "laundered",
        "--kind",
        "local",
        "--model",
        "m",
        "--lab",
        "me",
        "--channel",
        "open-weights",
    ]
    home(*words, "--terms", "licence/mit", "--weights", done["folder"])
    use = home.recipe("laundered", name="use.toml", dataset="second", max_tokens=4, keep=("truncated",))
    assert home("collect", use, "--plan", "--json").json["decisions"][1]["allowed"]
    (home.home / "config.toml").write_text('[organisation]\ncompetes_with = ["openai"]\n')
    refused = home("collect", use, code=3)
    assert "openai" in refused.err
    assert "competes with openai" in refused.err
