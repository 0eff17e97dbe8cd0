"""What agents did through the gateway, read as sessions."""

import json

import pytest

from tests.agents import JSON
from tests.gateways import post


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_is_read_like_a_chat(home, agent, stream):
    said = agent.session("mend it", stream)
    said.append({"role": "user", "content": "and test it"})
    agent(said, stream)
    agent.running.ended()
    (listed,) = home("session", "list", "--json").json
    assert (listed["project"], listed["calls"], listed["turns"], listed["models"], listed["unmatched"]) == (
        "p",
        3,
        7,
        ["m"],
        0,
    )
    shown = home("session", "show", listed["session"][:8]).out
    for words in (
        "--- user",
        "mend it",
        "[thinks] thought 1",
        '[calls bash {"cmd": "ls"}]',
        "add.py of mend it",
        "Done 2",
        "and test it",
    ):
        assert words in shown, shown
    value = home("session", "show", listed["session"], "--json").json
    turns = value["conversation"]["turns"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    assert all(
        turn["stamps"] and turn["key"].startswith("call:") and turn["usage"]["completion_tokens"] == 2
        for turn in answers
    )
    assert [tool["name"] for tool in value["conversation"]["tools"]] == ["bash"] and len(value["calls"]) == 3


def test_interleaved_sessions_forks_and_side_calls(home, agent):
    first = agent.session("first task")
    agent.session("second task", stream=True)
    again = [*first[:3], {"role": "tool", "tool_call_id": "c1", "content": "another result"}]
    agent(again)
    agent([{"role": "user", "content": "no tools: a title"}], tools=[])
    agent.running.ended()
    listed = home("session", "list", "--json").json
    assert [(one["calls"], sorted(one["lines"].values())) for one in listed] == [
        (3, ["fork", "main"]), (2, ["main"]), (1, ["main"]),
    ]  # fmt: skip
    name = listed[0]["session"]
    fork = next(line for line, kind in listed[0]["lines"].items() if kind == "fork")
    shown = home("session", "show", name).out
    assert "another result" in shown and "add.py of first task" not in shown, (
        "of two ends the last one is the session's"
    )
    assert "add.py of first task" in home("session", "show", name, "--line", fork).out
    found = home("session", "find", "ADD.py of second", "--json").json
    assert [(one["session"], one["turn"]) for one in found] == [(listed[1]["session"], 3)]
    assert home("session", "list", "--project", "other", "--json").json == []


def test_history_at_the_server(home, agent):
    def respond(**body):
        status, _, raw = post(
            agent.running,
            agent.key,
            json.dumps({"model": "m", "max_output_tokens": 50, **body}).encode(),
            "/v1/responses",
            **JSON,
        )
        assert status == 200, raw
        return json.loads(raw)["id"]

    first = respond(input="mend it", instructions="Be brief.")
    respond(
        input=[{"type": "function_call_output", "call_id": "c1", "output": "x"}],
        previous_response_id=first,
        instructions="Be brief.",
    )
    agent.running.ended()
    (listed,) = home("session", "list", "--json").json
    assert (listed["calls"], listed["turns"]) == (2, 5)
    shown = home("session", "show", listed["session"]).out
    assert "Be brief." in shown and "Done 2" in shown


def test_what_is_no_session_says_so(home, agent):
    post(agent.running, agent.key, b'{"model": "m", "input": "x"}', "/v1/embeddings", **JSON)
    agent.running.ended()
    listed = home("session", "list", "--json")
    assert listed.json == []
    assert "1 calls are in no session: it asked no model for words" in listed.err
    assert "There is no session 'x'" in home("session", "show", "x", code=2).err
    assert home("session", "find", "x").out.strip() == "(none)"


def test_outcomes_are_said_by_hand_and_by_file(home, agent):
    agent.session("first task")
    agent.session("second task")
    agent.running.ended()
    first, second = (one["session"] for one in home("session", "list", "--json").json)
    home("session", "outcome", first[:10], "failed", "--why", "the tests did not pass")
    home("session", "outcome", first, "passed", "--reward", "0.5", "--why", "they do now")
    lines = [{"session": second, "outcome": "failed"}, {"session": "ghost", "outcome": "passed"}]
    path = home.write("outcomes.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    done = home("session", "outcome", "--file", path, "--json", code=1)
    assert done.json == {"written": 1, "unknown": ["ghost"]} and "ghost" in done.err
    listed = home("session", "list", "--json").json
    assert [(one["outcome"], one["reward"]) for one in listed] == [("passed", "0.5"), ("failed", "")], (
        "what is said last counts"
    )
    assert "passed" in home("session", "show", first).out and "they do now" in home("session", "show", first).out
    home("doctor", "--rebuild")
    assert home("session", "list", "--json").json == listed


@pytest.mark.parametrize(
    "words", [(), ("x",), ("x", "good"), ("x", "--why", "y"), ("x", "passed", "--file", "f"), ("--file", "bad.jsonl")]
)
def test_outcomes_that_say_nothing_are_refused(home, words):
    home.write("bad.jsonl", '{"session": "s", "outcome": "good"}\n')
    assert "stillhouse:" in home("session", "outcome", *words, code=2).err


def test_a_harness_says_how_its_session_ended(home, agent):
    def say(value, key=agent.key):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return post(agent.running, key, body, "/v1/outcomes", **JSON)[0]

    agent.session("first task")
    body = json.dumps({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "no tools"}]}).encode()
    _, headers, _ = post(agent.running, agent.key, body, **JSON)
    call = headers["x-stillhouse-call"]
    other = home("gateway", "key", "add", "other", "--project", "p", "--use", "train", "--json").json["secret"]
    assert say({"call": call, "outcome": "failed"}) == 200
    assert say({"call": call, "outcome": "passed", "reward": 0.25, "why": "3 of 12"}) == 200
    assert say({"call": call, "outcome": "passed"}, other) == 404, "another key's calls are not its to judge"
    assert say({"call": "nothing", "outcome": "passed"}) == 404
    bad = [{"call": call}, {"call": call, "outcome": "good"}, {"outcome": "passed"}, b"[]", b"{", {"call": call, "x": 1},
           b'{"call": "c", "reward": 1e999}', b'{"call": "c", "reward": NaN}']  # fmt: skip
    assert [say(one) for one in bad] == [400] * len(bad)
    assert say({"call": call, "outcome": "passed"}, "sth-no") == 401
    agent.running.ended()
    listed = home("session", "list", "--json").json
    assert [(one["outcome"], one["reward"]) for one in listed] == [("", ""), ("passed", "0.25")]
    home("doctor", "--rebuild")
    assert home("session", "list", "--json").json == listed
    home("session", "outcome", listed[1]["session"], "failed")
    assert home("session", "list", "--json").json[1]["outcome"] == "failed", "what is said last counts"
    home("session", "outcome", listed[1]["session"], "--reward", "nan", code=2)
