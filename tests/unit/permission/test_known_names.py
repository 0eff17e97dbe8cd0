"""Names of labs and models: every way to write one leads to the same lab, and none to another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.permission.known_names import (
    closed_labs,
    fold_lab,
    fold_model,
    is_same_model,
    is_variant,
    lab_of_model,
    labs_in,
)

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


HOSTED_ALONE = {
    "qwen": ["qwenmax", "qwen3max", "qwen-max", "qwen3-max", "qwen-plus-latest", "qwen3-coder-plus", "qwen2.5-max",
    "qwen-vl-max"],
    "mistral": ["mistral-medium-2505", "mistral-medium-latest", "codestral-2508", "magistral-medium-2509",
    "mistral-saba-2502"],
    "amazon": ["amazon.nova-pro-v1:0", "us.amazon.nova-premier-v1:0", "nova-lite"],
    "bytedance": ["doubao-seed-1.6", "doubao-1.5-pro-32k", "seed-1.6"], "tencent": ["hunyuan-turbos-latest", "hunyuan-t1"],
    "baidu": ["ernie-4.0-8k", "ernie-x1", "ernie-4.5-turbo-128k"], "zhipu": ["glm-4-plus", "glm-4-air"],
    "moonshot": ["moonshot-v1-128k", "kimi-latest"], "01-ai": ["yi-large", "yi-lightning"], "perplexity": ["sonar",
    "sonar-pro"],
    "inception": ["mercury-coder-small", "mercury"], "cognition": ["swe-1.5"], "anysphere": ["composer-1"],
    "xai": ["grok-2-1212", "grok-2-vision", "grok_4", "Grok 4 fast"], "google": ["nano-banana-pro", "imagen-4", "veo-3",
    "learnlm-2.0"],
    "openai": ["gpt_4o", "GPT 4o", "gpt\u20114o", "gpt\u22124o", "g\u200bpt-4o", "gpt-image-1", "text-embedding-3-large",
    "acme-o3-mini",
               "o3mini", "o4mini", "o1mini", "o3pro", "openai_o3", "gpt-35-turbo", "babbage-002"],
    "anthropic": ["claudesonnet4", "claudeopus45", "claudehaiku45", "Sonnet 4.5", "Opus\u00a04.5", "sonnet", "3.5-sonnet",
    "claude_sonnet_4_5"], "writer": ["palmyra-x5"],
    "microsoft": ["mai-1-preview"], "minimax": ["abab6.5s-chat"], "ai21": ["j2-ultra"], "reka": ["reka-core"],
    "stepfun": ["step-1", "step-2-16k"], "inflection": ["inflection-3"], "maritaca": ["sabia-3"], "sber": ["GigaChat-Max"],
    "yandex": ["yandexgpt"], "naver": ["hcx-005"], "sensetime": ["sensechat-5"], "cohere": ["command-nightly"],
}  # fmt: skip


@pytest.mark.parametrize(("lab", "names"), HOSTED_ALONE.items())
def test_what_is_only_hosted_by_its_lab_is_closed(lab, names):
    assert [name for name in names if lab not in closed_labs(name)] == []
    assert [name for name in names if lab not in labs_in(name)] == []


OPEN = [
    "Qwen3-32B", "qwen3-235b-a22b-instruct-2507", "Qwen/Qwen3-Coder-480B-A35B-Instruct", "qwq-32b", "mistral-large-2411",
    "mistral-small-2506", "Mistral-Medium-3.5", "magistral-small-2506", "devstral-2512", "codestral-22b", "mixtral-8x7b",
    "hunyuan-large", "Hunyuan-A13B-Instruct", "ERNIE-4.5-300B-A47B-PT", "glm-4.6", "GLM-4.5-Air", "glm-4-9b", "kimi-k2",
    "Kimi-K2-Thinking",
    "moonlight-16b", "Yi-34B", "yi-coder-9b", "grok-1", "grok-2", "gpt-oss-120b", "gpt2-xl", "gpt-neo-2.7b", "Marco-o1",
    "Skywork-o1-Open",
    "claude2-alpaca-13b", "gpt4-x-alpaca", "codex-7b", "bard-7b", "gemma-3-27b-it", "seed-oss-36b", "Seed-Coder-8B",
    "MiniMax-M2",
    "GigaChat-20B-A3B-instruct", "YandexGPT-5-Lite-8B-instruct", "HyperCLOVAX-SEED-Think-14B", "c4ai-command-r-plus",
    "step-3", "MAI-DS-R1", "reka-flash-3", "jamba-large-1.6", "c4ai-command-a", "nova-1b", "deepseek-v3.1", "phi-4",
    "opus-mt-en-de",
    "llama-3.3-70b", "nemotron-3-nano", "granite-4", "lfm2-8b", "smollm2-135m-instruct",
]  # fmt: skip


def test_open_weights_are_not_closed():
    assert [name for name in OPEN if closed_labs(name)] == []


@pytest.mark.parametrize(
    ("wanted", "same", "others"),
    [
        ("claude-sonnet-4-5",
         ["anthropic/claude-sonnet-4.5", "claude_sonnet_4_5", "Claude Sonnet 4.5", "databricks-claude-sonnet-4-5",
          "claude-sonnet-4-5-thinking", "claude-4.5-sonnet", "anthropic/claude-4.5-sonnet-20250929", "sonnet-4.5",
          "anthropic--claude-4.5-sonnet", "claude-sonnet-4-5-high", "Claude Sonnet 4.5 (2025-09-29)",
          "claude-sonnet-4-5-20250929", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"],
         ["claude-sonnet-4", "claude-opus-4-5", "claude-sonnet-4-6", "claude-sonnet-5-4", "claude-4-sonnet"]),
        ("gpt-4o", ["gpt4o", "gpt_4o", "openai/gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-latest", "azure/gpt-4o",
    "ft:gpt-4o:acme::1", "azureml://registries/azure-openai/models/gpt-4o/versions/2024-08-06", "gpt-4o-eu",
    "gpt-4o-search-preview"],
         ["gpt-4o-mini", "gpt-4", "gpt-4.1", "gpt-5"]),
        ("gpt-4", ["gpt-4-0613", "gpt4"], ["gpt-4.1", "gpt-4o", "gpt-4-turbo", "gpt-41"]),
        ("gemini-2.5-pro", ["gemini-2.5-pro-preview-05-06", "gemini-pro-2.5", "models/gemini-2.5-pro",
        "google/gemini-2.5-pro-exp-03-25"],
         ["gemini-2.5-flash", "gemini-2.5"]),
        ("grok-4", ["grok4", "x-ai/grok-4", "grok-4-0709"], ["grok-4-fast", "grok-41"]),
        ("o3", ["openai-o3", "o3-2025-04-16"], ["o3-mini", "o31"]),
    ],
)  # fmt: skip
def test_one_model_by_all_its_spellings(wanted, same, others):
    """What a revocation of that model reaches."""
    assert [name for name in same if not is_variant(name, wanted)] == []
    assert [name for name in others if is_variant(name, wanted)] == []


VARIANTS = [
    ("o1-preview", "o1"),
    ("claude-sonnet-4-5-thinking", "claude-sonnet-4-5"),
    ("gemini-2.5-pro-exp-03-25", "gemini-2.5-pro"),
]


@pytest.mark.parametrize(("name", "wanted"), VARIANTS)
def test_a_variant_is_revoked_with_its_model_and_not_granted_with_it(name, wanted):
    assert is_variant(name, wanted)
    assert not is_same_model(name, wanted)


@pytest.mark.parametrize(
    "name", ["claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929[1m]", "gpt-4o-1m", "qwen-turbo-1m"]
)
def test_a_length_of_context_is_no_size(name):
    """A model that states its parameters is somebody's own; one that states its context may be closed."""
    assert closed_labs(name)


def test_a_length_of_context_makes_no_other_model():
    assert is_same_model("claude-sonnet-4-5-20250929[1m]", "claude-sonnet-4-5")
