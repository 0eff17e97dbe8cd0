"""Which requests have a worst case: what in one is billed by the token and bounded, and what is refused by name. Pure.

Covered: requests in OpenAI's and Anthropic's dialects, fields, parts, tools and items by their documented names. A name that is
not listed is refused: whatever a provider invents next has no price here until it stands here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# The most that one picture is billed at, whatever its size: gpt-4o-mini's 2,833 and 8 tiles of 5,667 (OpenAI, "Images and
# vision", 2026); Anthropic's are at most 4,784.
_TOKENS_OF_AN_IMAGE = 50_000
# What a provider adds to a prompt that has tools, in tokens: its own system prompt (Anthropic: at most 804) and the schema of
# each tool that is known by its type alone (at most 735, "computer use"). Doubled, since it is published for some models only.
_TOKENS_OF_TOOLS, _TOKENS_OF_A_TOOL = 1_600, 1_500

# Fields whose tokens are bounded by the bytes of the request and its limit, at the price of this model.
_FIELDS = frozenset(
    {
        "model", "messages", "system", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature",
        "top_p", "top_k", "n", "best_of", "stop", "stop_sequences", "stream", "stream_options", "seed",
        "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "text",
        "tools", "tool_choice", "parallel_tool_calls", "reasoning", "reasoning_effort", "thinking", "user",
        "metadata", "client_metadata", "store", "input", "instructions", "truncation", "include", "prompt", "suffix",
        "echo", "encoding_format", "dimensions", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "verbosity", "functions", "function_call", "service_tier", "modalities", "output_config", "output_format",
        "cache_control", "background", "context_management", "diagnostics", "min_p", "repetition_penalty",
        "chat_template_kwargs",
    }
)  # fmt: skip
# Fields that are priced only with these values.
_PLAIN_VALUES: dict[str, tuple[Any, ...]] = {
    "modalities": (None, ["text"]),
    "service_tier": (None, "auto", "default", "standard_only"),
}
# Fields that are billed otherwise than by the token, or whose tokens are nowhere in the request.
_DENIED = frozenset({"audio", "web_search_options", "prediction", "plugins", "container", "mcp_servers"})
# Tools that the client runs: they cost the tokens that they are, and nothing else. Anthropic's end in a date.
_CLIENT_TOOLS = frozenset({"function", "custom", "local_shell", "apply_patch", "namespace"})
_DATED_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
# Edits of a context that only take away from it. Those that write a summary run the model once more, without a limit.
_TAKES_AWAY = "clear_"
# Parts of a message that are text and nothing else: their bytes bound their tokens.
_TEXT = frozenset(
    {
        "text", "input_text", "output_text", "refusal", "tool_use", "tool_result", "thinking", "redacted_thinking",
        "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
        "local_shell_call", "local_shell_call_output", "apply_patch_call", "apply_patch_call_output", "reasoning",
        "summary_text", "reasoning_text", "additional_tools",
    }
)  # fmt: skip
_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
_IMAGE_FIELDS = ("image_url", "source", "file_id")


class Bound(NamedTuple):
    """What a request may cost beyond its bytes and its limit, in prompt tokens; ``unpriced`` names what has no bound."""

    tokens: int = 0
    unpriced: str = ""


def bound_of(request: Mapping[str, Any]) -> Bound:
    """The bound of a request, or the first thing in it that has none."""
    for problem in _problems(request):
        return Bound(unpriced=problem)
    images = sum(kind in _IMAGES for kind, _ in _parts(request))
    tools = _tools(request)
    beside = _TOKENS_OF_TOOLS * bool(tools) + _TOKENS_OF_A_TOOL * sum(_is_dated(tool) for tool in tools)
    return Bound(beside + _TOKENS_OF_AN_IMAGE * images)


def unpriced_parameters(parameters: Mapping[str, Any]) -> str:
    """What has no price in the parameters that a recipe adds to its requests; empty where everything has.

    Their names are the recipe's own, so those that are not known (a server's ways of sampling) cost nothing.
    """
    denied = sorted(_DENIED & {name for name, value in parameters.items() if value is not None})
    return next(iter(denied), "") or next(_problems_of_values(parameters), "")


def _problems(request: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in sorted(request) if name not in _FIELDS)
    yield from _problems_of_values(request)


def _problems_of_values(request: Mapping[str, Any]) -> Iterator[str]:
    for name, values in _PLAIN_VALUES.items():
        if name in request and request[name] not in values:
            yield name
    if isinstance(request.get("prompt"), dict):
        yield "a stored prompt"
    yield from _problems_of_tools(request)
    yield from _problems_of_context(request.get("context_management"))
    items = request.get("input")
    if isinstance(items, list) and any(isinstance(item, dict) and not item.keys() & {"role", "type"} for item in items):
        yield "a reference to what the provider has stored"
    for kind, part in _parts(request):
        if kind in _IMAGES:
            if part.get("file_id") or _source_type(part) == "file":
                yield f"content of type {kind} that the provider has stored"
        elif kind not in _TEXT:
            yield f"content of type {kind}"


def _problems_of_tools(request: Mapping[str, Any]) -> Iterator[str]:
    for tool in _tools(request):
        kind = str(tool.get("type") or "custom") if isinstance(tool, dict) else "?"
        if kind not in _CLIENT_TOOLS and not _is_dated(tool):
            yield f"tool {kind}"


def _problems_of_context(given: Any) -> Iterator[str]:
    edits = given.get("edits") if isinstance(given, dict) else given
    if given is None or (isinstance(given, dict) and set(given) <= {"edits"} and edits is None):
        return
    if not isinstance(edits, list) or (isinstance(given, dict) and set(given) - {"edits"}):
        yield "context_management"
        return
    for edit in edits:
        kind = str(edit.get("type") or "?") if isinstance(edit, dict) else "?"
        if not kind.startswith(_TAKES_AWAY):
            yield f"context_management {kind}"


def _tools(request: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    stack = [request.get("tools"), request.get("functions")]
    stack += [item.get("tools") for item in _listed(request.get("input")) if isinstance(item, dict)]
    while stack:
        for tool in _listed(stack.pop()):
            found.append(tool)
            if isinstance(tool, dict) and tool.get("type") == "namespace":
                stack.append(tool.get("tools"))
    return found


def _is_dated(tool: Any) -> bool:
    kind = str(tool.get("type") or "") if isinstance(tool, dict) else ""
    return kind.startswith(_DATED_CLIENT_TOOLS) and kind.rpartition("_")[2].isdigit()


def _parts(request: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every typed part of a request's conversation, those within results of tools included."""
    stack: list[Any] = [request.get("messages"), request.get("input"), request.get("system")]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            kind = item.get("type")
            if isinstance(kind, str):
                yield kind, item
            elif "role" not in item and any(name in item for name in _IMAGE_FIELDS):
                yield "a part without a type", item
            stack += [item.get("content")]
            # What a call gave back: a text, or parts.
            stack += [item["output"]] if isinstance(item.get("output"), list | dict) else []


def _source_type(part: Mapping[str, Any]) -> str:
    source = part.get("source")
    return str(source.get("type") or "") if isinstance(source, dict) else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
