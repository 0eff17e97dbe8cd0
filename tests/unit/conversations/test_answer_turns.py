"""What an answer says is the same, whole or streamed, cut anywhere."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.conversations.answer_turns import Api, api_of, turn_of_body, turn_of_stream
from stillhouse.conversations.finishes import CANCELLED, STOP, TOOL_CALLS
from stillhouse.conversations.formats.format import CannotRead
from stillhouse.conversations.record import Call, Reasoning, Text
from stillhouse.nouns import Usage

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
CALLS = st.lists(
    st.tuples(st.sampled_from(["bash", "read"]), st.dictionaries(WORDS, WORDS, max_size=2).map(json.dumps)), max_size=3
)

FIELDS = st.sampled_from(
    ["type", "index", "message", "content", "content_block", "delta", "choices", "tool_calls", "function", "arguments", "usage",
     "text", "output", "item", "response", "input", "partial_json", "finish_reason", "summary", "error", "name", "id"]
)  # fmt: skip


def cut(text, number):
    """A text in pieces."""
    return [text[at : at + number] for at in range(0, len(text), number)]


def sse(events, named=True):
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named and "type" in event else ""
        lines.append(f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return "".join(lines).encode()


def anthropic(thought, text, calls):
    content = [{"type": "thinking", "thinking": thought, "signature": "sig"}] if thought else []
    content += [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": f"t{n}", "name": name, "input": json.loads(said)}
        for n, (name, said) in enumerate(calls)
    ]
    stop = "tool_use" if calls else "end_turn"
    usage = {"input_tokens": 7, "output_tokens": 9}
    return {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop,
        "usage": usage,
    }


def anthropic_events(body, number):
    start = {**body, "content": [], "stop_reason": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(body["content"]):
        field, kind = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}.get(
            block["type"], ("", "")
        )
        empty = {**block, field: ""} if field else {**block, "input": {}}
        empty.pop("signature", None)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        said = block[field] if field else json.dumps(block["input"])
        for piece in cut(said, number):
            delta = {"type": kind, field: piece} if field else {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        if "signature" in block:
            delta = {"type": "signature_delta", "signature": block["signature"]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": body["stop_reason"]}, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def chat(thought, text, calls):
    message = {"role": "assistant", "content": text or None}
    message |= {"reasoning_content": thought} if thought else {}
    said = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    message |= {"tool_calls": said} if said else {}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}


def chat_events(body, number):
    def chunk(delta, finish=None):
        return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    message = body["choices"][0]["message"]
    yield chunk({"role": "assistant", "content": ""})
    for field in ("reasoning_content", "content"):
        yield from (chunk({field: piece}) for piece in cut(message.get(field) or "", number))
    for index, call in enumerate(message.get("tool_calls", [])):
        yield chunk({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
        for piece in cut(call["function"]["arguments"], number):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, body["choices"][0]["finish_reason"])
    yield {"model": "m", "choices": [], "usage": body["usage"]}


@settings(max_examples=150, deadline=None)
@given(st.just("") | WORDS, st.just("") | WORDS, CALLS, st.integers(1, 7), st.integers(1, 50))
def test_streamed_and_whole_are_the_same(thought, text, calls, number, size):
    if not (thought or text or calls):
        return
    for api, body, events, named in (
        (Api.MESSAGES, anthropic(thought, text, calls), anthropic_events, True),
        (Api.CHAT, chat(thought, text, calls), chat_events, False),
    ):
        stream = sse(events(body, number), named) + (b"" if named else b"data: [DONE]\n\n")
        whole = turn_of_body(api, json.dumps(body))
        streamed = turn_of_stream(api, [stream[at : at + size] for at in range(0, len(stream), size)])
        as_sent = [part for part in streamed.parts if isinstance(part, Call)]
        assert [json.loads(part.arguments) for part in as_sent] == [json.loads(said) for _, said in calls]
        assert [part for part in streamed.parts if not isinstance(part, Call)] == [
            part for part in whole.parts if not isinstance(part, Call)
        ]
        for turn in (whole, streamed):
            assert (turn.finish, turn.usage, turn.model) == (TOOL_CALLS if calls else STOP, Usage(7, 9), "m")


ITEMS = [
    {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": "xx"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
    },
    {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
]


def test_responses_are_one_turn_whole_or_streamed():
    body = {"status": "completed", "model": "m", "output": ITEMS, "usage": {"input_tokens": 3, "output_tokens": 4}}
    whole = turn_of_body(Api.RESPONSES, json.dumps(body))
    assert whole.parts == (Reasoning("", "short", "", "xx", "r"), Text("I look."), Call("ls", "{}", "c"))
    done = [{"type": "response.output_item.done", "item": item} for item in ITEMS]
    assert turn_of_stream(Api.RESPONSES, [sse([*done, {"type": "response.completed", "response": body}])]) == whole
    without = {**body, "output": []}  # some servers leave it out of the last event
    assert turn_of_stream(Api.RESPONSES, [sse([*done, {"type": "response.completed", "response": without}])]) == whole
    assert turn_of_stream(Api.RESPONSES, [sse(done[:2])]).finish == CANCELLED
    short = {**body, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert turn_of_body(Api.RESPONSES, json.dumps(short)).finish == "length"


def test_a_stream_that_was_cut_says_what_came():
    body = anthropic("", "hello there", [("bash", '{"cmd": "ls"}')])
    events = list(anthropic_events(body, 3))
    for end in range(3, len(events) - 2):
        try:
            turn = turn_of_stream(Api.MESSAGES, [sse(events[:end])])
        except CannotRead:
            continue
        assert turn.finish == CANCELLED and turn.parts[0].text == "hello there"[: len(turn.parts[0].text)]


def test_arguments_stay_as_they_were_sent():
    events = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "b", "input": {}},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":  1,'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": " nonsense"}},
        {"type": "message_stop"},
    ]
    (call,) = turn_of_stream(Api.MESSAGES, [sse(events)]).parts
    assert call.arguments == '{"a":  1, nonsense'


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"error": {"message": "no"}}', '{"choices": 5}', '{"output": 5}', '{"content": 5}']
)
def test_what_is_no_answer_is_refused(api, body):
    with pytest.raises(CannotRead):
        turn_of_body(api, body)
    with pytest.raises(CannotRead):
        turn_of_stream(api, [b"data: " + body.encode() + b"\n\n"])


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "text", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)
TYPES = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "response.completed",
         "response.output_item.done", "text", "tool_use", "thinking"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(lambda kind, said: said | {"type": kind}, st.sampled_from(TYPES), st.dictionaries(FIELDS, JSONS)),
        max_size=5,
    )
)
def test_any_events_are_read_or_refused(events):
    for api in Api:
        try:
            assert turn_of_stream(api, [sse(events, named=False)]).parts
        except CannotRead as failure:
            assert str(failure)
        try:
            turn_of_body(api, json.dumps(events[0] if events else {}))
        except CannotRead as failure:
            assert str(failure)


def test_paths_name_their_dialect():
    paths = {
        "/v1/messages?beta=true": Api.MESSAGES,
        "/v1/chat/completions": Api.CHAT,
        "/openai/v1/responses": Api.RESPONSES,
    }
    assert {path: api_of(path) for path in paths} == paths
    assert api_of("/v1/completions") is Api.COMPLETIONS and api_of("/v1/messages/count_tokens") is None
