"""What of a request has a worst case, and what is refused by its name."""

import pytest

from stillhouse.home.plans.bounds import bound_of, unpriced_parameters

IMAGE = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
BASH = {"type": "bash_20250124", "name": "bash"}


def asked(*content, **more):
    return {"model": "m", "messages": [{"role": "user", "content": list(content) or "hi"}], **more}


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked({"type": "text", "text": "hi"}),
        asked(tools=[{"type": "function", "function": {}}, {"name": "f", "input_schema": {}}, BASH]),
        asked(tools=[{"type": "text_editor_20250728"}, {"type": "computer_20250124"}, {"type": "memory_20250818"}]),
        asked(
            tools=[{"type": "local_shell"}, {"type": "custom", "format": {}}, {"type": "namespace", "tools": [BASH]}]
        ),
        asked(service_tier="auto", modalities=["text"], client_metadata={"a": "b"}, metadata={"user_id": "u"}),
        asked(
            context_management={"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015"}]}
        ),
        asked(context_management=None),
        asked(context_management={"edits": []}),
        {"model": "m", "input": [{"type": "custom_tool_call_output", "call_id": "c", "output": "done"}]},
        {"model": "m", "input": [{"type": "local_shell_call_output", "output": "done"}, {"type": "reasoning"}]},
        asked({"type": "tool_result", "content": [{"type": "text", "text": "x"}]}),
    ],
)
def test_what_agents_send_has_a_bound(request_):
    assert bound_of(request_).unpriced == ""


@pytest.mark.parametrize(
    ("request_", "item"),
    [
        (asked(tools=[{"type": "web_search_20250305"}]), "tool web_search_20250305"),
        (asked(tools=[{"type": "web_search"}]), "tool web_search"),
        (asked(tools=[{"type": "namespace", "tools": [{"type": "web_search"}]}]), "tool web_search"),
        (asked(tools=[{"type": "mcp", "server_url": "x"}]), "tool mcp"),
        (asked(tools=[{"type": "bash_of_the_provider"}]), "tool bash_of_the_provider"),
        (asked(tools=["?"]), "tool ?"),
        (asked(context_management={"edits": [{"type": "compact_20260112"}]}), "context_management compact_20260112"),
        (asked(context_management=[{"type": "compaction"}]), "context_management compaction"),
        (asked(context_management={"compact": True}), "context_management"),
        (asked(context_management="auto"), "context_management"),
        (asked(modalities=["text", "audio"]), "modalities"),
        (asked(service_tier="priority"), "service_tier"),
        (asked(speed="fast"), "speed"),
        (asked(previous_response_id="r"), "previous_response_id"),
        (asked({"type": "document", "source": {}}), "content of type document"),
        (asked({"type": "input_audio"}), "content of type input_audio"),
        (asked({"type": "input_image", "file_id": "f"}), "content of type input_image that the provider has stored"),
        (asked({"type": "image", "source": {"type": "file", "file_id": "f"}}),
         "content of type image that the provider has stored"),
        (asked({"type": "tool_result", "content": [{"type": "document"}]}), "content of type document"),
        ({"model": "m", "input": [{"id": "stored"}]}, "a reference to what the provider has stored"),
        ({"model": "m", "input": [{"type": "item_reference", "id": "x"}]}, "content of type item_reference"),
        ({"model": "m", "prompt": {"id": "p"}}, "a stored prompt"),
    ],
)  # fmt: skip
def test_what_has_no_bound_is_refused_by_its_name(request_, item):
    assert bound_of(request_).unpriced == item


def test_images_and_tools_are_held_for_beyond_their_bytes():
    plain = bound_of(asked()).tokens
    one = bound_of(asked(IMAGE)).tokens
    assert plain == 0 < one
    assert bound_of(asked(IMAGE, {"type": "image_url", "image_url": {"url": "https://x/y.png"}})).tokens == 2 * one
    within = asked({"type": "tool_result", "content": [IMAGE]})
    assert bound_of(within).tokens == one, "a screenshot that a tool gave back"
    output = {"model": "m", "input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]}
    assert bound_of(output).tokens == one
    assert bound_of(asked(tools=[BASH])).tokens > bound_of(asked(tools=[{"name": "f"}])).tokens > 0


def test_a_recipes_own_ways_of_sampling_cost_nothing():
    assert unpriced_parameters({"top_a": 0.5, "tools": [{"type": "function"}]}) == ""
    assert unpriced_parameters({"plugins": [{"id": "web"}]}) == "plugins"
    assert unpriced_parameters({"tools": [{"type": "web_search"}]}) == "tool web_search"
    assert (
        unpriced_parameters({"context_management": {"edits": [{"type": "compact_1"}]}})
        == "context_management compact_1"
    )
