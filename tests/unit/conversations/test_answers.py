"""Answers of every API, whole and streamed: the same text, end and counts, however they come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.conversations.answers import (
    Answer,
    Trouble,
    read_answer,
    read_chat,
    read_completion,
    read_embedding,
    read_messages,
    read_response,
)
from stillhouse.conversations.content import read_message
from stillhouse.conversations.finishes import LABELS, FinishKind, finish_label, incomplete, is_usable
from stillhouse.conversations.streams import StreamReader
from stillhouse.nouns import Usage

COUNTED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(content="Hello", finish="stop", usage=COUNTED, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def claude(*blocks, stop="end_turn", usage=None):
    return {"type": "message", "content": list(blocks), "stop_reason": stop,
            "usage": usage or {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip


def response(*items, status="completed", **more):
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return {"object": "response", "status": status, "output": list(items), "error": None, "usage": usage, **more}


def said(text):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


TEXT, TOOL = {"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("reader", "body", "text", "finish"),
    [
        (read_chat, chat(), "Hello", "stop"),
        (read_chat, chat(finish=None), "Hello", "stop"),
        (read_chat, chat(finish="eos_token"), "Hello", "stop"),
        (read_chat, chat(finish="length"), "Hello", "length"),
        (read_chat, chat(finish="error"), "Hello", "error"),
        (read_chat, chat(finish="content_filter"), "Hello", "filtered"),
        (read_chat, chat(finish="something new"), "Hello", "something new"),
        (read_chat, chat(None, refusal="No."), "", "refusal"),
        (read_chat, chat(None, "tool_calls", tool_calls=[CALL]), "", "tool calls"),
        (read_chat, chat("I will read it.", tool_calls=[CALL]), "I will read it.", "tool calls"),
        (read_chat, chat([{"type": "thinking", "thinking": [TEXT]}, {"type": "text", "text": "4"}]), "4", "stop"),
        (read_chat, chat(""), "", "stop"),
        (read_chat, chat([TEXT, {"type": "image_url", "image_url": {}}]), "Hello", "not text"),
        (read_chat, {"choices": [{"message": {"content": None, "reasoning_content": "hm"}}], "error": {"code": 429}},
         "", "error"),
        (read_chat, {"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": 5, "completion_tokens": 900},
                     "error": {"code": 429}}, "", "error"),
        (read_chat, chat("half \ud83d here"), "half ? here", "stop"),
        (read_completion, {"choices": [{"text": "Hello", "finish_reason": "stop"}]}, "Hello", "stop"),
        (read_messages, claude(TEXT), "Hello", "stop"),
        (read_messages, claude(TEXT, stop="refusal"), "Hello", "refusal"),
        (read_messages, claude(TEXT, stop="pause_turn"), "Hello", "paused"),
        (read_messages, claude(TEXT, stop="model_context_window_exceeded"), "Hello", "length"),
        (read_messages, claude(TEXT, TOOL, stop="tool_use"), "Hello", "tool calls"),
        (read_messages, claude({"type": "thinking", "thinking": "hm"}, TEXT), "Hello", "stop"),
        (read_messages, {**claude(), "content": None}, "", "stop"),
        (read_response, response(said("Hello")), "Hello", "stop"),
        (read_response, response(said("I look."), {"type": "function_call"}), "I look.", "tool calls"),
        (read_response, response(said("Half"), status="failed", error={"message": "it failed"}), "Half", "error"),
        (read_response, response(said("Half"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
         "Half", "length"),
        (read_response, response(said("Half"), status="incomplete", incomplete_details={"reason": "content_filter"}),
         "Half", "filtered"),
        (read_embedding, {"data": [], "usage": {"prompt_tokens": 3}}, "", "embedding"),
    ],
)  # fmt: skip
def test_whole_answers(reader, body, text, finish):
    read = read_answer(reader, json.dumps(body))
    assert isinstance(read, Answer)
    assert (read.text, read.finish) == (text, finish)


@pytest.mark.parametrize(
    ("reader", "body", "status"),
    [
        (read_chat, {"error": {"message": "Rate limit exceeded", "code": 429}}, 429),
        (read_chat, {"error": {"message": "gone", "code": "503"}}, 503),
        (read_chat, {"error": {"type": "overloaded_error", "message": "busy"}}, 529),
        (read_chat, {"error": "it failed"}, 502),
        (read_chat, {"choices": None, "error": {"message": "Internal Server Error", "code": 500}}, 500),
        (read_chat, {"choices": None}, 502),
        (read_chat, {"choices": [], "usage": COUNTED}, 502),
        (read_chat, {"choices": [{"error": {"message": "no", "code": 502}, "message": {"content": ""}}]}, 502),
        (read_completion, {"choices": []}, 502),
        (read_messages, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
        (read_response, {"output": [], "status": "failed", "error": {"code": "server_error", "message": "no"}}, 500),
        (read_chat, {"object": "error", "message": "no such model", "code": 404}, 404),
        (read_embedding, {"error": {"message": "no", "code": 400}}, 400),
        (read_chat, {"detail": "Rate limit exceeded"}, 502),
        (read_chat, {"code": 429, "message": "Rate limit exceeded", "success": False}, 429),
        (read_chat, {"errors": [{"message": "no"}]}, 502),
        (read_chat, [{"error": {"code": 503, "message": "busy"}}], 503),
        (read_messages, {"detail": "no"}, 502),
        (read_response, {"status": "failed", "output": None}, 502),
        (read_chat, {"statusCode": 429, "error": "Too Many Requests", "message": "slow down"}, 429),
        (read_chat, {"error": {"code": "²", "message": "no"}}, 502),
        (read_chat, {"error": {"code": "9" * 5000, "message": "no"}}, 502),
    ],
)
def test_an_error_is_one_whatever_its_status(reader, body, status):
    read = read_answer(reader, json.dumps(body))
    assert isinstance(read, Trouble)
    assert read.status == status
    assert read.reason


@pytest.mark.parametrize(
    "raw", [b"", b" \n", b"<html>x</html>", b"\n<!DOCTYPE html>\n<p>x</p>", "<?xml version='1.0'?>"]
)
def test_a_page_or_nothing_is_no_answer(raw):
    for reader in (read_chat, read_completion, read_messages, read_response, read_embedding):
        read = read_answer(reader, raw)
        assert isinstance(read, Trouble)
        assert read.status == 502


@pytest.mark.parametrize("raw", [b"{", b"null", b"[]", b"7", b"\xff", b"{}", b'{"choices": [7]}', b"[" * 99_999])
def test_what_nobody_understands_is_malformed_and_nothing_breaks(raw):
    for reader in (read_chat, read_completion, read_messages, read_response):
        read = read_answer(reader, raw)
        assert isinstance(read, Trouble) or (read.text, read.finish) == ("", "malformed")


@pytest.mark.parametrize(
    "usage",
    [None, {}, 7, [], "x", {"prompt_tokens": None, "completion_tokens": None}, {"prompt_tokens": 7, "total_tokens": 9},
     {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": True, "completion_tokens": 2},
     {"prompt_tokens": 1e300, "completion_tokens": 2}, {"prompt_tokens": 2**60, "completion_tokens": 2}],
)  # fmt: skip
def test_a_usage_that_is_none_is_unknown_and_the_text_stays(usage):
    read = read_answer(read_chat, json.dumps(chat(usage=usage)))
    assert read.text == "Hello"
    assert min(read.usage.prompt_tokens, read.usage.completion_tokens) == -1
    for body in (claude(TEXT, usage={"input_tokens": None, "output_tokens": None}), {**claude(TEXT), "usage": usage}):
        assert read_answer(read_messages, json.dumps(body)).text == "Hello"


def test_counts():
    assert read_answer(
        read_chat, json.dumps(chat(usage={"prompt_tokens": 7.0, "completion_tokens": 2.0}))
    ).usage == Usage(7, 2)
    hidden = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 105}
    assert read_answer(read_chat, json.dumps(chat(usage=hidden))).usage == Usage(3, 102)
    cached = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 1000,
        "cache_read_input_tokens": 2000,
        "output_tokens": 5,
    }
    assert read_answer(read_messages, json.dumps(claude(TEXT, usage=cached))).usage == Usage(10 + 1250 + 200, 5)
    passes = [{"input_tokens": 50, "output_tokens": 9}, {"input_tokens": 10, "output_tokens": 5}]
    several = {"input_tokens": 10, "output_tokens": 5, "iterations": passes}
    assert read_answer(read_messages, json.dumps(claude(TEXT, usage=several))).usage == Usage(60, 14)


# --- streams


def sse(*events, end="\n", done=True):
    lines = []
    for event in events:
        name = event.get("type") if isinstance(event, dict) else None
        lines += [f"event: {name}"] if name else []
        lines += [f"data: {json.dumps(event)}", ""]
    lines += ["data: [DONE]", ""] if done else []
    return end.join(["", *lines, ""]).encode()


def delta(finish=None, usage="none", **delta):
    more = {} if usage == "none" else {"usage": usage}
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def streamed(reader, raw, size=0):
    stream = StreamReader(reader)
    for start in range(0, len(raw), size or len(raw)):
        stream.feed(raw[start : start + (size or len(raw))])
    ended = stream.ended
    stream.close()
    return stream, ended


HELLO = (delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), delta(finish="stop"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 0])
def test_a_stream_in_any_pieces_and_line_ends(end, size):
    raw = b": a comment" + end.encode() * 2 + sse(*HELLO, {"choices": [], "usage": COUNTED}, end=end)
    stream, ended = streamed(read_chat, raw, size)
    assert stream.answer == Answer("Hello", "stop", Usage(3, 2))
    assert ended


def test_data_over_several_lines_and_without_a_space():
    raw = b'data:{"choices":[{"index":0,\ndata:"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata:[DONE]\n\n'
    assert streamed(read_chat, raw)[0].answer.text == "Hi"


def anthropic(text="Hello", stop="end_turn", start=None, last=None, *, tail=True, blocks=()):
    yield {"type": "message_start", "message": {"usage": start or {"input_tokens": 3, "output_tokens": 1}}}
    for block in ({"type": "text", "text": ""}, *blocks):
        yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    if tail:
        yield {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": last or {"output_tokens": 2}}
        yield {"type": "message_stop"}


@pytest.mark.parametrize("late", [True, False])
def test_every_counter_is_the_largest_that_any_event_named(late):
    zero, real = {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 900, "output_tokens": 20}
    start, last = (zero, real) if late else (real, zero)
    stream, ended = streamed(read_messages, sse(*anthropic(start=start, last=last), done=False))
    assert stream.answer == Answer("Hello", "stop", Usage(900, 20))
    assert ended
    each = (delta(content="Hel", usage={"prompt_tokens": 30, "completion_tokens": 1}), delta(content="lo", usage=None),
            delta(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 20}))  # fmt: skip
    assert streamed(read_chat, sse(*each))[0].answer.usage == Usage(30, 20)
    groq = delta(content="Hi", finish="stop") | {"x_groq": {"usage": COUNTED}}
    assert streamed(read_chat, sse(groq))[0].answer.usage == Usage(3, 2)


ERROR = {"error": {"message": "EngineCore died", "code": 500}}


@pytest.mark.parametrize(
    ("reader", "events", "finish"),
    [
        (read_chat, (delta(content="Half"), ERROR), "error"),
        (read_chat, (delta(content="Half"), delta(finish="error") | ERROR), "error"),
        (read_chat, (delta(content="Half"), delta(finish="length")), "length"),
        (read_chat, (delta(content="Half", tool_calls=[CALL]), delta(finish="stop")), "tool calls"),
        (read_chat, (delta(content="Half"),), "stop"),
        (read_messages, tuple(anthropic("Half", stop="pause_turn")), "paused"),
        (read_messages, tuple(anthropic("Half", stop="refusal")), "refusal"),
        (read_messages, tuple(anthropic("Half", stop="tool_use", blocks=[TOOL])), "tool calls"),
        (read_messages, (*anthropic("Half", tail=False), {"type": "error", "error": {"type": "overloaded_error"}}), "error"),
        (read_response, ({"type": "response.output_text.delta", "delta": "Half"},
         {"type": "response.failed", "response": response(said("Half"), status="failed", error={"message": "no"})}), "error"),
        (read_response, ({"type": "response.output_text.delta", "delta": "Half"},
         {"type": "response.incomplete", "response": response(said("Half"), status="incomplete",
          incomplete_details={"reason": "max_output_tokens"})}), "length"),
    ],
)  # fmt: skip
def test_a_stream_that_did_not_end_well_says_so(reader, events, finish):
    stream, ended = streamed(reader, sse(*events))
    assert (stream.answer.text, stream.answer.finish) == ("Half", finish)
    assert ended and stream.whole


HALF = {"type": "response.output_text.delta", "delta": "Half"}
CALLED = {"type": "response.output_item.added", "item": {"type": "function_call"}}


@pytest.mark.parametrize("reader", [read_chat, read_messages, read_response])
@pytest.mark.parametrize(
    "frame",
    [
        'data: {"error":{"message":"overloaded","code":529}}',
        'event: error\ndata: {"message":"upstream died","code":500}',
        "event: error\ndata: upstream died",
        'data: [{"error":{"message":"no"}}]',
        'data: {"detail":"no"}',
        'data: {"type":"response.error","message":"no"}',
        'data: {"type":"error","error":{"type":"overloaded_error"}}',
    ],
)
def test_an_error_in_any_form_ends_what_was_said(reader, frame):
    begun = {read_chat: [delta(content="Half")], read_messages: anthropic("Half", tail=False), read_response: [HALF]}[
        reader
    ]
    raw = sse(*begun, done=False) + f"{frame}\n\n".encode() + b"data: [DONE]\n\n"
    stream, ended = streamed(reader, raw)
    assert (stream.answer.text, stream.answer.finish) == ("Half", "error")
    assert ended


def test_what_was_only_thought_or_counted_before_an_error_was_paid_for():
    thought = delta(reasoning_content="hm", usage={"prompt_tokens": 50, "completion_tokens": 900})
    counted = {"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": 900}}
    for event in (thought, counted):
        stream, _ = streamed(read_chat, sse(event, {"error": {"code": 429, "message": "rate limit"}}))
        assert isinstance(stream.answer, Answer)
        assert (stream.answer.finish, stream.answer.usage) == ("error", Usage(50, 900))
    thinking = {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}
    begun = [*[*anthropic("", tail=False)][:1], thinking, {"type": "error", "error": {"type": "overloaded_error"}}]
    assert streamed(read_messages, sse(*begun))[0].answer.finish == "error"


def test_what_streamed_and_is_not_in_the_last_event_counts():
    completed = {"type": "response.completed", "response": response()}
    stream, _ = streamed(read_response, sse(HALF, CALLED, completed, done=False))
    assert (stream.answer.text, stream.answer.finish) == ("Half", "tool calls")
    refused = {"type": "response.refusal.delta", "delta": "No."}
    assert streamed(read_response, sse(refused, completed, done=False))[0].answer.finish == "refusal"


@pytest.mark.parametrize(("reader", "events"), [(read_response, [HALF]), (read_messages, None)])
def test_an_end_that_the_api_never_said_is_none(reader, events):
    stream, _ = streamed(reader, sse(*(events or anthropic("Half", tail=False))))
    assert incomplete(stream.answer.text, stream.answer.finish) is FinishKind.FAILED


def test_news_of_a_queue_is_no_error():
    assert (
        streamed(read_chat, sse({"message": "queued"}, {"status": "ok", "msg": "soon"}, *HELLO))[0].answer.text
        == "Hello"
    )


def test_a_mark_of_the_byte_order_costs_no_event():
    assert streamed(read_chat, b"\xef\xbb\xbf" + sse(*HELLO).lstrip(), 5)[0].answer.text == "Hello"


def test_counters_count_wherever_they_stand():
    usage = {"prompt_tokens": 30, "completion_tokens": 900}
    other = {"choices": [{"index": 1, "delta": {}, "usage": usage}]}
    assert streamed(read_chat, sse(*HELLO, other))[0].answer.usage == Usage(30, 900)
    begun = {"type": "response.in_progress", "response": {"usage": {"input_tokens": 7, "output_tokens": 9}}}
    done = {"type": "response.completed", "response": response(said("Hi"))}
    assert streamed(read_response, sse(begun, done))[0].answer.usage.completion_tokens >= 9


def test_an_error_before_anything_was_said_is_no_answer():
    for reader in (read_chat, read_messages):
        stream, _ = streamed(reader, sse({"type": "error", **ERROR}, done=False))
        assert stream.answer == Trouble("EngineCore died", 500)


def test_a_stream_without_its_end_is_not_whole():
    stream, ended = streamed(read_chat, sse(*HELLO[:3], done=False))
    assert not ended and not stream.whole


def test_a_large_last_event_is_read():
    big = "x" * (3 << 20)
    final = {"type": "response.completed", "response": response(said("Hello"), instructions=big)}
    stream, ended = streamed(read_response, sse(final, done=False), 60_000)
    assert ended and stream.answer.text == "Hello"


@given(st.binary(max_size=300))
def test_no_bytes_break_a_stream(raw):
    for reader in (read_chat, read_messages, read_response):
        stream, _ = streamed(reader, b"data: " + raw, 7)
        assert isinstance(stream.answer, Answer | Trouble)


# --- ends


def test_ends_have_one_vocabulary():
    assert {finish_label(label) for label in LABELS} == LABELS, "a label is its own"
    assert {finish_label(name) for name in ("STOP", "end_turn", "eos", None, "")} == {"stop"}
    assert finish_label("x" * 500 + "\x00") == "x" * 80


@pytest.mark.parametrize(
    ("text", "finish", "kind"),
    [("a", "stop", None), (" \n", "stop", FinishKind.EMPTY), ("a", "length", FinishKind.TRUNCATED),
     ("a", "tool_use", FinishKind.TOOL_CALLS),
     ("a", "whatever", FinishKind.UNKNOWN), ("", "error", FinishKind.FAILED), ("a", "refusal", FinishKind.REFUSED)],
)  # fmt: skip
def test_which_answers_make_rows(text, finish, kind):
    assert incomplete(text, finish) is kind
    assert is_usable(text, finish) is (kind is None)
    assert is_usable(text, finish, [str(kind)]) is (kind is not FinishKind.TOOL_CALLS)


def test_reasoning_in_parts_beside_the_content():
    details = [{"type": "reasoning.text", "text": "so "}, {"type": "reasoning.summary", "summary": "it is"}]
    assert read_message({"content": "yes", "reasoning_details": details}).reasoning == "so it is"
    assert read_message({"content": "yes", "reasoning_details": [{"type": "reasoning.encrypted", "x": 1}]}).reasoning
