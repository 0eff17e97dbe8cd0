"""What of a conversation a row holds."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.conversations.record import (
    Call,
    Conversation,
    Reasoning,
    Result,
    Role,
    Text,
    Tool,
    Turn,
    why_no_row,
)
from stillhouse.conversations.row_turns import (
    NO_RESULT,
    TextRow,
    as_text_row,
    incomplete_answer,
    last_answer,
    own_usage,
    row_turns,
    spoken,
    words_of,
)
from stillhouse.nouns import Message, Usage


def user(text="go on"):
    return Turn(Role.USER, (Text(text),))


def answer(text="done", finish="stop", calls=(), stamps=1):
    return Turn(Role.ASSISTANT, (Text(text), *(Call("run", "{}", id) for id in calls)), stamps, finish)


def results(*ids):
    return Turn(Role.TOOL, tuple(Result((Text(f"of {id}"),), id) for id in ids))


def roles(conversation):
    return [str(turn.role) for turn in conversation.turns]


def test_a_whole_conversation_is_held_as_it_is():
    said = Conversation((user(), answer(calls=["a"], finish="tool calls"), results("a"), answer(), user("and then?")))
    assert row_turns(said) == (said, "")


@pytest.mark.parametrize(
    ("turns", "held", "why"),
    [
        ([user(), answer(finish="length")], 0, "the answer is truncated"),
        ([user(), answer(), user(), answer(finish="length")], 2, "the answer is truncated"),
        ([user(), answer(finish="length"), user(), answer()], 4, ""),
        ([user(), answer(finish="error"), user(), answer()], 3, "the answer is failed"),
        ([user(), answer(finish="cancelled", calls=["a"]), results("a"), user(), answer()], 3, "the answer is failed"),
        ([user(), answer(calls=["a", "b"]), results("a"), user(), answer()], 3, NO_RESULT),
        ([user(), answer(calls=["a"]), user(), answer()], 3, NO_RESULT),
        ([user(), answer(), user(), answer(finish="refusal"), user(), answer(finish="content_filter")], 2,
         "the answer is filtered"),
        ([user(), answer(calls=["a"])], 2, ""),
        ([user()], 1, ""),
    ],
)  # fmt: skip
def test_where_a_row_ends(turns, held, why):
    row = row_turns(Conversation(tuple(turns)))
    assert (len(row.conversation.turns), row.ends) == (held, why)
    assert not held or last_answer(row.conversation) < 0 or why_no_row(row.conversation) == ""


def test_kinds_that_are_kept_on_purpose():
    cut = Conversation((user(), answer(finish="length")))
    assert row_turns(cut, ("truncated",)) == (cut, "")
    failed = Conversation((user(), answer(finish="error"), user(), answer()))
    assert row_turns(failed, ("failed",)) == (failed, "")


def test_a_row_ends_before_its_first_denied_turn():
    said = Conversation((user(), answer(stamps=1), user(), answer(stamps=2), user(), answer(stamps=1)))
    row = row_turns(said, denied=lambda turn: "denied: x" if turn.stamps == 2 else "")
    assert (roles(row.conversation), row.ends) == (["user", "assistant"], "denied: x")
    nothing = row_turns(said, denied=lambda turn: "denied: x" if turn.stamps == 1 else "")
    assert nothing.conversation.turns == ()


@given(
    st.lists(st.tuples(st.sampled_from(["stop", "length", "error", "refusal"]), st.integers(0, 3), st.booleans()), max_size=6),
    st.integers(0, 3),
)  # fmt: skip
def test_no_row_ends_with_what_is_no_answer_or_holds_what_is_denied(given_turns, bad):
    turns = [turn for finish, stamps, _ in given_turns for turn in (user(), answer(finish=finish, stamps=stamps))]
    row = row_turns(
        Conversation(tuple(turns), fork=len(turns) // 2), denied=lambda t: "denied: x" * (t.stamps == bad and bad > 0)
    )
    held = row.conversation
    assert held.fork <= len(turns) // 2 and all(turn in turns for turn in held.turns)
    assert all(turn.stamps != bad or not bad for turn in held.turns)
    assert all(turn.finish != "error" for turn in held.turns)
    if held.turns and row.ends:
        assert held.turns[-1].role is Role.ASSISTANT or row.ends == "the answer is failed"
        assert incomplete_answer(held.turns[last_answer(held)]) is None


def test_the_turns_that_a_fork_shares_are_counted_without_those_that_are_passed_over():
    said = Conversation((user(), answer(finish="error"), user(), answer(), user(), answer()), fork=4)
    assert row_turns(said).conversation.fork == 3


def test_text_alone_stays_text():
    plain = Conversation((Turn(Role.SYSTEM, (Text("Be brief."),)), user("Hi"), answer("Hello")))
    messages = (Message("system", "Be brief."), Message("user", "Hi"))
    assert as_text_row(plain) == TextRow(messages, "Hello", "")
    thought = msgspec.structs.replace(answer("Hello"), parts=(Reasoning("hm"), Text("Hello")))
    assert as_text_row(Conversation((*plain.turns[:2], thought))) == TextRow(messages, "Hello", "hm")
    signed = msgspec.structs.replace(thought, parts=(Reasoning("hm", signature="s"), Text("Hello")))
    more = [
        Conversation((*plain.turns[:2], signed)),
        Conversation((*plain.turns[:2], thought, user(), answer())),
        Conversation(plain.turns, (Tool("run"),)),
        Conversation((*plain.turns, user())),
        Conversation((*plain.turns[:2], answer(calls=["a"]))),
        Conversation((answer(),)),
        msgspec.structs.replace(plain, fork=1),
    ]
    assert [as_text_row(one) for one in more] == [None] * len(more)


def test_words_and_counts():
    said = msgspec.structs.replace(
        answer("text", calls=["a"]), parts=(Reasoning("thought"), Text("text"), Call("f", "{1}"))
    )
    assert (spoken(said), words_of(said)) == ("text", "text\nthought\nf {1}")
    assert spoken(results("a", "b")) == "of aof b"
    counted = msgspec.structs.replace(said, usage=Usage(7, 2))
    both = Conversation((user(), counted, user(), counted))
    assert own_usage(both) == Usage(7, 4)
    assert own_usage(msgspec.structs.replace(both, fork=2)) == Usage(7, 2)
    assert own_usage(Conversation((user(), said, user(), counted))) == Usage(7, -1)
