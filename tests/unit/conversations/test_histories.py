"""Requests are read as a whole would be, however much of them was read before."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.conversations.answer_turns import Api
from stillhouse.conversations.formats import anthropic_messages, openai_chat, responses
from stillhouse.conversations.formats.format import CannotRead, CannotWrite
from stillhouse.conversations.histories import Histories
from stillhouse.conversations.record import Conversation, Role
from tests.conformance.test_formats import conversations

FORMATS = {Api.CHAT: openai_chat, Api.MESSAGES: anthropic_messages, Api.RESPONSES: responses}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(conversations(), min_size=1, max_size=3), st.data())
def test_what_is_read_is_what_the_readers_give(given, data):
    histories = Histories()
    for conversation in given:
        for end in range(1, len(conversation.turns) + 1):
            part = Conversation(conversation.turns[:end], conversation.tools)
            api = data.draw(st.sampled_from(list(FORMATS)))
            try:
                body = FORMATS[api].write(part)
            except CannotWrite:
                continue
            body |= {"model": "m", "metadata": {"user_id": "u"}}
            try:
                (whole,) = FORMATS[api].read(json.loads(json.dumps(body)))
            except CannotRead:
                continue
            asked, about = histories.read(api, json.dumps(body).encode())
            assert asked == whole and about == {"model": "m", "metadata": {"user_id": "u"}}


def test_turns_that_are_repeated_are_the_same_object():
    histories = Histories()
    messages = [{"role": "user", "content": "go"}]
    for number in range(5):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
        messages += [{"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": f"d{number}"}]}]
        messages += [{"role": "tool", "tool_call_id": f"{one}{number}", "content": "x"} for one in "cd"]
    first, _ = histories.read(Api.CHAT, json.dumps({"messages": messages[:-3]}).encode())
    second, _ = histories.read(Api.CHAT, json.dumps({"messages": messages}).encode())
    assert all(one is other for one, other in zip(first.turns, second.turns, strict=False)) and len(first.turns) == 9
    assert sum(turn.role is Role.TOOL for turn in second.turns) == 5


ODD = [
    b"",
    b"[]",
    b"{",
    b'{"messages": 5}',
    b'{"messages": []}',
    b'{"input": {}}',
    b"\xff",
    b'{"messages": [5]}',
    b'{"prompt": 5}',
]


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("body", ODD)
def test_what_is_no_request_is_refused(api, body):
    with pytest.raises(CannotRead):
        Histories().read(api, body)


def test_odd_json_is_read_as_the_standard_library_reads_it():
    body = b'{"messages": [{"role": "user", "content": "half \\ud800"}], "x": NaN}'
    asked, _ = Histories().read(Api.CHAT, body)
    assert asked.turns[0].parts[0].text == "half \ud800"
    asked, _ = Histories().read(Api.RESPONSES, b'{"input": "hello", "instructions": "brief"}')
    assert [str(turn.role) for turn in asked.turns] == ["system", "user"]
    asked, _ = Histories().read(Api.COMPLETIONS, b'{"prompt": "hello"}')
    assert asked.turns[0].parts[0].text == "hello"
