"""Trajectories as agents wrote them: all of it is read, in order, and written again."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from stillhouse.conversations import claude_tap
from stillhouse.conversations.every_format import format_of_lines, format_of_row
from stillhouse.conversations.finishes import TOOL_CALLS
from stillhouse.conversations.formats import (
    claude_code,
    codex_rollout,
    mini_swe_agent,
    pi_session,
    swe_agent,
    swe_smith,
)
from stillhouse.conversations.formats.format import CannotRead, without
from stillhouse.conversations.record import Call, Reasoning, Result, Role, Unknown, text_of, why_no_row

FILES = Path(__file__).parents[3] / "fixtures" / "trajectories"


def lines(name):
    data = (FILES / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    return [json.loads(line) for line in text.splitlines()]


def document(name):
    data = (FILES / name).read_bytes()
    return json.loads(gzip.decompress(data) if name.endswith(".gz") else data)


def roles(conversation):
    return Counter(str(turn.role) for turn in conversation.turns)


def parts(conversation, kind):
    return [part for turn in conversation.turns for part in turn.parts if isinstance(part, kind)]


def written_again(format, conversation):
    again = format.read(json.loads(json.dumps(format.write(conversation))))
    assert again == [without(conversation, format.leaves_out)]


def test_claude_code():
    entries = lines("claude_code_session.jsonl")
    assert format_of_lines(entries) is claude_code.FORMAT
    (found,) = claude_code.read(entries)
    assert roles(found) == {"system": 7, "user": 3, "assistant": 2, "tool": 1} and len(found.tools) == 11
    assert text_of(found.turns[1]) == "Create add.py with add(a,b) and test it"
    answer = next(turn for turn in found.turns if turn.role is Role.ASSISTANT)
    thought, _, call = answer.parts
    assert (thought.text, thought.signature, call.name, call.id) == (
        "I should write the file and test it.", "c2ln", "Bash", "toolu_695ea5336dc54ad9",
    )  # fmt: skip
    assert (answer.finish, answer.model, answer.usage.completion_tokens) == (TOOL_CALLS, "claude-mock", 40)
    assert parts(found, Result)[0].call == call.id and why_no_row(found) == ""
    written_again(claude_code.FORMAT, found)


def entry(uuid, parent, kind, content, **more):
    message = {"role": kind, "content": content}
    if kind == "assistant":
        message |= {"id": more.pop("id", uuid), "model": "m", "stop_reason": "end_turn"}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "message": message, **more}


def use(id):
    return [{"type": "tool_use", "id": id, "name": "Bash", "input": {}}]


def gave(id, text):
    return [{"type": "tool_result", "tool_use_id": id, "content": text}]


def said(text):
    return [{"type": "text", "text": text}]


PARALLEL = [
    entry("u", None, "user", "go"),
    entry("a1", "u", "assistant", use("t1"), id="m1"),
    entry("a2", "a1", "assistant", use("t2"), id="m1"),
    entry("r1", "a1", "user", gave("t1", "one")),
    entry("r2", "a2", "user", gave("t2", "two")),
    entry("b", "r2", "assistant", said("done")),
]


def test_claude_code_parallel_calls_are_one_answer_and_their_results_one_turn():
    (found,) = claude_code.read(PARALLEL)
    assert [str(turn.role) for turn in found.turns] == ["user", "assistant", "tool", "assistant"]
    assert {part.call for part in parts(found, Result)} == {"t1", "t2"} and why_no_row(found) == ""


def test_claude_code_forks_side_chains_and_compaction_are_conversations_of_their_own():
    side = [
        entry("s1", None, "user", "look for it", isSidechain=True),
        entry("s2", "s1", "assistant", said("found"), isSidechain=True),
    ]
    fork = [entry("f1", "r2", "assistant", said("no"), id="m9"), entry("f2", "f1", "user", "try again")]
    fork += [entry("f3", "f2", "assistant", said("done again"))]
    after = [entry("c1", None, "user", "This session goes on from an earlier one.", isCompactSummary=True)]
    after += [entry("c2", "c1", "assistant", said("going on"))]
    main, *others = claude_code.read([*PARALLEL, *side, *fork, *after])
    assert text_of(main.turns[-1]) == "going on" and main.id == "s"
    assert {text_of(one.turns[-1]) for one in others} == {"done", "found", "done again"}
    assert all(one.parent == "s" for one in others)
    ended, *_ = claude_code.read([*PARALLEL, *fork])
    assert text_of(ended.turns[-1]) == "done again"


def test_claude_code_says_what_it_cannot_know():
    """An attachment of which the model saw a text that the file does not have."""
    attached = {"type": "attachment", "uuid": "x", "parentUuid": "u", "attachment": {"type": "todo"}, "sessionId": "s"}
    (found,) = claude_code.read([PARALLEL[0], attached, entry("b", "x", "assistant", said("done"))])
    assert "todo" in found.turns[1].parts[-1].text and not parts(found, Unknown), "it stands as a reminder"
    attached["attachment"] = {
        "type": "file",
        "content": {"type": "image", "source": {"type": "base64", "data": "eA=="}},
    }
    (found,) = claude_code.read([PARALLEL[0], attached, entry("b", "x", "assistant", said("done"))])
    assert parts(found, Unknown)[0].kind == "attachment file" and "attachment file" in why_no_row(found)


@pytest.mark.parametrize("read", [claude_code.read, pi_session.read])
def test_entries_that_are_each_others_parents_are_refused(read):
    loop = [entry("a", "b", "user", "x") | {"id": "a", "parentId": "b"}]
    loop += [entry("b", "a", "user", "y") | {"id": "b", "parentId": "a"}]
    with pytest.raises(CannotRead):
        read([{"type": "session", "id": "s"}, *[{**one, "type": "message"} for one in loop]])
    tail = entry("c", "a", "user", "z")
    with pytest.raises(CannotRead, match="each other's parents"):
        claude_code.read([*loop, tail])


def test_codex():
    entries = lines("codex_rollout.jsonl")
    assert format_of_lines(entries) is codex_rollout.FORMAT
    (found,) = codex_rollout.read(entries)
    assert roles(found) == {"system": 1, "developer": 1, "user": 2, "assistant": 2, "tool": 1}
    assert parts(found, Call)[0].name == "exec_command" and parts(found, Result)[0].call == "call_1"
    answers = [turn for turn in found.turns if turn.role is Role.ASSISTANT]
    assert [(turn.model, turn.usage.completion_tokens) for turn in answers] == [("gpt-mock", 5), ("gpt-mock", 5)]
    assert found.id and why_no_row(found) == ""
    written_again(codex_rollout.FORMAT, found)


def test_codex_goes_on_after_a_compaction():
    entries = lines("codex_rollout.jsonl")
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Now sub"}]}
    more = [
        {"type": "compacted", "payload": {"message": "They wrote add.py."}},
        {"type": "response_item", "payload": asked},
        {
            "type": "response_item",
            "payload": {"type": "local_shell_call", "call_id": "c9", "action": {"command": ["ls"]}},
        },
        {"type": "response_item", "payload": {"type": "web_search_call", "id": "w", "action": {}}},
    ]
    last, before = codex_rollout.read([*entries, *more])
    assert last.parent == before.id and len(before.turns) == 7
    assert [text_of(turn) for turn in last.turns][1:3] == ["They wrote add.py.", "Now sub"]
    assert parts(last, Call)[0].kind == "local_shell" and parts(last, Unknown)[0].kind == "web_search_call"


def test_pi():
    entries = lines("pi_session.jsonl.gz")
    assert format_of_lines(entries) is pi_session.FORMAT
    (found,) = pi_session.read(entries)
    assert roles(found) == {"user": 88, "assistant": 453, "tool": 366}
    assert len(parts(found, Call)) == 391 and len(parts(found, Result)) == 373 and len(parts(found, Reasoning)) == 1
    assert why_no_row(found) == "a call of a tool has no result", "some answers were cut"
    written_again(pi_session.FORMAT, found)


def test_pi_trees_have_branches_and_compactions():
    def one(id, parent, **more):
        return {"type": "message", "id": id, "parentId": parent, **more}

    def turn(role, text):
        return {"message": {"role": role, "content": [{"type": "text", "text": text}]}}

    entries = [
        {"type": "session", "id": "s", "version": 3},
        one("a", None, **turn("user", "first")), one("b", "a", **turn("assistant", "one")),
        one("c", "b", **turn("user", "second")), one("d", "c", **turn("assistant", "two")),
        {"type": "compaction", "id": "e", "parentId": "d", "summary": "They talked.", "firstKeptEntryId": "c"},
        one("f", "e", **turn("user", "third")), one("x", "b", **turn("user", "other")),
        one("g", "f", **turn("assistant", "three")),
    ]  # fmt: skip
    main, branch = pi_session.read(entries)
    assert [text_of(turn) for turn in main.turns] == ["They talked.", "second", "two", "third", "three"]
    assert [text_of(turn) for turn in branch.turns] == ["first", "one", "other"] and branch.parent == "s"


def test_swe_agent():
    given = document("swe_agent_pandas.traj.gz")
    assert format_of_row(given) is swe_agent.FORMAT
    (found,) = swe_agent.read(given)
    assert roles(found) == {"system": 1, "user": 1, "assistant": 17, "tool": 17} and len(parts(found, Call)) == 17
    assert found.outcome.why == "submitted" and why_no_row(found) == ""
    written_again(swe_agent.FORMAT, found)
    demo = {**given, "history": [{**one, "is_demo": True} for one in given["history"]]}
    assert "demonstration" in why_no_row(swe_agent.read(demo)[0])


def test_swe_smith():
    for row in lines("swe_smith_messages_xml.jsonl.gz"):
        assert format_of_row(row) is swe_smith.FORMAT
        (found,) = swe_smith.read(row)
        calls = parts(found, Call)
        assert roles(found)["user"] == 1 and len(calls) == roles(found)["assistant"] and why_no_row(found) == ""
        assert all(set(json.loads(call.arguments)) for call in calls if call.name != "submit")
        written_again(swe_smith.FORMAT, found)


def test_mini_swe_agent():
    given = document("mini_swe_agent.traj.json")
    (found,) = mini_swe_agent.read(given)
    assert roles(found) == {"system": 1, "user": 11, "assistant": 10}
    written_again(mini_swe_agent.FORMAT, found)
    call = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    newer = {
        "info": {"exit_status": "Submitted", "config": {"model": {"model_name": "openai/m"}}},
        "messages": [
            {"role": "user", "content": "go", "extra": {"timestamp": 1}},
            {"role": "assistant", "content": None, "tool_calls": [call], "extra": {"cost": 0}},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
            {"role": "exit", "content": "diff", "extra": {"submission": "diff"}},
        ],
        "trajectory_format": "mini-swe-agent-1.1",
    }
    assert format_of_row(newer) is mini_swe_agent.FORMAT
    (found,) = mini_swe_agent.read(newer)
    assert roles(found) == {"user": 1, "assistant": 1, "tool": 1} and found.outcome.why == "Submitted"
    assert found.turns[1].model == "openai/m" and why_no_row(found) == ""


def test_entries_without_parents_follow_each_other_and_broken_ones_cost_no_other():
    entries = [{**one, "parentUuid": None} for one in PARALLEL]
    (found,) = claude_code.read(entries)
    assert [str(turn.role) for turn in found.turns] == ["user", "assistant", "tool", "assistant"]
    typo = {
        "type": "user",
        "uuid": "z",
        "parentUuid": "b",
        "sessionId": "s",
        "message": {"role": "user", "contenst": "x"},
    }
    text = {"type": "user", "uuid": "y", "parentUuid": "z", "sessionId": "s", "message": "error"}
    (found,) = claude_code.read([*PARALLEL, "a line", typo, text])
    assert [part.kind for part in parts(found, Unknown)] == ["message without content"] * 2 + [
        "entry that is no object"
    ]
    assert text_of(found.turns[3]) == "done" and "message without content" in why_no_row(found)
    rollout = codex_rollout.read([*lines("codex_rollout.jsonl"), 5])
    assert [part.kind for part in parts(rollout[0], Unknown)] == ["entry that is no object"]


def test_pi_first_versions_and_what_the_user_ran():
    def turn(role, text, **more):
        return {"type": "message", "message": {"role": role, "content": [{"type": "text", "text": text}], **more}}

    ran = {"type": "message", "message": {"role": "bashExecution", "command": "ls", "output": "a.py"}}
    hidden = {"type": "message", "message": {**ran["message"], "output": "b.py", "excludeFromContext": True}}
    header = {"type": "session", "id": "s", "parentSession": "/x/before.jsonl"}
    compaction = {"type": "compaction", "summary": "so far", "firstKeptEntryIndex": 3}
    said = [turn("user", "one"), turn("assistant", "1"), turn("user", "two"), turn("assistant", "2")]
    entries = [header, *said, compaction, ran, hidden, turn("assistant", "3")]
    (found,) = pi_session.read(entries)
    assert [text_of(turn) for turn in found.turns] == [
        "so far",
        "two",
        "2",
        "$ ls\na.py",
        "3",
    ] and found.parent == "before"


def test_a_history_alone_is_swe_agents_and_pairs_are_alpacas():
    history = [
        {"role": "user", "content": "go", "agent": "main"},
        {"role": "assistant", "content": "gone", "agent": "main"},
    ]
    assert (
        format_of_row({"history": history}) is swe_agent.FORMAT
        and len(swe_agent.read({"history": history})[0].turns) == 2
    )
    pairs = {"instruction": "a", "input": "", "output": "b", "history": [["c", "d"]]}
    assert format_of_row(pairs).name == "alpaca"


def trace(path, body, answer):
    request = {"path": path, "headers": {}, "body": body}
    return {"request": request, "response": {"status": 200, "body": answer}, "timestamp": "t"}


def test_claude_tap_calls_are_put_together():
    asked = [{"role": "user", "content": "go"}]
    first = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}],
    }
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
    ordered = {"type": "message", "model": "m", **first, "stop_reason": "tool_use"}
    done = {"type": "message", "model": "m", "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn"}
    entries = [
        trace("/v1/messages?beta=true", {"messages": asked}, ordered),
        trace("/v1/messages/count_tokens", {}, {}),
    ]
    entries += [
        trace("/v1/messages", {"messages": [*asked, first, result]}, done),
        trace("/v1/messages", {"messages": 5}, {}),
        7,
    ]
    assert format_of_lines(entries) is claude_tap.FORMAT
    (found,) = claude_tap.read(entries)
    assert [str(turn.role) for turn in found.turns] == ["user", "assistant", "tool", "assistant", "user"]
    assert [part.kind for part in parts(found, Unknown)] == ["entry that is no object", "call that cannot be read"]
    assert text_of(found.turns[3]) == "done" and found.turns[1].model == "m"


def test_claude_tap_events_of_a_web_socket():
    def done(number, *output):
        response = {"id": f"resp_{number}", "status": "completed", "model": "m", "output": list(output)}
        return {"type": "response.completed", "response": response}

    call = {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}
    result = {"type": "function_call_output", "call_id": "c", "output": "x"}
    creates = [
        {"type": "response.create", "input": [], "generate": False},
        {"type": "response.create", "input": [{"role": "user", "content": "go"}], "previous_response_id": "resp_0"},
        {"type": "response.create", "input": [result], "previous_response_id": "resp_1"},
    ]
    events = [done(0), {"type": "codex.rate_limits"}, done(1, call), done(2, text)]
    request = {"path": "/backend-api/codex/responses", "headers": {}, "body": creates[2], "ws_events": creates}
    (found,) = claude_tap.read([{"request": request, "response": {"status": 101, "body": None, "ws_events": events}}])
    assert [str(turn.role) for turn in found.turns] == ["user", "assistant", "tool", "assistant"] and why_no_row(
        found
    ) == ""


def test_what_must_not_be_learned_or_lost_in_other_formats():
    from stillhouse.conversations.formats import atif, openai_chat, share_gpt

    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    said = {"role": "assistant", "content": "done", "reasoning_content": "hm", "thinking_blocks": blocks}
    assert openai_chat.read_message(said).parts[:2] == (Reasoning("hm", signature="s"), Reasoning(encrypted="x"))
    steps = [{"step_id": 1, "source": "user", "message": "go"}]
    steps += [{"step_id": 2, "source": "agent", "message": "copied", "is_copied_context": True}]
    (found,) = atif.read({"schema_version": "ATIF-v1.8", "agent": {"name": "a", "version": "1"}, "steps": steps})
    assert "copied context" in why_no_row(found)
    turns = [{"from": "human", "value": "go"}, {"from": "gpt", "value": "gone", "weight": 0}]
    with pytest.raises(CannotRead, match="more than who says what"):
        share_gpt.read({"conversations": turns})
    assert share_gpt.read({"conversations": [turns[0], {**turns[1], "weight": 1}]})
