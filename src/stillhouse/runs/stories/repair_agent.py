"""A small coding agent, what it is to mend, and a teacher that follows a script: what the story of recorded agents is made of.

The agent is real: it asks over HTTP with the history of its session, runs the tools that the answer calls, and stops where an
answer calls none. Its tests run in the sandbox. The teacher knows the solutions and follows a script, so that the story is the
same everywhere; for some tasks it errs once, for one it never finds the solution.
"""

import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from stillhouse.datasets.tasks.judge import judge
from stillhouse.nouns import Task, VerdictStatus
from stillhouse.sandbox.pool import Sandbox

MODEL = "scripted-repairer"
_FILE = "solution.py"
_MOST_TURNS = 12
_SYSTEM = "You repair Python code. Read solution.py, write it anew, run the tests, and stop when they pass or when you give up."
# Ways to break a solution, one of which changes what its tests see.
_BREAKS = ((" + ", " - "), (" - ", " + "), ("<=", "<"), (">=", ">"), (" < ", " <= "), (" > ", " >= "), (" * ", " + "),
           (" == ", " != "), ("return ", "return not "), (" in ", " not in "), ("True", "False"))  # fmt: skip


class Repair(NamedTuple):
    """Something to mend: the task, and its solution with an error in it. ``tries`` is how often the teacher errs first; below 0
    it never finds the solution.
    """

    task: Task
    broken: str
    tries: int


def repairs(sandbox: Sandbox, tasks: Sequence[Task], count: int) -> list[Repair]:
    """So many repairs: of tasks whose solutions can be broken so that a test fails."""
    found: list[Repair] = []
    for task in tasks:
        candidates = [task.solution.replace(old, new, 1) for old, new in _BREAKS if old in task.solution]
        verdicts = judge(sandbox, [(task, fenced(code)) for code in candidates])
        broken = next(
            (code for code, one in zip(candidates, verdicts, strict=True) if one.status is VerdictStatus.FAILED), ""
        )
        if broken:
            number = len(found)
            tries = -1 if number == count - 1 else int(number % 4 == 3)
            found.append(Repair(task, broken, tries))
        if len(found) == count:
            break
    return found


def fenced(code: str) -> str:
    """Code as an answer has it."""
    return f"```python\n{code}\n```"


class Agent:
    """Works on one repair at a time, through a gateway."""

    def __init__(self, url: str, key: str, sandbox: Sandbox) -> None:
        self._url, self._key, self._sandbox = f"{url}/v1/chat/completions", key, sandbox

    def work(self, repair: Repair) -> bool:
        """One session: do the tests pass at its end? Raises OSError where the gateway refuses."""
        files = {_FILE: repair.broken}
        wanted = f"Mend {_FILE} ({repair.task.id}): {repair.task.messages[-1].content}"
        said: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": wanted}]
        for _ in range(_MOST_TURNS):
            answer = self._ask(said)
            said.append({name: answer[name] for name in ("role", "content", "tool_calls") if answer.get(name)})
            calls = answer.get("tool_calls") or []
            if not calls:
                break
            for call in calls:
                result = self._run(call["function"], files, repair.task)
                said.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return self._passes(repair.task, files)

    def _ask(self, said: list[dict[str, Any]]) -> Mapping[str, Any]:
        body = json.dumps({"model": MODEL, "messages": said, "tools": TOOLS, "max_tokens": 500}).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: Mapping[str, Any] = json.load(response)["choices"][0]["message"]
        return answer

    def _run(self, function: Mapping[str, str], files: dict[str, str], task: Task) -> str:
        arguments = json.loads(function["arguments"])
        match function["name"]:
            case "read_file":
                return files.get(arguments["path"], "there is no such file")
            case "write_file":
                files[arguments["path"]] = arguments["content"]
                return "written"
        return "all tests pass" if self._passes(task, files) else "a test fails"

    def _passes(self, task: Task, files: Mapping[str, str]) -> bool:
        (verdict,) = judge(self._sandbox, [(task, fenced(files[_FILE]))])
        return verdict.status is VerdictStatus.PASSED


def _tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    described = {name: {"type": kind} for name, kind in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(described)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    _tool("read_file", "The contents of a file.", path="string"),
    _tool("write_file", "Write a file.", path="string", content="string"),
    _tool("run_tests", "Run the tests."),
]


class ScriptedTeacher:
    """A server on loopback that answers OpenAI's chat by a script."""

    def __init__(self, planned: Sequence[Repair]) -> None:
        repair_of = {repair.task.id: repair for repair in planned}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                named = re.search(r"\((\S+)\)", body["messages"][1]["content"])
                message = _next_answer(repair_of[named[1] if named else ""], body["messages"])
                data = json.dumps(_completion(message, len(json.dumps(body["messages"])) // 4)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: Any) -> None:
                """Say nothing of single requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _next_answer(repair: Repair, said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the script says next: read, write, test, and write again as often as it errs."""
    last = said[-1]
    written = sum(_called(message) == "write_file" for message in said)
    if last["role"] != "tool":
        return _calling(len(said), "I read the code first.", "read_file", {"path": _FILE})
    called = _called(said[-2])
    if called == "write_file":
        return _calling(len(said), "Now the tests.", "run_tests", {})
    if called == "run_tests" and "pass" in last["content"]:
        return {"role": "assistant", "content": f"Mended: the tests of {repair.task.entry_point} pass."}
    if called == "run_tests" and repair.tries < 0:
        return {
            "role": "assistant",
            "content": f"I give up: I do not see what is wrong with {repair.task.entry_point}.",
        }
    errs = repair.tries < 0 or written < repair.tries
    code = f"{repair.broken}\n\n# looked at again\n" if errs else f"{repair.task.solution}\n"
    thought = "I think that this is it." if not written else "That was not it; I compare it with the task again."
    return _calling(len(said), thought, "write_file", {"path": _FILE, "content": code})


def _called(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or [{"function": {"name": ""}}]
    return str(calls[0]["function"]["name"])


def _calling(number: int, thought: str, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "reasoning_content": thought, "tool_calls": [call]}


def _completion(message: Mapping[str, Any], asked: int) -> dict[str, Any]:
    usage = {"prompt_tokens": asked, "completion_tokens": len(json.dumps(message)) // 4}
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "scripted", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
