"""Calls become the sessions that they came from: interleaved, forked, tried again, with what clients leave out."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.conversations.client_names import Client, client_of
from stillhouse.conversations.record import Call, Conversation, Reasoning, Result, Role, Text, Tool, Turn, text_of
from stillhouse.conversations.sessions import Exchange, LineKind, assemble

SYSTEM = Turn(Role.SYSTEM, (Text("You are an agent."),))
BASH = Tool("bash")


def user(text):
    return Turn(Role.USER, (Text(text),))


def answer(number, text=None, calls=False):
    parts = [Reasoning("hm"), Text(text or f"answer {number}")]
    parts += [Call("bash", json.dumps({"n": number, "cmd": "ls"}), f"id{number}")] if calls else []
    return Turn(Role.ASSISTANT, tuple(parts), 7, "stop", key=f"key{number}")


def repeated(turn):
    """As a client repeats it: without reasoning, with arguments laid out anew."""
    parts = [part for part in turn.parts if not isinstance(part, Reasoning)]
    parts = [
        Call(one.name, json.dumps(json.loads(one.arguments), sort_keys=True), one.id) if isinstance(one, Call) else one
        for one in parts
    ]
    return Turn(turn.role, tuple(parts))


class Agent:
    """Calls of one conversation, as a client makes them."""

    def __init__(self, world, name, said=(), client=""):
        self.world, self.name, self.said, self.client = world, name, list(said), client

    def ask(self, text, calls=False, tools=(BASH,)):
        number = len(self.world)
        asked = [SYSTEM, *map(repeated_or_same, self.said), user(text)]
        got = answer(number, calls=calls)
        self.world.append(
            Exchange(f"call{number}", Conversation(tuple(asked), tuple(tools)), got, Client(self.client), "key")
        )
        self.said += [user(text), got]
        if calls:
            self.said.append(Turn(Role.TOOL, (Result((Text(f"out {number}"),), f"id{number}"),)))
        return self

    def fork(self, back):
        """Another conversation that shares all but the last turns."""
        return Agent(self.world, self.name, self.said[: len(self.said) - back], self.client)


def repeated_or_same(turn):
    return repeated(turn) if turn.role is Role.ASSISTANT else turn


def told(line):
    return [text_of(turn) for turn in line.conversation.turns if turn.role is not Role.TOOL]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans())
def test_interleaved_sessions_are_put_together(data, named):
    world, agents = [], [Agent([], "", client="")]
    agents = [Agent(world, f"s{n}", client=f"s{n}" if named else "") for n in range(data.draw(st.integers(1, 3)))]
    for step in range(data.draw(st.integers(1, 12))):
        agent = data.draw(st.sampled_from(agents))
        agent.ask(f"{agent.name} asks {step}", calls=data.draw(st.booleans()))
    sessions = assemble(world)
    asked = [agent for agent in agents if agent.said]
    assert len(sessions) == len(asked)
    for session in sessions:
        (line,) = session.lines
        (agent,) = [one for one in asked if told(line)[1] == text_of(one.said[0])]
        last = max(place for place, turn in enumerate(agent.said) if turn.role is Role.ASSISTANT)
        assert line.conversation.turns == (SYSTEM, *agent.said[: last + 1]), (
            "with reasoning and stamps, as it was answered"
        )
        assert line.kind is LineKind.MAIN and line.unmatched == 0
        assert not named or session.id == agent.name


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_forks_and_second_tries_are_lines_of_one_session(data):
    world = []
    main = Agent(world, "s")
    for step in range(4):
        main.ask(f"asks {step}")
    others = []
    for step in range(data.draw(st.integers(1, 4))):
        source = data.draw(st.sampled_from([main, *others]))
        back = 2 * data.draw(st.integers(1, len(source.said) // 2 - 1))
        others.append(source.fork(back).ask(data.draw(st.sampled_from([f"other {step}", text_of(source.said[-back])]))))
    (session,) = assemble(world)
    first, *forks = session.lines
    assert first.kind is LineKind.MAIN and all(line.kind is LineKind.FORK and line.unmatched == 0 for line in forks)
    assert sorted(told(line) for line in session.lines) == sorted(
        [text_of(SYSTEM), *map(text_of, agent.said)] for agent in [main, *others]
        if not any(len(one.said) > len(agent.said) and one.said[: len(agent.said)] == agent.said for one in [main, *others])
    )  # fmt: skip
    for line in forks:
        assert line.conversation.parent == session.id and line.conversation.fork >= 1
        assert any(line.conversation.turns[: line.conversation.fork] == one.conversation.turns[: line.conversation.fork]
                   for one in session.lines if one is not line)  # fmt: skip
    calls = {call for line in session.lines for call in line.calls}
    assert calls == {one.call for one in world}


def test_a_history_that_was_edited_keeps_the_origin_of_its_answers():
    world = []
    agent = Agent(world, "s").ask("first").ask("second")
    edited = [user("a note that changes every time"), *agent.said[1:]]
    Agent(world, "s", edited).ask("third")
    (session,) = assemble(world)
    longest = session.lines[0].conversation.turns
    assert [turn.stamps for turn in longest if turn.role is Role.ASSISTANT] == [7, 7, 7] and session.lines[
        0
    ].unmatched == 0


def test_answers_that_nobody_gave_here_are_unmatched():
    pasted = [user("x"), Turn(Role.ASSISTANT, (Text("from another lab"),))]
    ((line,),) = [session.lines for session in assemble(Agent([], "s", pasted).ask("go on").world)]
    assert line.unmatched == 1 and [turn.stamps for turn in line.conversation.turns if turn.role is Role.ASSISTANT] == [
        0,
        7,
    ]


def test_lines_of_a_session_are_told_apart():
    world = []
    main = Agent(world, "m", client="s").ask("do it", calls=True)
    summary = "They have looked at everything, and the tests of the parser fail since the last change of its grammar."
    task = answer(90, "I hand it on.")
    task = msgspec.structs.replace(task, parts=(*task.parts, Call("Task", json.dumps({"prompt": "find the bug"}), "t")))
    for got in (task, answer(91, summary)):
        number = len(world)
        asked = (SYSTEM, *map(repeated_or_same, main.said), user(f"and {number}"))
        world.append(Exchange(f"call{number}", Conversation(asked, (BASH,)), got, Client("s"), "key"))
        main.said += [user(f"and {number}"), got]
    Agent(world, "sub", client="s").ask("find the bug")
    Agent(world, "title", client="s").ask("Write a title for this.", tools=())
    Agent(world, "after", client="s").ask(f"This session goes on. {summary}")
    Agent(world, "elsewhere", client="t").ask("another session")
    first, second = assemble(world)
    assert [line.kind for line in first.lines] == [LineKind.MAIN, LineKind.SUB_AGENT, LineKind.SIDE, LineKind.SUMMARY]
    assert all(line.conversation.parent == "s" for line in first.lines[1:]) and second.id == "t"


def test_history_at_the_server_is_put_together_by_ids():
    world = []
    for number, (text, before) in enumerate([("one", ""), ("two", "r0"), ("three", "r1"), ("other", "r0")]):
        client = Client("", before, f"r{number}")
        # Instructions are sent with every request.
        world.append(Exchange(f"call{number}", Conversation((SYSTEM, user(text))), answer(number), client, "key"))
    (session,) = assemble(world)
    assert [told(line)[1:] for line in session.lines] == [
        ["one", "answer 0", "two", "answer 1", "three", "answer 2"], ["one", "answer 0", "other", "answer 3"],
    ]  # fmt: skip


def test_sessions_that_begin_with_the_same_words_are_told_apart_by_their_names():
    world = []
    agents = [Agent(world, name, client=name) for name in ("s", "t")]
    for text in ("mend it", "mend it more"):
        for agent in agents:
            agent.ask(text)
    agents[1].fork(4).ask("mend it")
    first, second = assemble(world)
    assert (first.id, len(first.lines), second.id, len(second.lines)) == ("s", 1, "t", 2)
    for session, agent in ((first, agents[0]), (second, agents[1])):
        assert session.lines[0].conversation.turns[1:] == tuple(agent.said)
    resumed = Agent(world, "u", agents[0].said, client="u").ask("go on in a session of another name")
    first, *_ = assemble(world)
    assert told(first.lines[0])[1:] == [text_of(turn) for turn in resumed.said], (
        "a history with answers is the same session's"
    )


def test_keys_do_not_share_sessions():
    world = Agent([], "a").ask("first").ask("second").world
    other = [one._replace(group="other", call=f"o{n}") for n, one in enumerate(world)]
    assert len(assemble([one for pair in zip(world, other, strict=True) for one in pair])) == 2


def test_a_call_without_an_answer_is_the_end_of_its_line():
    world = Agent([], "a").ask("first").ask("second").world
    world[-1] = world[-1]._replace(answer=None)
    ((line,),) = [session.lines for session in assemble(world)]
    assert told(line)[-1] == "second" and len(line.calls) == 2


CLIENTS = [
    ({"X-Claude-Code-Session-Id": "abc"}, {}, "abc"),
    ({}, {"metadata": {"user_id": "user_12ab_account_34cd_session_4c40fee8-26dc"}}, "4c40fee8-26dc"),
    ({}, {"metadata": {"user_id": '{"device_id":"d","session_id":"s-1"}'}}, "s-1"),
    ({"session_id": "cx"}, {"prompt_cache_key": "other"}, "cx"), ({}, {"prompt_cache_key": "pk"}, "pk"),
    ({}, {"conversation": {"id": "conv_1"}}, "conv_1"), ({}, {"client_metadata": {"session_id": "cm"}}, "cm"),
    ({}, {"metadata": 5, "conversation": [], "prompt_cache_key": 3}, ""), ({}, {"metadata": {"user_id": "{"}}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "session"), CLIENTS)
def test_clients_name_their_sessions(headers, body, session):
    assert client_of(headers, body).session == session
    assert client_of(headers, {**body, "previous_response_id": "r"}, "q")[1:] == ("r", "q")


def test_sessions_that_begin_with_the_same_files_and_ask_something_else_are_two():
    files = [Turn(Role.SYSTEM, (Text("Be an agent."),)), Turn(Role.USER, (Text("a file"),))]
    calls = []
    for number, task in enumerate(("one", "two", "one")):
        asked = Conversation((*files, Turn(Role.USER, (Text(task),))))
        answer = Turn(Role.ASSISTANT, (Text(f"answer {number}"),), key=f"k{number}")
        calls.append(Exchange(f"c{number}", asked, answer))
    found = assemble(calls)
    assert [[line.calls for line in session.lines] for session in found] == [[("c2",), ("c0",)], [("c1",)]]
