"""An agent's server and an agent that asks it through the gateway, for tests of what agents did."""

import json

import pytest
from aiohttp import web

from tests.gateways import events, post, sse

TOOLS = [{"type": "function", "function": {"name": "bash", "description": "Run it", "parameters": {"type": "object"}}}]

JSON = {"Content-Type": "application/json"}


async def agent_server(server, body):
    """Orders a command until it has seen a result, in every dialect, whole or streamed."""
    said = json.dumps(body.get("messages") or body.get("input"))
    number = len(server.bodies)
    if server.request.path.endswith("/responses"):
        call = {"type": "function_call", "call_id": f"c{number}", "name": "bash", "arguments": '{"cmd": "ls"}'}
        text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"Done {number}"}]}
        output = [text if "output" in said else call]
        usage = {"input_tokens": 3, "output_tokens": 2}
        value = {
            "id": f"resp_{number}",
            "object": "response",
            "model": "m",
            "status": "completed",
            "output": output,
            "usage": usage,
        }
        return web.json_response(value)
    done = '"tool"' in said or "no tools" in said
    call = {"id": f"c{number}", "type": "function", "function": {"name": "bash", "arguments": '{"cmd": "ls"}'}}
    message = (
        {"role": "assistant", "content": f"Done {number}"}
        if done
        else {"role": "assistant", "content": None, "tool_calls": [call]}
    )
    message["reasoning_content"] = f"thought {number}"
    finish = "stop" if done else "tool_calls"
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    about = {"id": f"chat{number}", "model": "m"}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response({**about, "object": "chat.completion", "choices": [choice], "usage": usage})
    deltas = [{"role": "assistant"}, {"reasoning_content": message["reasoning_content"]}]
    if done:
        deltas += [{"content": piece} for piece in ("Done", f" {number}")]
    else:
        whole = call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": 0, "function": {"name": "bash", "arguments": whole[:4]}}]})
        deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": whole[4:]}}]})
    chunks = [{**about, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**about, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage})
    return await events(server, [*sse(*chunks), b"data: [DONE]\n\n"])


@pytest.fixture
def agent(start):
    """Makes calls as an agent does: it keeps the history, without what was thought."""
    upstream, running, key = start(agent_server)
    keys = [key]

    def ask(messages, stream=False, **more):
        body = {"model": "m", "messages": messages, "tools": TOOLS, "stream": stream, "max_tokens": 50, **more}
        status, _, raw = post(running, keys[-1], json.dumps(body).encode(), **JSON)
        assert status == 200, raw
        number = len(upstream.bodies)
        if "Done" in raw.decode():
            return {"role": "assistant", "content": f"Done {number}"}
        call = {"id": f"c{number}", "type": "function", "function": {"name": "bash", "arguments": '{"cmd":"ls"}'}}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    def session(task, stream=False):
        said = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": task}]
        said.append(ask(said, stream))
        said.append({"role": "tool", "tool_call_id": said[-1]["tool_calls"][0]["id"], "content": f"add.py of {task}"})
        said.append(ask(said, stream))
        return said

    ask.session, ask.running, ask.key, ask.use = session, running, key, keys.append
    return ask
