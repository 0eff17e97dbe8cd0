"""Rows that hold conversations: brought in, gathered, decided turn by turn, and written for others."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

from stillhouse.conversations.formats import atif
from stillhouse.conversations.record import Call, Role, decode
from stillhouse.datasets.shards import read_rows
from stillhouse.home.ledger import dataset_queries, origin_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from tests.agents import JSON
from tests.gateways import post

TRAJECTORIES = Path(__file__).parent.parent / "fixtures" / "trajectories"
OWN = ("--origin", "teacher", "--lab", "testlab", "--model", "m", "--channel", "open-weights", "--terms", "licence/mit",
       "--inputs", "organisation/own")  # fmt: skip
TOOL = {"type": "function", "function": {"name": "run", "description": "Run it", "parameters": {"type": "object"}}}


def call(id="c1", arguments='{"cmd": "ls"}'):
    return {"id": id, "type": "function", "function": {"name": "run", "arguments": arguments}}


def chat(*answers, tools=(TOOL,), **more):
    """A row in which a tool is called before each answer but the first."""
    messages = [{"role": "user", "content": "Which files are here?"}]
    for number, text in enumerate(answers):
        messages.append({"role": "assistant", "content": None, "tool_calls": [call(f"c{number}")]})
        messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": "a.py"})
        messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": "And now?"})
    return {"messages": messages[:-1], "tools": list(tools), **more}


def rows_of(home, label, kind="rows"):
    with open_home(read_settings(home.home)) as opened:
        dataset = dataset_queries.dataset(opened.ledger, label)
        return [
            (row, decode(row["conversation"].encode()) if row["conversation"] else None)
            for row in read_rows(opened.objects, dataset, kind)
        ]


def imported(home, rows, *more, name="d"):
    path = home.write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return home("dataset", "import", path, "--name", name, "--json", *more)


def test_a_row_with_tools_is_held_whole(home):
    done = imported(home, [chat("It is a.py.", id="x1", source="unit")], *OWN, "--use", "train").json
    assert (done["rows"], done["left_out"], done["shortened"]) == (1, {}, {})
    ((row, said),) = rows_of(home, "d@1")
    assert [str(turn.role) for turn in said.turns] == ["user", "assistant", "tool", "assistant"]
    assert said.turns[1].parts == (Call("run", '{"cmd": "ls"}', "c0"),) and said.tools[0].name == "run"
    assert json.loads(row["rest"]) == {"id": "x1", "source": "unit"} and (row["response"], row["messages"]) == ("", [])
    assert all(turn.stamps for turn in said.turns), (
        "inputs carry what is declared of them, answers what is said of them"
    )
    home("dataset", "export", "d", "out.jsonl")
    (written,) = map(json.loads, (home.folder / "out.jsonl").read_text().splitlines())
    assert written["messages"][1]["tool_calls"] == [call("c0")] and written["tools"] == [TOOL]
    assert len(written["stillhouse"]["answers"]) == 2 and written["stillhouse"]["shared"] == 0
    again = home("dataset", "import", "out.jsonl", "--name", "again", "--json").json
    assert (again["rows"], again["unknown"]) == (1, 0), "it comes back with the stamps that it has here"
    assert home("doctor", "--json").json


@pytest.mark.parametrize("name", sorted(path.name for path in TRAJECTORIES.iterdir() if path.suffix != ".md"))
def test_real_session_files_are_rows(home, name):
    done = home("dataset", "import", TRAJECTORIES / name, "--name", "real", "--json", *OWN).json
    assert done["rows"] == (3 if name.startswith("swe_smith") else 1), done
    for _, said in rows_of(home, "real@1"):
        assert any(turn.role is Role.ASSISTANT for turn in said.turns)
    for wanted in ("openai", "atif", "anthropic"):
        home("dataset", "export", "real", f"{wanted}.jsonl", "--format", wanted, "--use", "store")
        back = home("dataset", "import", f"{wanted}.jsonl", "--name", wanted, "--json").json
        assert (back["rows"], back["left_out"]) == (done["rows"], {}), back


def test_a_folder_of_sessions_is_read_as_it_lies(home):
    folder = home.folder / "sessions"
    shutil.copytree(TRAJECTORIES, folder)
    done = home("dataset", "import", folder, "--name", "all", "--json", *OWN).json
    assert (done["rows"], done["skipped"]) == (8, {}), done
    assert done["files"]["README.md"].startswith("left out: of no format")


def test_a_session_that_was_cut_costs_its_last_entry(home):
    lines = (TRAJECTORIES / "codex_rollout.jsonl").read_bytes().splitlines(keepends=True)
    path = home.folder / "cut.jsonl"
    path.write_bytes(b"".join(lines)[:-20])
    done = home("dataset", "import", path, "--name", "cut", "--json", *OWN)
    assert done.json["rows"] == 1 and done.json["skipped"] == {"the last line of a session is not JSON": 1}


BAD = {
    "a call of a tool has two results": [chat("x")["messages"][0], {"role": "assistant", "tool_calls": [call()]},
                                         *[{"role": "tool", "tool_call_id": "c1", "content": "x"}] * 2],
    "a result of a tool has no call": [chat("x")["messages"][0], {"role": "assistant", "content": "Hm"},
                                       {"role": "tool", "tool_call_id": "c9", "content": "x"},
                                       {"role": "assistant", "content": "Done", "tool_calls": [call()]}],
    "two calls of tools have one id": [chat("x")["messages"][0], {"role": "assistant", "tool_calls": [call(), call()]}],
    "it holds a part of type video": [{"role": "user", "content": [{"type": "video", "video": "x"}]},
                                      {"role": "assistant", "tool_calls": [call()]}],
    "it holds a part of type image": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]},
        {"role": "assistant", "tool_calls": [call()]},
    ],
}  # fmt: skip


def test_what_no_row_can_hold_is_left_out_by_reason_and_costs_no_other(home):
    rows = [{"messages": messages, "tools": [TOOL]} for messages in BAD.values()]
    done = imported(home, [chat("fine"), *rows], *OWN).json
    assert done["rows"] == 1 and done["skipped"] == dict.fromkeys(BAD, 1), done


def test_arguments_that_are_no_json_and_ids_that_come_again(home):
    messages = chat("a")["messages"]
    messages[1]["tool_calls"][0]["function"]["arguments"] = "{not json"
    twice = chat("one", "two")["messages"]
    for message in twice:
        if message.get("tool_calls"):
            message["tool_calls"][0]["id"] = "same"
        if "tool_call_id" in message:
            message["tool_call_id"] = "same"
    done = imported(home, [{"messages": messages, "tools": [TOOL]}, {"messages": twice, "tools": [TOOL]}], *OWN).json
    assert done["rows"] == 2
    out = home("dataset", "export", "d", "trl.jsonl", "--format", "trl", "--use", "store", "--json")
    assert out.json["rows"] == 1 and list(out.json["left_out"]) == [
        "trl cannot say arguments of a call that are no JSON object"
    ]
    assert "1 rows left out" in out.err


def test_five_thousand_turns(home):
    done = imported(home, [chat(*[f"answer {n}" for n in range(1250)])], *OWN).json
    assert done["rows"] == 1
    ((_, said),) = rows_of(home, "d@1")
    assert len(said.turns) == 5000


def test_a_row_ends_before_its_first_denied_turn(home):
    rows = [chat("from the first", "from the second", id="mixed")]
    trajectory = {
        "schema_version": atif.VERSION, "session_id": "s", "agent": {"name": "a", "version": "1"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Go"},
            {"step_id": 2, "source": "agent", "message": "Mine.", "model_name": "qwen2.5-coder"},
            {"step_id": 3, "source": "user", "message": "On"},
            {"step_id": 4, "source": "agent", "message": "Theirs.", "model_name": "claude-opus-4"},
            {"step_id": 5, "source": "user", "message": "On"},
            {"step_id": 6, "source": "agent", "message": "Mine again.", "model_name": "qwen2.5-coder"},
        ],
    }  # fmt: skip
    said = ("--terms", "licence/apache-2.0", "--channel", "open-weights", "--inputs", "organisation/own")
    done = imported(
        home, [*rows, trajectory], *said, "--model", "qwen2.5-coder", "--lab", "alibaba", "--use", "train"
    ).json
    assert done["shortened"] == {"denied": 1}, done
    texts = {row["task"]: said for row, said in rows_of(home, "d@1")}
    assert done["rows"] == 2, done
    (short,) = [row for row, said in rows_of(home, "d@1") if said is None]
    assert (short["response"], len(short["messages"])) == ("Mine.", 1) and "mixed" in texts


def test_sessions_become_rows(home, agent):
    agent.session("first task")
    forked = agent.session("second task", stream=True)
    agent([*forked[:3], {"role": "tool", "tool_call_id": forked[2]["tool_calls"][0]["id"], "content": "other"}])
    agent.running.ended()
    first, second = (one["session"] for one in home("session", "list", "--json").json)
    home("session", "outcome", first, "failed", "--why", "no test passed")
    home("session", "outcome", second, "passed", "--reward", "0.5")
    plan = home("dataset", "gather", "p", "--name", "asked", "--plan", "--json").json["does"]
    assert (plan["answers"], plan["sessions"], plan["usable"], plan["shortened"]) == (5, 2, 3, {})
    done = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert (done["dataset"], done["rows"], done["skipped"]) == ("asked@1", 3, {})
    rows = rows_of(home, "asked@1")
    forks = [said for _, said in rows if said.fork]
    assert [(said.fork, said.parent) for said in forks] == [(3, second)]
    assert {row["verdict"] for row, _ in rows} == {"passed", "failed", "not judged"}
    for row, said in rows:
        assert row["tokens"] == 2 * sum(turn.role is Role.ASSISTANT for turn in said.turns[said.fork :])
        assert all(turn.key.startswith("call:") and turn.stamps for turn in said.turns if turn.role is Role.ASSISTANT)
    done = home("dataset", "gather", "p", "--name", "passed", "--passed", "--json").json
    assert (done["rows"], done["skipped"]) == (1, {"nobody said that its session passed": 2})
    again = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert again["dataset"] == "asked@1"
    assert f"dataset:{done['dataset']}" in home("lineage", "impact", "teacher:mock", "--json").json["nodes"]
    assert home("doctor", "--json").json


def test_words_of_another_lab_in_a_history_end_the_row(home, agent):
    said = agent.session("mend it")
    agent([*said, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "pasted from elsewhere"},
           {"role": "user", "content": "go on"}])  # fmt: skip
    agent.running.ended()
    done = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert (done["rows"], done["shortened"]) == (1, {"denied": 1}), done
    ((_, held),) = rows_of(home, "asked@1")
    assert len(held.turns) == 5 and "pasted" not in str(held)


def bound_key(home, name, terms):
    words = ("gateway", "key", "add", name, "--project", name, "--use", "train", "--inputs", terms, "--json")
    return home(*words).json["secret"]


def test_inputs_of_a_key_bind_its_calls_and_rows(home, agent):
    agent.use(bound_key(home, "bound", "licence/mit"))
    agent.session("mend it")
    closed = bound_key(home, "closed", "nobody/knows-these")
    status, _, raw = post(
        agent.running, closed, json.dumps({"model": "m", "max_tokens": 5, "messages": []}).encode(), **JSON
    )
    assert status == 403 and b"policy_refusal" in raw
    agent.running.ended()
    done = home("dataset", "gather", "bound", "--name", "asked", "--json").json
    assert done["rows"] == 1, done
    ((row, said),) = rows_of(home, "asked@1")
    with open_home(read_settings(home.home)) as opened:
        sets = origin_queries.stamp_sets(opened.ledger)
    given = [sets[turn.stamps].stamps for turn in said.turns if turn.role is not Role.ASSISTANT]
    assert {stamp.terms for stamps in given for stamp in stamps} == {("licence/mit",)}
    assert ("licence/mit",) in {stamp.terms for stamp in sets[row["stamps"]].stamps}
    keys = {key["name"]: key["inputs"] for key in home("gateway", "key", "list", "--json").json}
    assert (keys["bound"], keys["closed"]) == (["licence/mit"], ["nobody/knows-these"])


def test_a_table_for_the_libraries_of_the_field(home):
    imported(home, [chat("It is a.py."), {"prompt": "Hi", "response": "Hello"}], *OWN, "--use", "train")
    home("dataset", "export", "d", "rows.parquet")
    table = pyarrow.parquet.read_table(home.folder / "rows.parquet").to_pylist()
    assert json.loads(table[0]["tools"]) == [TOOL] and table[1]["tools"] is None
    assert table[0]["messages"][1]["tool_calls"][0]["function"] == {"name": "run", "arguments": '{"cmd": "ls"}'}
    assert home("dataset", "import", "rows.parquet", "--name", "back", "--json").json["rows"] == 2
    assert "takes openai, trl" in home("dataset", "export", "d", "x.jsonl", "--format", "csv", code=2).err
    assert "OpenAI's columns" in home("dataset", "export", "d", "x.parquet", "--format", "atif", code=2).err


def test_nothing_is_written_where_no_row_can_be(home):
    imported(home, [chat("It is a.py.")], *OWN)
    failed = home("dataset", "export", "d", "x.jsonl", "--format", "alpaca", "--use", "store", code=2)
    assert "1 rows: alpaca cannot say definitions of tools" in failed.err and not (home.folder / "x.jsonl").exists()


RAW = {"model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
       "message": {"role": "assistant", "content": None, "reasoning": "I look.", "tool_calls": [call()]}}],
       "usage": {"prompt_tokens": 9, "completion_tokens": 4}, "provider": "DeepInfra"}  # fmt: skip
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which files?"}]
MESSAGE = {"model": "m", "role": "assistant", "type": "message", "stop_reason": "tool_use",
           "content": [{"type": "thinking", "thinking": "I look.", "signature": "s"},
                       {"type": "tool_use", "id": "c1", "name": "run", "input": {"cmd": "ls"}}]}  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        {"messages": ASKED, "raw_response": RAW, "tools": [TOOL]},
        {"request": {"model": "m", "messages": ASKED, "tools": [TOOL]}, "response": RAW},
        {"request": {"model": "m", "messages": ASKED, "tools": [TOOL]}, "response": json.dumps(RAW)},
        {"generic_request": {"model": "m", "messages": ASKED, "original_row_idx": 3, "tools": [TOOL]},
         "response_message": RAW, "finish_reason": "tool_calls"},
        {"generic_request": {"model": "m", "messages": ASKED, "original_row_idx": 3}, "tools": [TOOL],
         "response_message": RAW["choices"][0]["message"], "finish_reason": "tool_calls"},
        {"request": {"messages": ASKED[1:], "system": "Be brief.", "tools": [{"name": "run", "input_schema": {}}]},
         "response": MESSAGE},
    ],
)  # fmt: skip
def test_answers_of_apis_with_calls(home, row):
    done = imported(home, [row]).json
    assert (done["rows"], done["skipped"]) == (1, {}), done
    ((stored, said),) = rows_of(home, "d@1")
    assert [str(turn.role) for turn in said.turns] == ["system", "user", "assistant"] and said.tools[0].name == "run"
    assert [type(part).__name__ for part in said.turns[-1].parts] == ["Reasoning", "Call"]
    assert said.turns[-1].finish == "tool calls" and "Which files" not in stored["rest"]


def test_distilabel_with_tools_keeps_its_generation(home):
    row = {**chat("x"), "generation": "There is one file.", "model_name": "m"}
    row["messages"] = row["messages"][:3]
    imported(home, [row], *OWN)
    ((_, said),) = rows_of(home, "d@1")
    assert said.turns[-1].parts[0].text == "There is one file." and len(said.turns) == 4


def test_columns_beside_a_conversation(home):
    rows = [
        {**chat("a"), "system": "Be brief.", "reasoning": "hm", "tools": json.dumps([TOOL])},
        {"messages": chat("b")["messages"], "available_tools": [TOOL]},
        {**chat("c"), "images": ["x.png"]},
        {**chat("d"), "context": "something else"},
        {**chat("e"), "history": [["x", "y"]]},
        {**chat("f"), "tool_calls": [call()]},
    ]
    done = imported(home, rows, *OWN).json
    assert done["rows"] == 2 and sum(done["skipped"].values()) == 4, done
    first, second = (said for _, said in rows_of(home, "d@1"))
    assert [str(first.turns[0].role), first.turns[-1].parts[0].text] == ["system", "hm"]
    assert second.tools[0].name == "run"


def test_packed_and_plain_sessions_are_the_same(home):
    path = TRAJECTORIES / "pi_session.jsonl.gz"
    plain = home.folder / "plain.jsonl"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    labels = []
    for number, file in enumerate((path, plain)):
        labels.append(home("dataset", "import", file, "--name", f"d{number}", "--json", *OWN).json["content_digest"])
    assert labels[0] == labels[1]


TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4hJ6"


def test_secrets_are_taken_out_before_a_row_exists(home, agent):
    rows = [chat("a", note=f"with {TOKEN}"), chat("b"), {"prompt": f"Use {TOKEN}", "response": "Done"}]
    rows[1]["messages"][2]["content"] = f"export GH={TOKEN}"
    rows[1]["messages"][1]["tool_calls"][0]["function"]["arguments"] = json.dumps({"cmd": f"gh --token {TOKEN}"})
    kept = imported(home, rows, *OWN, name="kept").json
    assert (kept["rows"], kept["redacted"]) == (3, {})
    done = imported(home, rows, *OWN, "--secrets", "redact", name="redacted").json
    assert (done["rows"], done["redacted"]) == (3, {"github token": 3})
    stored = str(rows_of(home, "redacted@1"))
    assert TOKEN not in stored and stored.count("[github token]") >= 4
    dropped = imported(home, [*rows, chat("c", note="fine")], *OWN, "--secrets", "drop", name="dropped").json
    assert (dropped["rows"], dropped["skipped"]) == (1, {"it holds a secret": 3})
    agent.session(f"mend it with {TOKEN}")
    agent.running.ended()
    gathered = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert gathered["redacted"] == {"github token": 1} and TOKEN not in str(rows_of(home, "asked@1"))
    left = home("dataset", "gather", "p", "--name", "left", "--secrets", "drop", "--json").json
    assert left["rows"] == 0 and left["skipped"] == {"it holds a secret": 1}
    whole = home("dataset", "gather", "p", "--name", "whole", "--secrets", "keep", "--json").json
    assert whole["redacted"] == {} and TOKEN in str(rows_of(home, "whole@1"))


def test_tokens_are_counted_by_the_turns_that_gave_them(home):
    def step(number, model, tokens):
        return {"step_id": number, "source": "agent", "message": f"By {model}.", "model_name": model,
                "metrics": {"prompt_tokens": 5, "completion_tokens": tokens}}  # fmt: skip

    user = {"step_id": 1, "source": "user", "message": "Go"}
    agent = {"name": "a", "version": "1"}
    rows = [
        {"schema_version": atif.VERSION, "session_id": "s", "agent": agent,
         "steps": [user, step(2, "qwen2.5-coder", 7), {**user, "step_id": 3}, step(4, "deepseek-v3", 30)]},
        {"schema_version": atif.VERSION, "session_id": "t", "agent": agent,
         "steps": [user, step(2, "qwen2.5-coder", 100)]},
    ]  # fmt: skip
    imported(home, rows, "--channel", "open-weights", "--terms", "licence/apache-2.0", "--origin", "teacher")
    shown = home("dataset", "show", "d", "--json").json
    assert sum(shown["tokens"].values()) == 137 and sorted(shown["answer_tokens"].values()) == [30, 107]


@pytest.mark.slow  # a row of 100 MB
def test_a_result_of_100_megabytes(home):
    row = chat("Done with it.")
    row["messages"][2]["content"] = "one line of what it printed\n" * (100_000_000 // 28)
    assert imported(home, [chat("before"), row, chat("after")], *OWN).json["rows"] == 3
    longer = chat("Done with it.")
    longer["messages"][2]["content"] = "x" * (129 << 20)
    done = imported(home, [chat("before"), longer, chat("after")], *OWN, name="longer").json
    assert (done["rows"], done["skipped"]) == (2, {"longer than 128 MB": 1})


def test_two_agents_at_once_on_one_key(home, agent):
    """Their calls come in turns; each goes on from its own."""
    first = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": "mend one"}]
    second = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": "mend two"}]
    for _ in range(2):
        for said in (first, second):
            answer = agent(said)
            said.append(answer)
            if answer.get("tool_calls"):
                said.append({"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "ok"})
    agent.running.ended()
    done = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert (done["rows"], done["sessions"]) == (2, 2)
    for _, said in rows_of(home, "asked@1"):
        assert [str(turn.role) for turn in said.turns] == ["system", "user", "assistant", "tool", "assistant"]


def test_a_session_that_spans_a_revocation(home):
    """What was answered before stays; a row ends before what the revocation is about."""

    def step(number, source, text, day):
        model = {"model_name": "somelab-coder"} if source == "agent" else {}
        return {"step_id": number, "source": source, "message": text, "timestamp": f"{day}T10:00:00Z", **model}

    row = {
        "schema_version": atif.VERSION, "session_id": "s", "agent": {"name": "a", "version": "1"},
        "steps": [
            step(1, "user", "Go", "2026-01-02"), step(2, "agent", "Before.", "2026-01-02"),
            step(3, "user", "On", "2026-03-02"), step(4, "agent", "After.", "2026-03-02"),
        ],
    }  # fmt: skip
    home("access", "revoke", "somelab", "--even-if-nothing", "--since", "2026-02-01")
    words = ("--lab", "somelab", "--channel", "open-weights", "--terms", "licence/mit", "--use", "train")
    done = imported(home, [row], *words).json
    assert (done["rows"], done["shortened"]) == (1, {"denied": 1}), done
    ((stored, said),) = rows_of(home, "d@1")
    assert (stored["response"], said) == ("Before.", None)


def entry(uuid, parent, kind, content, **more):
    said = {
        "message": {"role": kind, "content": content, **({"id": uuid, "model": "m"} if kind == "assistant" else {})}
    }
    said = said if kind in ("user", "assistant") else {"subtype": "turn_duration"}
    return {"uuid": uuid, "parentUuid": parent, "type": kind, "sessionId": "s", **said, **more}


def session(home, entries, name="session"):
    path = home.write(f"{name}.jsonl", "".join(json.dumps(one) + "\n" for one in entries))
    return home("dataset", "import", path, "--name", name, "--json", "--lab", "testlab").json


def texts(said):
    return [part.text for turn in said.turns for part in turn.parts]


CALL = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]
RESULT = [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]


def test_notes_of_the_client_between_and_after_turns_are_no_ends(home):
    entries = [
        entry("1", None, "user", "Go"), entry("2", "1", "assistant", CALL), entry("p", "2", "progress", ""),
        entry("3", "p", "user", RESULT), entry("4", "3", "assistant", "Done."), entry("q", "4", "progress", ""),
        entry("5", "q", "user", "Again"), entry("6", "5", "assistant", "Done again."), entry("7", "6", "system", ""),
    ]  # fmt: skip
    assert session(home, entries)["rows"] == 1
    ((_, said),) = rows_of(home, "session@1")
    assert [str(turn.role) for turn in said.turns][:6] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]


def test_what_a_fork_shares_counts_in_it_where_its_main_line_is_no_row(home):
    image = [{"type": "image", "source": {"type": "url", "url": "x"}}]
    entries = [entry("1", None, "user", "Go"), entry("2", "1", "assistant", CALL), entry("3", "2", "user", RESULT),
               entry("4", "3", "assistant", "One."), entry("5", "4", "user", "Fork"), entry("6", "5", "assistant", "Two."),
               entry("7", "4", "user", image), entry("8", "7", "assistant", "Three.")]  # fmt: skip
    done = session(home, entries)
    assert (done["rows"], done["skipped"]) == (1, {"it holds a part of type image": 1})
    ((_, said),) = rows_of(home, "session@1")
    assert said.fork == 0


BROKEN = {
    "surrogate": {**chat("x"), "messages": [{"role": "user", "content": "cut \ud83d"}, *chat("x")["messages"][1:]]},
    "types": {"schema_version": atif.VERSION, "agent": {"name": "a", "version": "1"}, "session_id": "s",
              "extra": {"stillhouse": {"outcome": {"passed": "yes", "reward": "x"}}},
              "steps": [{"step_id": 1, "source": "user", "message": "Go"},
                        {"step_id": 2, "source": "agent", "message": "x", "extra": {"stillhouse": {"thoughts": [{"text": 5}]}}}]},
}  # fmt: skip


@pytest.mark.parametrize("row", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_written_down_costs_its_row_alone(home, row):
    done = imported(home, [chat("before"), row, chat("after")], *OWN).json
    assert (done["rows"], sum(done["skipped"].values())) == (2, 1), done
    home("dataset", "export", "d", "out.jsonl", "--use", "store")


def test_counts_beyond_any_answer_are_unknown(home):
    def row(tokens):
        steps = [{"step_id": 1, "source": "user", "message": "Go"},
                 {"step_id": 2, "source": "agent", "message": f"x {tokens}", "reasoning_content": "hm", "model_name": "m",
                  "metrics": {"prompt_tokens": tokens, "completion_tokens": tokens}}]  # fmt: skip
        return {
            "schema_version": atif.VERSION,
            "agent": {"name": "a", "version": "1"},
            "session_id": "s",
            "steps": steps,
        }

    assert imported(home, [row(10**30), row(True), row(-4), row(9 * 10**18), row(7)], *OWN).json["rows"] == 5
    assert sorted(stored["tokens"] for stored, _ in rows_of(home, "d@1")) == [-1, -1, -1, -1, 7]


def test_a_history_of_turns_is_no_trajectory_and_plain_rows_are_no_session(home):
    history = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
    rows = [{"instruction": "Q2?", "input": "", "output": "A2", "history": history}]
    imported(home, rows, *OWN)
    ((stored, _),) = rows_of(home, "d@1")
    assert (stored["response"], [one["content"] for one in stored["messages"]]) == ("A2", ["Q1", "A1", "Q2?"])
    plain = [{"type": "chat", "sessionId": f"s{n}", "question": f"q{n}", "answer": f"a{n}"} for n in range(3)]
    assert imported(home, plain, *OWN, name="plain").json["rows"] == 3


def test_a_row_that_names_a_closed_model_is_of_it_whatever_its_answer_names(home):
    answer = {"model": "qwen/qwen3-32b", "choices": [{"message": {"role": "assistant", "tool_calls": [call()]},
                                                      "finish_reason": "tool_calls"}]}  # fmt: skip
    row = {"question": "q", "teacher": "gpt-4o", "response": answer}
    words = ("--channel", "open-weights", "--terms", "licence/mit", "--use", "train")
    assert imported(home, [row], *words).json["rows"] == 0


def test_columns_beside_an_apis_answer_are_taken_or_leave_the_row_out(home):
    answer = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "tool_calls": [call()]}, "finish_reason": "tool_calls"}],
    }
    asked = {"question": "q", "response": answer}
    request = {"request": {"model": "m", "messages": [{"role": "user", "content": "q"}]}, "response": answer}
    rows = [{**asked, "system_prompt": "SYS"}, {**request, "answer": "gold 42"}, {**asked, "context": "a passage"},
            {**asked, "history": [["a", "b"]]}, {**request, "images": ["i.png"]}]  # fmt: skip
    done = imported(home, rows, "--lab", "testlab").json
    assert (done["rows"], sum(done["skipped"].values())) == (2, 3), done
    first, second = rows_of(home, "d@1")
    assert str(first[1].turns[0].role) == "system" and "gold 42" in second[0]["rest"]


@pytest.mark.parametrize("wanted", ["responses", "prompt-completion", "sharegpt", "openai"])
def test_rows_of_text_come_back_from_every_format(home, wanted):
    rows = [{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": f"q{n}"},
                          {"role": "assistant", "content": f"a{n}"}]} for n in range(4)]  # fmt: skip
    imported(home, rows, *OWN)
    home("dataset", "export", "d", "out.jsonl", "--format", wanted, "--use", "store")
    assert home("dataset", "import", "out.jsonl", "--name", "back", "--json").json["rows"] == 4


def test_fields_of_a_message_that_nobody_knows_leave_the_row_out(home):
    weighted = [chat("a"), chat("b"), chat("c")]
    weighted[0]["messages"][-1]["weight"] = 1
    weighted[1]["messages"][-1]["weight"] = 0
    weighted[2]["messages"][1] |= {"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    done = imported(home, weighted, *OWN).json
    assert done["rows"] in (1, 2) and done["skipped"].get("it holds a part of type weight") == 1, done


def test_names_and_ids_are_redacted(home):
    row = chat("a", id=f"https://bob:{TOKEN}@db.example.com/x")
    row["messages"][1]["tool_calls"][0]["id"] = row["messages"][2]["tool_call_id"] = TOKEN
    row["tools"][0] = {"type": "function", "function": {"name": TOKEN, "parameters": {}, "description": TOKEN}}
    row["messages"][0]["name"] = TOKEN
    assert imported(home, [row], *OWN, "--secrets", "redact").json["rows"] == 1
    home("dataset", "export", "d", "out.jsonl", "--use", "store")
    assert (home.folder / "out.jsonl").read_text().count(TOKEN) == 0


def test_a_table_loses_no_field_of_a_message(home):
    refused = chat("fine")
    refused["messages"][-1] = {"role": "assistant", "content": "No.", "refusal": "I will not."}
    imported(home, [chat("a"), refused], *OWN, "--keep", "refused")
    done = home("dataset", "export", "d", "rows.parquet", "--use", "store", "--json").json
    assert done["rows"] == 1 and sum(done["left_out"].values()) == 1, done


def test_an_expected_answer_behind_results_is_not_taken_for_what_was_said(home):
    row = chat("x", answer="gold 42")
    row["messages"] = row["messages"][:3]
    imported(home, [row], *OWN)
    ((stored, said),) = rows_of(home, "d@1")
    assert len(said.turns) == 3 and json.loads(stored["rest"]) == {"answer": "gold 42"}


def test_a_row_that_a_denial_shortens_does_not_end_with_half_an_answer(home):
    def step(number, source, text, model="", finish=""):
        ours = {"extra": {"stillhouse": {"finish": finish}}} if finish else {}
        named = {"model_name": model} if model else {}
        return {"step_id": number, "source": source, "message": text, **named, **ours}

    row = {
        "schema_version": atif.VERSION, "session_id": "s", "agent": {"name": "a", "version": "1"},
        "steps": [
            step(1, "user", "Go"), step(2, "agent", "Whole.", "qwen2.5-coder"), step(3, "user", "On"),
            step(4, "agent", "Cut o", "qwen2.5-coder", "length"), step(5, "user", "Go on"),
            step(6, "agent", "Theirs.", "claude-opus-4"),
        ],
    }  # fmt: skip
    words = ("--channel", "open-weights", "--terms", "licence/apache-2.0", "--use", "train")
    assert imported(home, [row], *words).json["rows"] == 1
    ((stored, said),) = rows_of(home, "d@1")
    assert (stored["response"], said) == ("Whole.", None)
