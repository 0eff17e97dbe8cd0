"""Rows with tools, of every format: nothing that they say is lost on the way to a row, or the row is left out with a reason."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

from stillhouse.conversations.every_format import ROW_FORMATS, SESSION_FORMATS
from stillhouse.conversations.formats.format import CannotWrite, without
from stillhouse.conversations.record import Call, Conversation, Result, Role, Text, Turn
from stillhouse.datasets.conversation_rows import conversation_candidate
from stillhouse.datasets.corpora.conversation_shapes import read_rows, read_session
from stillhouse.datasets.corpora.row_shapes import ParsedRow, Skipped
from stillhouse.datasets.exporting import conversation_of
from stillhouse.datasets.row_reader import imported_candidate
from stillhouse.datasets.shards import ROWS, ShardWriter, candidate_of, read_shards
from stillhouse.nouns import Verdict, VerdictStatus
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from tests.conformance.test_formats import conversations

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def said_in(conversation):
    """What is said, without what rows of text have no place for."""
    turns = [(str(turn.role), text_pieces(turn.parts)) for turn in conversation.turns]
    return turns, conversation.tools


def text_pieces(parts):
    return [part for part in parts if part != Text("")]


@pytest.mark.parametrize("format", ROW_FORMATS, ids=lambda one: one.name)
@SETTINGS
@given(conversation=conversations() | conversations(plain=True))
def test_a_row_of_any_format_keeps_what_it_says(format, conversation):
    try:
        written = json.loads(json.dumps(format.write(conversation)))
    except CannotWrite:
        return
    read = read_rows(written)
    if isinstance(read, Skipped):
        assert read.reason, "it is counted by its reason"
        return
    (row,) = read
    assert isinstance(row, ParsedRow)
    held = conversation_of(imported_candidate(row, "k", "t", 1))
    expected = format.read(written)[0]
    if row.conversation is not None:
        assert said_in(held) == said_in(expected)
    else:
        assert [(turn.role, [p.text for p in turn.parts]) for turn in held.turns] == [
            (
                turn.role,
                ["".join(p.text for p in turn.parts)]
                if turn.role is not Role.ASSISTANT
                else [p.text for p in turn.parts],
            )
            for turn in expected.turns
        ] or "".join(p.text for turn in held.turns for p in turn.parts) == "".join(
            p.text for turn in expected.turns for p in turn.parts
        )


@pytest.mark.parametrize("format", SESSION_FORMATS, ids=lambda one: one.name)
@SETTINGS
@given(conversation=conversations())
def test_a_session_of_any_format_keeps_what_it_says(format, conversation):
    try:
        written = json.loads(json.dumps(format.write(conversation)))
    except CannotWrite:
        return
    (row,) = read_session(format.name, written)
    expected = without(conversation, format.leaves_out)
    if row.conversation is not None:
        assert said_in(row.conversation) == said_in(expected)


@SETTINGS
@given(conversation=conversations())
def test_what_is_stored_is_read_again(conversation):
    if not any(turn.role is Role.ASSISTANT for turn in conversation.turns):
        return
    objects = Objects(MemoryBackend())
    verdict = Verdict(VerdictStatus.NOT_JUDGED, "")
    candidate = conversation_candidate("k", "t", conversation, 3, verdict, 4)
    writer = ShardWriter(objects, ROWS)
    writer.add(candidate)
    (row,) = read_shards(objects, writer.end().values())
    assert candidate_of(row) == candidate


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user", "content": "x"}], "tools": [TOOL]}, "nobody answers"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "wizard", "content": "y"}]}, "the role"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [7]}]}, "a int stands"),
        ({"messages": "x", "tools": [TOOL]}, "of no known shape"),
        ({"steps": [], "schema_version": "ATIF-v1.4"}, ""),
    ],
)
def test_what_is_of_no_form_says_why(row, reason):
    read = read_rows(row)
    if isinstance(read, Skipped):
        assert reason in read.reason
    else:
        assert reason == "nobody answers" and not any(
            turn.role is Role.ASSISTANT for one in read for turn in one.conversation.turns
        )


def test_models_of_each_turn_are_kept_where_they_differ():
    turns = [Turn(Role.USER, (Text("Go"),)), Turn(Role.ASSISTANT, (Text("a"),), model="one"),
             Turn(Role.USER, (Text("Go"),)), Turn(Role.ASSISTANT, (Text("b"),), model="two")]  # fmt: skip
    from stillhouse.conversations.formats import pi_session

    (row,) = read_session("pi", pi_session.write(Conversation(tuple(turns))))
    assert row.conversation is not None and [model for model, _ in row.speakers] == ["one", "two"]


def test_calls_in_the_last_turn_are_its_answer():
    turns = (Turn(Role.USER, (Text("Go"),)), Turn(Role.ASSISTANT, (Call("f", "{}", "a"),)))
    from stillhouse.conversations.formats import openai_chat

    (row,) = read_rows(openai_chat.write(Conversation(turns)))
    assert (row.text, row.finish, row.conversation.turns[-1].finish) == ("", "tool calls", "tool calls")
    assert Result not in map(type, row.conversation.turns[-1].parts)
