"""Names of labs and models: every way to write one leads to the same lab, and none to another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.permission.known_names import closed_labs, fold_lab, fold_model, lab_of_model, labs_in

ROUTES = ["", "azure/", "azure_ai/", "models/", "vertex_ai/", "bedrock/", "bedrock/converse/", "openrouter/", "together_ai/",
          "accounts/fireworks/models/", "github_copilot/", "litellm_proxy/", "publishers/google/models/"]  # fmt: skip
MODELS = {
    "gpt-4o": "openai", "gpt5": "openai", "GPT-4.1-mini": "openai", "o3-mini": "openai", "codex-mini-latest": "openai",
    "code-davinci-002": "openai", "ChatGPT-4o-latest": "openai", "claude-sonnet-4-5": "anthropic", "sonnet-4": "anthropic",
    "opus-4.1": "anthropic", "gemini-2.5-pro": "google", "gemma-3-27b-it": "google", "grok-4": "xai", "qwen3-32b": "qwen",
    "deepseek-v3.1": "deepseek", "kimi-k2": "moonshot", "mistral-large-2411": "mistral", "llama-3.3-70b": "meta",
    "glm-4.6": "zhipu", "MiniMax-M2": "minimax", "command-r-plus": "cohere",
}  # fmt: skip


def wide(text: str) -> str:
    return "".join(
        chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" and letter not in "/:" else letter for letter in text
    )


@pytest.mark.parametrize("written", [str, str.upper, wide, lambda name: f" {name} "])
@pytest.mark.parametrize(("model", "lab"), MODELS.items())
def test_a_route_and_a_spelling_change_nothing(model, lab, written):
    routes = [route for route in ROUTES if lab == "google" or not route.startswith("publishers/google")]
    names = [written(f"{route}{model}") for route in routes]
    assert {name: lab_of_model(name) for name in names} == dict.fromkeys(names, lab)
    assert [name for name in names if lab not in labs_in(name)] == []


@pytest.mark.parametrize(
    ("name", "lab"),
    [
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "openai"), ("acme/gpt-4o", "openai"),
        ("us.anthropic.claude-3-haiku", "anthropic"),
        ("bedrock/us.anthropic.claude-3-5-sonnet-v2:0", "anthropic"), ("openai/qwen3-coder", "qwen"),
        ("openai/gpt-4o", "openai"),
        ("models/gemini-1.5-pro", "google"), ("x-ai/grok-4", "xai"), ("@cf/meta/llama-3-8b", "meta"),
        ("acme/llama-3-tuned", "acme"),
        ("azure/gpt-4o", "openai"), ("azure/my-deployment", ""), ("openrouter/auto", ""),
    ],
)  # fmt: skip
def test_whose_a_name_is(name, lab):
    assert lab_of_model(name) == lab


@pytest.mark.parametrize(
    ("called", "lab"),
    [("x-ai", "xai"), ("X.AI", "xai"), ("claude", "anthropic"), ("ChatGPT", "openai"), (" OpenAI ", "openai"),
     ("gemini", "google"),
     ("OpenAI, L.L.C.", "openai"), ("Anthropic, PBC", "anthropic"), ("Mistral AI SAS", "mistral"), ("Azure OpenAI", "openai"),
     ("Meta Platforms, Inc.", "meta"), ("Amazon Bedrock", "amazon"), ("acme ltd", "acme ltd"), ("co", "co"),
     ("ｏｐｅｎａｉ", "openai"), ("kimi", "moonshot"), ("z-ai", "zhipu"), ("acme", "acme"), ("", "")],
)  # fmt: skip
def test_whichever_way_a_lab_is_called(called, lab):
    assert fold_lab(called) == lab


@pytest.mark.parametrize(
    "name",
    ["gpt-oss-120b", "gpt2", "gpt-2-xl", "gpt-neo-2.7b", "mini-gpt", "my-gpt", "gemma-3", "grok-1", "grok-2", "opus-mt-en-de",
     "llama-gptq", "qwen3", "o1000", "commander-1", "EleutherAI/gpt-j-6b"],
)  # fmt: skip
def test_what_has_open_weights_or_is_nobody_s_is_not_closed(name):
    assert closed_labs(name) == frozenset()


CLOSED = {model: lab for model, lab in MODELS.items() if lab in ("openai", "anthropic", "xai")}


@pytest.mark.parametrize(("model", "lab"), CLOSED.items())
@pytest.mark.parametrize("pattern", ["{}", "acme/{}", "azure/{}", "eu.x.{}", "ft:{}:acme::1"])
def test_closed_models_are_known_through_whichever_name(model, lab, pattern):
    assert lab in closed_labs(pattern.format(model))


@given(st.text(max_size=40))
def test_any_text_is_a_name_that_folds_once(text):
    assert fold_model(fold_model(text)) == fold_model(text)
    assert fold_lab(fold_lab(text)) == fold_lab(text)
    assert isinstance(labs_in(text), frozenset)
    closed_labs(text)
