"""Agents as their makers ship them, through the gateway: what they did is one session each, and every turn has its origin.

They are installed from npm and PyPI; where that cannot be done, the test says so and is skipped.
"""

import json
import shutil
import subprocess
import sys

import pytest
from aiohttp import web

from stillhouse.conversations.formats import claude_code, codex_rollout
from stillhouse.conversations.record import Call, Result, said_digest
from tests.gateways import events, sse
from tests.unit.conversations.test_answer_turns import anthropic, anthropic_events

pytestmark = pytest.mark.slow  # installs other people's programs

TASK = "Create add.py with add(a,b) and test it"
COMMAND = "printf 'def add(a, b):\\n    return a + b\\n' > add.py && python3 -c 'import add; print(add.add(2,3))'"
END = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


async def teacher(server, body):
    """Orders one command, then says that it is done; in the dialect of whoever asks."""
    path = server.request.path
    if path.endswith("/messages"):
        tools = [tool.get("name") for tool in body.get("tools", [])]
        seen = "tool_result" in json.dumps(body["messages"])
        calls = (
            [("Bash", json.dumps({"command": COMMAND, "description": "write it"}))]
            if "Bash" in tools and not seen
            else []
        )
        value = anthropic("I think." if calls else "", "I will write it." if calls else "Done.", calls) | {
            "id": "m",
            "model": body["model"],
        }
        if not body.get("stream"):
            return web.json_response(value)
        said = list(anthropic_events(value, 7))
        return await events(server, sse(*said, names=[one["type"] for one in said]))
    if path.endswith("/responses"):
        tool = next(
            (
                tool.get("name")
                for tool in body.get("tools", [])
                if tool.get("name") in ("exec_command", "shell_command")
            ),
            "",
        )
        field = "cmd" if tool == "exec_command" else "command"
        item = {"type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "Done.", "annotations": []}]}  # fmt: skip
        if tool and "_output" not in json.dumps(body["input"]):
            item = {"type": "function_call", "id": "fc", "call_id": "c1", "name": tool, "arguments": json.dumps({field: COMMAND}),
                    "status": "completed"}  # fmt: skip
        usage = {
            "input_tokens": 9,
            "output_tokens": 5,
            "total_tokens": 14,
            "input_tokens_details": {"cached_tokens": 0},
        }
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
        value = {"id": f"resp_{len(server.bodies)}", "object": "response", "created_at": 1, "model": body["model"],
                 "status": "completed", "output": [item], "usage": usage}  # fmt: skip
        said = [{"type": "response.created", "response": {**value, "output": [], "status": "in_progress"}},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": value}]  # fmt: skip
        return await events(server, sse(*said, names=[one["type"] for one in said]))
    if path.endswith("/chat/completions"):
        seen = any(message["role"] == "tool" for message in body["messages"])
        call = {
            "name": body["tools"][0]["function"]["name"],
            "arguments": json.dumps({"command": END if seen else COMMAND}),
        }
        message = {
            "role": "assistant",
            "content": "I go on.",
            "tool_calls": [{"id": f"c{seen}", "type": "function", "function": call}],
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        return web.json_response({**about, "choices": [choice], "usage": usage})
    return web.json_response({"error": {"message": "no", "type": "not_found"}}, status=404)


@pytest.fixture
def running(gateway, home, serve):
    upstream = serve(teacher)
    for name, kind, url in (("claude", "anthropic", upstream.url.removesuffix("/v1")), ("gpt", "openai", upstream.url)):
        words = [
            "--kind",
            kind,
            "--model",
            f"{name}-x",
            "--lab",
            "testlab",
            "--channel",
            "open-weights",
            "--terms",
            "licence/mit",
        ]
        home("teacher", "add", name, *words, "--base-url", url, "--unmetered")
    return gateway()


def npm(package, folder):
    if shutil.which("npm") is None:
        pytest.skip(f"{package}: npm is not installed")
    done = subprocess.run(
        ["npm", "install", "--silent", "--prefix", folder, package], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        pytest.skip(f"{package} cannot be installed here: {done.stderr[-200:]}")
    return folder / "node_modules" / ".bin"


def place(tmp_path, **environment):
    """An empty folder to work in, and an environment with nothing of this machine's users."""
    work, own = tmp_path / "work", tmp_path / "own"
    work.mkdir()
    own.mkdir()
    subprocess.run(["git", "init", "-q", work], check=True)
    return work, own, {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(own), **environment}


def ran(words, work, environment):
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (work / "add.py").exists()


def one_session(home, running):
    """The only session there is; every answer in it was given here, and every call has its result."""
    running.ended()
    (listed,) = home("session", "list", "--json").json
    assert listed["unmatched"] == 0 and listed["calls"] == 2
    value = home("session", "show", listed["session"], "--json").json
    turns = value["conversation"]["turns"]
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    assert len(answers) == 2 and all(turn["stamps"] and turn["key"] for turn in answers)
    kinds = [part["type"] for turn in turns for part in turn["parts"]]
    assert kinds.count("call") >= 1 and "result" in kinds
    done = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert (done["rows"], done["shortened"]) == (1, {}), done
    home("dataset", "export", "asked", "rows.jsonl", "--format", "trl")
    (row,) = map(json.loads, (home.folder / "rows.jsonl").read_text().splitlines())
    calls = [call for message in row["messages"] for call in message.get("tool_calls") or ()]
    assert calls and row["tools"] and len(row["stillhouse"]["answers"]) == 2
    return listed, turns


def is_a_row(home, file):
    """The session file that the agent itself wrote is a row, too."""
    done = home("dataset", "import", file, "--name", "own", "--lab", "testlab", "--json").json
    assert (done["rows"], done["skipped"]) == (1, {}), done


def parts(conversation, kind):
    return [part for turn in conversation.turns for part in turn.parts if isinstance(part, kind)]


def test_claude_code(home, running, tmp_path):
    bin = npm("@anthropic-ai/claude-code", tmp_path / "npm")
    work, own, environment = place(
        tmp_path, IS_SANDBOX="1", ANTHROPIC_BASE_URL=running.url, ANTHROPIC_API_KEY=running.key(), ANTHROPIC_MODEL="claude-x",
        ANTHROPIC_SMALL_FAST_MODEL="claude-x", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_TELEMETRY="1", DISABLE_AUTOUPDATER="1",
    )  # fmt: skip
    ran([bin / "claude", "-p", TASK, "--dangerously-skip-permissions", "--output-format", "json"], work, environment)
    listed, turns = one_session(home, running)
    (file,) = (own / ".claude" / "projects").rglob("*.jsonl")
    assert listed["session"] == file.stem, "as the client names it"
    thought = [part for turn in turns for part in turn["parts"] if part["type"] == "reasoning"]
    assert thought[0]["text"] == "I think." and thought[0]["signature"] == "sig"
    (own_file,) = claude_code.read([json.loads(line) for line in file.read_text().splitlines()])
    assert len(parts(own_file, Call)) == len(parts(own_file, Result)) == 1, "its own file says the same"
    assert own_file.turns[-1].parts[0].text == turns[-1]["parts"][0]["text"]
    is_a_row(home, file)


def test_codex(home, running, tmp_path):
    bin = npm("@openai/codex", tmp_path / "npm")
    work, own, environment = place(tmp_path, CODEX_HOME=str(tmp_path / "own"), STILLKEY=running.key())
    lines = [
        'model = "gpt-x"',
        'model_provider = "still"',
        "[model_providers.still]",
        'name = "still"',
        'env_key = "STILLKEY"',
    ]
    (own / "config.toml").write_text(
        "\n".join([*lines, f'base_url = "{running.url}/v1"', 'wire_api = "responses"', ""])
    )
    ran(
        [bin / "codex", "exec", "--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check", TASK],
        work,
        environment,
    )
    listed, turns = one_session(home, running)
    (file,) = (own / "sessions").rglob("*.jsonl")
    (own_file,) = codex_rollout.read([json.loads(line) for line in file.read_text().splitlines()])
    assert own_file.id == listed["session"], "as the client names it"
    assert [str(turn.role) for turn in own_file.turns][-4:] == [turn["role"] for turn in turns][-4:]
    assert said_digest(own_file.turns[-1])
    is_a_row(home, file)


def test_mini_swe_agent(home, running, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "mini-swe-agent"], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        pytest.skip(f"mini-swe-agent cannot be installed here: {done.stderr[-200:]}")
    work, _, environment = place(
        tmp_path, KEY=running.key(), LITELLM_LOCAL_MODEL_COST_MAP="True", MSWEA_SILENT_STARTUP="1"
    )
    (tmp_path / "run.py").write_text(
        "import os, pathlib, yaml, minisweagent\n"
        "from minisweagent.agents.default import DefaultAgent\n"
        "from minisweagent.environments.local import LocalEnvironment\n"
        "from minisweagent.models.litellm_model import LitellmModel\n"
        "told = yaml.safe_load((pathlib.Path(minisweagent.__file__).parent / 'config' / 'default.yaml').read_text())\n"
        f"asked = {{'api_base': '{running.url}/v1', 'api_key': os.environ['KEY'], 'max_tokens': 100}}\n"
        "model = LitellmModel(model_name='openai/gpt-x', model_kwargs=asked, cost_tracking='ignore_errors')\n"
        f"DefaultAgent(model, LocalEnvironment(), **told['agent']).run({TASK!r})\n"
    )
    ran([python, tmp_path / "run.py"], work, environment)
    _, turns = one_session(home, running)
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", "assistant"]
