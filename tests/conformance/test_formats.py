"""What every format keeps: what is written is read again, but for the details that the format lists."""

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.conversations import record
from stillhouse.conversations.every_format import EVERY_FORMAT, ROW_FORMATS
from stillhouse.conversations.formats.format import CannotRead, CannotWrite, without
from stillhouse.conversations.record import (
    Call,
    Conversation,
    Outcome,
    Reasoning,
    Reference,
    Refusal,
    Result,
    Role,
    Text,
    Tool,
    Turn,
    Unknown,
    in_turns,
)
from stillhouse.nouns import Usage

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
OBJECTS = st.dictionaries(NAMES, JSONS.filter(lambda value: value is not None), max_size=3)
ARGUMENTS = st.builds(lambda value, space: json.dumps(value, indent=space), OBJECTS, st.sampled_from([None, 1])) | WORDS
TEXTS = st.builds(Text, WORDS)
FILES = st.builds(
    Reference, st.sampled_from(["image", "file", "audio"]), st.sampled_from(["", "image/png"]), NAMES
) | st.builds(
    Reference, st.sampled_from(["image", "file"]), st.just("image/png"), data=st.sampled_from(["aGk=", "eA=="])
)
THOUGHTS = st.builds(Reasoning, WORDS) | st.builds(Reasoning, *[st.just("") | WORDS] * 5)
TIMES = st.sampled_from(["", "2026-01-02T03:04:05Z"])


@st.composite
def answers(draw, number):
    parts = draw(st.lists(TEXTS | THOUGHTS | st.builds(Refusal, WORDS), max_size=3))
    kinds = st.sampled_from(["function", "function", "function", "custom"])
    names = draw(st.lists(NAMES, max_size=2))
    calls = [Call(name, draw(ARGUMENTS), f"call_{number}_{place}", draw(kinds)) for place, name in enumerate(names)]
    parts = draw(st.permutations([*parts, *calls])) or [Text("done")]
    usage = draw(st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)))
    more = [draw(st.sampled_from(["", "stop", "length"])), usage, draw(TIMES), draw(st.sampled_from(["", "m-1"]))]
    return Turn(Role.ASSISTANT, tuple(parts), draw(st.integers(0, 3)), *more, draw(st.sampled_from(["", "k"])))


def results(draw, answer):
    inside = st.lists(TEXTS, max_size=2) | st.lists(TEXTS | FILES, max_size=2)
    return Turn(
        Role.TOOL,
        tuple(
            Result(tuple(draw(inside)), part.id, draw(st.sampled_from(["", part.name])), draw(st.booleans()))
            for part in answer.parts
            if isinstance(part, Call)
        ),
        time=draw(TIMES),
    )


@st.composite
def conversations(draw, plain=False):
    system = draw(st.lists(st.sampled_from([Role.SYSTEM, Role.DEVELOPER]), max_size=1))
    turns = [Turn(role, (draw(TEXTS),)) for role in system]
    for number in range(draw(st.integers(1, 3))):
        asked = st.lists(TEXTS, min_size=1, max_size=2) if plain else st.lists(TEXTS | FILES, min_size=1, max_size=2)
        turns.append(Turn(Role.USER, tuple(draw(asked)), name=draw(st.sampled_from(["", "ann"])), time=draw(TIMES)))
        answer = Turn(Role.ASSISTANT, (draw(TEXTS),)) if plain else draw(answers(number))
        turns.append(answer)
        if any(isinstance(part, Call) for part in answer.parts):
            turns.append(results(draw, answer))
    tool = st.builds(
        Tool,
        NAMES,
        st.just("") | WORDS,
        st.just("") | OBJECTS.map(compact),
        extra=st.sampled_from(["", '{"strict":true}']),
    )
    tools = () if plain else tuple(draw(st.lists(tool, max_size=2)))
    outcome = draw(
        st.none() | st.builds(Outcome, st.none() | st.booleans(), st.none() | st.floats(0, 1), st.just("") | WORDS)
    )
    return Conversation(
        in_turns(turns), tools, outcome, draw(st.sampled_from(["", "c1"])), draw(st.sampled_from(["", "p"]))
    )


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("format", EVERY_FORMAT, ids=lambda one: one.name)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversation=conversations() | conversations(plain=True))
def test_what_is_written_is_read_again(format, conversation):
    try:
        written = format.write(conversation)
    except CannotWrite:
        return
    written = json.loads(json.dumps(written))
    read = format.read(written)
    assert read == [without(conversation, format.leaves_out)]
    assert format.read(json.loads(json.dumps(format.write(read[0])))) == read


PLAIN = Conversation(
    (Turn(Role.SYSTEM, (Text("Be brief."),)), Turn(Role.USER, (Text("Hi"),)), Turn(Role.ASSISTANT, (Text("Hello"),)))
)
CALLING = Conversation(
    (
        Turn(Role.USER, (Text("List it"),)),
        Turn(Role.ASSISTANT, (Text("I look."), Call("bash", '{"cmd":"ls"}', "a"), Call("bash", '{"cmd":"pwd"}', "b"))),
        Turn(Role.TOOL, (Result((Text("x"),), "a"), Result((Text("/"),), "b"))),
        Turn(Role.ASSISTANT, (Text("Done."),)),
    )
)
ONE_CALL = Conversation(
    (
        Turn(Role.USER, (Text("List it"),)),
        Turn(Role.ASSISTANT, (Text("I look."), Call("bash", '{"cmd":"ls"}'))),
        Turn(Role.TOOL, (Result((Text("x"),)),)),
        Turn(Role.ASSISTANT, (Text("Done."),)),
    )
)
CALLS = {"alpaca": PLAIN, "swe-smith": ONE_CALL}


@pytest.mark.parametrize("format", [one for one in EVERY_FORMAT if one.name != "claude-tap"], ids=lambda one: one.name)
def test_what_most_rows_are_every_format_writes(format):
    """Else the test above could pass by refusing."""
    for conversation in (PLAIN, CALLS.get(format.name, CALLING)):
        assert format.read(format.write(conversation)) == [without(conversation, format.leaves_out)]


ODD = [
    None, 1, "x", [], {}, {"messages": None}, {"messages": "x"}, {"messages": [1]}, {"messages": [{"role": 3}]}, {"messages": {}},
    {"messages": [{"role": "user", "content": {"type": 5}}]}, {"conversations": [{"from": [], "value": 1}]}, {"input": [[]]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": 1}]}]}, {"steps": [{}], "schema_version": "ATIF"},
    {"messages": [{"role": "assistant", "tool_calls": 5}]}, {"instruction": 5, "output": []},
    {"prompt": [1], "completion": {"a": 1}},
    {"history": [{"role": "user"}], "trajectory": {}}, {"messages": [{"role": "user", "content": [[]]}], "tools": [[]]},
    {"type": "session"}, [{"type": "user", "message": 3}], [{"type": "message", "message": {"role": "user", "content": 3}}],
]  # fmt: skip


@pytest.mark.parametrize("format", EVERY_FORMAT, ids=lambda one: one.name)
@pytest.mark.parametrize("given", ODD, ids=str)
def test_what_is_of_no_format_is_refused_with_a_reason(format, given):
    try:
        read = format.read(given)
    except CannotRead as failure:
        assert str(failure)
    else:
        assert all(isinstance(one, Conversation) and one.turns for one in read)


@settings(max_examples=200, deadline=None)
@given(
    JSONS
    | st.lists(JSONS)
    | st.dictionaries(st.sampled_from(["messages", "conversations", "input", "tools", "steps"]), JSONS)
)
def test_any_json_is_read_or_refused(value):
    for format in ROW_FORMATS:
        try:
            format.read(value)
        except CannotRead:
            continue


@settings(max_examples=100, deadline=None)
@given(conversations())
def test_a_conversation_has_one_byte_string_and_digests_of_its_content(conversation):
    data = record.encode(conversation)
    assert record.decode(data) == conversation and record.encode(record.decode(data)) == data
    other = msgspec.structs.replace(
        conversation,
        id="other",
        outcome=Outcome(True),
        turns=tuple(
            msgspec.structs.replace(turn, stamps=9, time="t", model="other", usage=Usage(5, 5))
            for turn in conversation.turns
        ),
    )
    assert record.content_digest(other) == record.content_digest(conversation)
    prefixes = record.prefix_digests(conversation.turns)
    assert prefixes[:-1] == record.prefix_digests(conversation.turns[:-1]) and len(set(prefixes)) == len(prefixes)
    longer = (*conversation.turns, Turn(Role.USER, (Text("more"),)))
    assert record.prefix_digests(longer)[:-1] == prefixes


def test_plain_prompts_keep_their_digest():
    from stillhouse.conversations.prompts import prompt_digest
    from stillhouse.nouns import Message

    asked = Conversation(PLAIN.turns[:2])
    assert record.asked_digest(asked) == prompt_digest([Message("system", "Be brief."), Message("user", "Hi")])
    assert record.asked_digest(msgspec.structs.replace(asked, tools=(Tool("t"),))) != record.asked_digest(asked)


CALL, RESULT = Call("bash", "{}", "a"), Result((Text("x"),), "a")
ASKS = Turn(Role.USER, (Text("go"),))
NO_ROWS = [
    ("two calls", [ASKS, Turn(Role.ASSISTANT, (CALL, CALL)), Turn(Role.TOOL, (RESULT, RESULT))]),
    ("has no call", [ASKS, Turn(Role.TOOL, (RESULT,)), Turn(Role.ASSISTANT, (Text("x"),))]),
    (
        "has no call",
        [ASKS, Turn(Role.ASSISTANT, (CALL,)), Turn(Role.TOOL, (msgspec.structs.replace(RESULT, call="b"),))],
    ),
    ("two results", [ASKS, Turn(Role.ASSISTANT, (CALL,)), Turn(Role.TOOL, (RESULT, RESULT))]),
    ("has no result", [ASKS, Turn(Role.ASSISTANT, (CALL,)), ASKS]),
    ("has no result", [ASKS, Turn(Role.ASSISTANT, (CALL, Call("ls", "{}", "b"))), Turn(Role.TOOL, (RESULT,))]),
    ("nobody answers", [ASKS]),
    ("type image", [Turn(Role.USER, (Reference("image", url="u"),)), Turn(Role.ASSISTANT, (Text("x"),))]),
    ("type thing", [ASKS, Turn(Role.ASSISTANT, (Unknown("thing", "{}"),))]),
    ("type thing", [ASKS, Turn(Role.ASSISTANT, (CALL,)), Turn(Role.TOOL, (Result((Unknown("thing", "{}"),), "a"),))]),
]


@pytest.mark.parametrize(("reason", "turns"), NO_ROWS, ids=str)
def test_what_is_no_row_says_why(reason, turns):
    assert reason in record.why_no_row(Conversation(tuple(turns)))


def test_what_is_a_row():
    assert record.why_no_row(CALLING) == "" == record.why_no_row(PLAIN)
    assert record.why_no_row(Conversation((ASKS, Turn(Role.ASSISTANT, (CALL,))))) == "", "an answer may end with a call"
    again = [Turn(Role.ASSISTANT, (CALL,)), Turn(Role.TOOL, (RESULT,))] * 2
    assert record.why_no_row(Conversation((ASKS, *again))) == "", "some agents use ids again in each turn"


def test_histories_are_the_same_as_clients_repeat_them():
    """Without reasoning, with other ids, with arguments in another layout, and with text in other pieces."""
    said = Turn(
        Role.ASSISTANT,
        (Reasoning("hm"), Text("I "), Text("look."), Call("bash", '{"a": 1, "b": 2}', "x")),
        finish="tool_calls",
    )
    repeated = Turn(Role.ASSISTANT, (Text("I look."), Call("bash", '{"b":2,"a":1}', "y")))
    assert record.said_digest(said) == record.said_digest(repeated)
    for other in (
        Call("bash", '{"a":1,"b":3}'),
        Call("zsh", '{"b":2,"a":1}'),
        Call("bash", '{"b":2,"a":1}', kind="custom"),
    ):
        assert record.said_digest(Turn(Role.ASSISTANT, (Text("I look."), other))) != record.said_digest(said)
