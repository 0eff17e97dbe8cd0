"""What columns say beside a conversation, in every shape: taken into it, or named as what a row cannot hold."""

import json

import pytest

from stillhouse.datasets.corpora.row_shapes import ParsedRow, Skipped, read_row
from tests.unit.datasets.corpora.test_row_shapes import CHAT, COMPLETION, CURATOR, DISTILABEL

ANTHROPIC = {
    "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "max_tokens",
    "content": [{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "Hello"}],
    "usage": {"input_tokens": 3, "output_tokens": 4},
}  # fmt: skip
RESPONSE = {
    "object": "response", "model": "gpt-x", "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}],
}  # fmt: skip
SHAPES = {
    "chat": {"messages": list(CHAT)},
    "raw": {"messages": [CHAT[0]], "response": COMPLETION},
    "distilabel": {**DISTILABEL},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "columns": {"prompt": "Hi", "response": "Hello"},
    "curator": {**CURATOR},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "beside",
    [
        {"context": "It was Tuesday."}, {"passage": "It was Tuesday."},
        {"history": [["It was Tuesday.", "Yes."]]}, {"conversation_history": [{"role": "user", "content": "It was Tuesday."}]},
        {"chat_history": json.dumps([{"from": "human", "value": "It was Tuesday."}])},
        {"system_message": "It was Tuesday."}, {"sys_prompt": "It was Tuesday."}, {"system_instruction": "It was Tuesday."},
    ],
)  # fmt: skip
def test_what_stands_beside_a_conversation_is_in_it(shape, beside):
    said = read_row(SHAPES[shape] | beside)
    assert isinstance(said, ParsedRow), said
    assert "It was Tuesday." in "".join(message.content for message in said.messages), said.messages
    assert said.messages[-1].role == "user"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "beside",
    [
        {"image_path": "a.png"}, {"image_url": "http://x/a.png"}, {"img": b"x"}, {"Images": ["a"]}, {"attachments": [{"id": 1}]},
        {"screenshot": "a.png"}, {"audio_file": "a.wav"}, {"multi_modal_data": {"image": 1}},
        {"metadata": {"tools": [{"name": "f"}]}}, {"tool_definitions": '[{"name": "f"}]'}, {"available_tools": ["f"]},
        {"request": {"functions": [{"name": "f"}]}}, {"tools_json": '[{"name": "f"}]'},
        {"context": ["a", "b"]}, {"history": "what was said"},
    ],
)  # fmt: skip
def test_what_a_row_cannot_hold_beside_a_conversation_is_named(shape, beside):
    said = read_row(SHAPES[shape] | beside)
    assert isinstance(said, Skipped), said
    assert said.reason.startswith("a row cannot hold ")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "beside",
    [
        {"tools": "[]"},
        {"image": float("nan")},
        {"tools": None},
        {"images": []},
        {"history": []},
        {"function": "def f(): 1"},
        {"tool": "web"},
    ],
)
def test_what_says_nothing_costs_no_row(shape, beside):
    assert isinstance(read_row(SHAPES[shape] | beside), ParsedRow)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": None}, {"role": "user"}, {"role": "user", "content": []},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "see", "attachments": ["a"]}, {"role": "user", "content": "see", "image_url": "x"},
        {"role": "user", "content": [{"type": "text", "text": "see", "image": "x"}]}, {"role": "user", "said": "Hi"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["messages", "conversations", "history"])
def test_no_turn_is_hollow(turn, key):
    row = {"prompt": "Hi", "response": "Hello", "history": [turn]} if key == "history" else {key: [turn, *CHAT]}
    assert isinstance(read_row(row), Skipped)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "parts": [{"text": "Hi"}]}, {"from": "human", "val": "Hi"}, {"role": "user", "message": "Hi"},
        {"role": "user", "content": "", "text": "Hi"}, {"role": "user", "content": {"text": "Hi"}},
    ],
)  # fmt: skip
def test_turns_by_other_names(turn):
    said = read_row({"messages": [{"role": "system", "content": ""}, turn, CHAT[1]]})
    assert [message.content for message in said.messages] == ["Hi"]


@pytest.mark.parametrize(
    "answer", [ANTHROPIC, RESPONSE, COMPLETION, {k: v for k, v in COMPLETION.items() if k != "object"}]
)
@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("where", ["response", "answer", "completion", "response_message", "raw_response"])
def test_an_answer_of_an_api_is_its_text_wherever_it_stands(answer, as_text, where):
    value = json.dumps(answer) if as_text else answer
    row = {"prompt": "Hi", where: value}
    if where in ("response_message", "raw_response"):
        row = {**CURATOR, "response_message": None, where: value}
    said = read_row(row)
    assert isinstance(said, ParsedRow), said
    assert "{" not in said.text
    if answer is ANTHROPIC:
        assert (said.text, said.reasoning, said.finish) == ("Hello", "so", "length")


def test_several_answers_are_not_glued_together():
    assert isinstance(read_row({**DISTILABEL, "generation": ["one", "two"]}), Skipped)
    assert read_row({**DISTILABEL, "generation": ["one"]}).text == "one"
