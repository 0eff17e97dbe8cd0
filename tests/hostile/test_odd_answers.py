"""Servers that take other fields, and answers that are none: what is asked is taken, and no hollow row is formed."""

import json

import pytest
from aiohttp import web

from tests.server import chat, prompt_of

# --- which fields a server takes


def strict(server, body):
    """As reasoning models of OpenAI answer."""
    if "max_tokens" in body:
        return _refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        )
    if body.get("temperature", 1) != 1:
        return _refused("Unsupported value: 'temperature' does not support 0.8 with this model.")
    return web.json_response(chat("fine"))


def narrow(server, body):
    """As servers answer that forbid what they do not know."""
    extra = sorted(set(body) - {"model", "messages", "max_tokens"})
    return _refused(f"extra fields not permitted: {extra[0]}") if extra else web.json_response(chat("fine"))


def _refused(message, status=400):
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "unsupported_parameter"}
    return web.json_response({"error": error}, status=status)


def answering(answer):
    async def answered(server, body):
        return answer(server, body)

    return answered


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (strict, {"limit_field": "max_completion_tokens", "rejects": ["temperature"]}),
        (narrow, {"limit_field": "", "rejects": ["seed", "temperature"]}),
    ],
)
def test_a_probe_finds_out_what_a_server_takes_and_it_is_collected_from(home, serve, answer, taken):
    server = serve(answering(answer))
    home.add_mock(server.url)
    home.prompts(3)
    ran = home("collect", home.recipe(), code=1)
    assert "max_tokens" in ran.err or "seed" in ran.err, "the field is named"
    assert "stillhouse teacher probe" in ran.err
    assert "again later" not in ran.err
    found = home("teacher", "probe", "mock", "--json").json
    assert {name: found[name] for name in taken} == taken
    assert home("collect", home.recipe(), "--json").json["answers"] == 3
    assert all(
        set(body) <= {"model", "messages", "max_tokens", "max_completion_tokens", "seed"}
        for body in server.requests[-3:]
    )


def test_a_recipe_may_say_it_without_a_probe(home, serve):
    home.add_mock(serve(answering(strict)).url)
    home.prompts(2)
    path = home.recipe()
    said = 'use = "mock"\nlimit_field = "max_completion_tokens"\nrejects = ["temperature", "seed"]\n'
    path.write_text(path.read_text().replace('use = "mock"\n', said))
    assert home("collect", path, "--json").json["answers"] == 2


@pytest.mark.parametrize("status", [400, 422])
def test_what_no_other_request_would_mend_is_said_once(home, serve, status):
    server = serve(answering(lambda server, body: _refused("Unknown field: 'messages'", status)))
    home.add_mock(server.url)
    home.prompts(3)
    ran = home("teacher", "probe", "mock", code=1)
    assert "messages" in ran.err
    assert "again later" not in ran.err
    assert len(server.requests) == 1


# --- answers that are none

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def choice(finish="stop", **message):
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}], "usage": {}}


# What a server says, and whether a row may come of it.
ODD = {
    "whole": (choice(content="fine"), True),
    "in parts": (choice(content=[{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]), True),
    "parts with reasoning": (choice(content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "fine"}]), True),
    "beside reasoning": (choice(content="fine", reasoning_content="hm"), True),
    "usage null": ({**choice(content="fine"), "usage": None}, True),
    "usage of nulls": ({**choice(content="fine"), "usage": {"prompt_tokens": None, "completion_tokens": None}}, True),
    "empty": (choice(content=""), False),
    "blank": (choice(content="  \n "), False),
    "null": (choice(content=None), False),
    "no content": (choice(), False),
    "reasoning alone": (choice(content="", reasoning_content="hm"), False),
    "a call": (choice("tool_calls", content=None, tool_calls=[CALL]), False),
    "text and a call": (choice("tool_calls", content="I will look.", tool_calls=[CALL]), False),
    "an old call": (choice("function_call", content=None, function_call={"name": "f", "arguments": "{}"}), False),
    "cut": (choice("length", content="fi"), False),
    "filtered": (choice("content_filter", content="fi"), False),
    "error": (choice("error", content="fi"), False),
    "refusal": (choice(content=None, refusal="I cannot."), False),
    "an image": (choice(content=[{"type": "image_url", "image_url": {"url": "data:"}}]), False),
    "an empty list": (choice(content=[]), False),
    "no JSON": ("busy", False),
    "a page": ("<html>busy</html>", False),
    "nothing": ("", False),
    "a number": (5, False),
    "no choices": ({"id": "x"}, False),
    "choices null": ({"choices": None}, False),
    "choices empty": ({"choices": []}, False),
    "an error": ({"error": {"message": "bad prompt", "type": "invalid_request_error", "code": 400}}, False),
}  # fmt: skip


@pytest.fixture
def odd(home, serve):
    """A home whose teacher answers as a prompt says."""

    async def answer(server, body):
        said = ODD[prompt_of(body)][0]
        return web.Response(text=said) if isinstance(said, str) else web.json_response(said)

    home.add_mock(serve(answer).url)
    rows = [{"id": name, "messages": [{"role": "user", "content": name}]} for name in ODD]
    home.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return home


def formed(home, keep=()):
    path = home.recipe(in_flight=8, keep=keep)
    done = home("collect", path, "--json", code=None).json
    out = home.folder / f"rows-{len(keep)}.jsonl"
    home("dataset", "export", "example", out)
    return done, {turns[-2]["content"]: turns[-1]["content"] for turns in _turns(out)}


def _turns(file):
    return [json.loads(line)["messages"] for line in file.read_text().splitlines()]


def test_a_row_is_formed_of_a_whole_answer_and_of_no_other(odd):
    done, rows = formed(odd)
    assert set(rows) == {name for name, (_, whole) in ODD.items() if whole}
    assert set(rows.values()) == {"fine"}, "and it is the text, without reasoning"
    funnel = odd("dataset", "show", "example", "--json").json["funnel"]
    dropped = sum(sum(step["dropped"].values()) for step in funnel)
    assert dropped + done["failed"] + len(rows) == len(ODD), "what was left out is counted, by its reason"


def test_a_kind_is_kept_where_that_is_said(odd):
    names = ("whole", "cut", "filtered", "a call")
    rows = [{"id": name, "messages": [{"role": "user", "content": name}]} for name in names]
    odd.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert formed(odd, ("truncated",))[1] == {"whole": "fine", "cut": "fi"}
