"""What tests of the gateway share: a provider in short, raw requests, memory, the log."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

from aiohttp import web

from stillhouse.home import facts
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

MANAGED = "sk-managed-0123456789abcdef"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()


def workers_of(running) -> list[int]:
    pid = running.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_mib(running) -> float:
    lines = [Path(f"/proc/{worker}/status").read_text() for worker in workers_of(running)]
    return max(int(text.split("VmRSS:")[1].split()[0]) / 1024 for text in lines)


def connect(running) -> socket.socket:
    host, _, port = running.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(key: str, length: int | None = None, *more: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *more]
    lines += [f"Content-Length: {length}"] if length is not None else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(running, key: str, body: bytes = BODY, path: str = "/v1/chat/completions", **headers: str):
    """Status, headers and body; whatever the status."""
    request = urllib.request.Request(
        running.url + path, data=body, headers={"Authorization": f"Bearer {key}", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as failure:
        return failure.code, failure.headers, failure.read()


def calls(running) -> dict[str, int]:
    return running.cli("gateway", "status", "--json").json["calls"]


CLAUDE = {"anthropic-ratelimit-requests-remaining": "7", "request-id": "req_1"}
TOOL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


def log_of(home) -> list:
    log = Log(home.home / "log", Objects(LocalBackend(home.home / "objects")))
    return [facts.decode(entry.payload) for writer in log.writers() for entry in log.read(writer)]


async def events(server, lines, kind="text/event-stream", pause=0.0):
    response = web.StreamResponse(headers={"Content-Type": kind, "x-ratelimit-remaining-requests": "41"})
    await response.prepare(server.request)
    for line in lines:
        await response.write(line)
        await asyncio.sleep(pause)
    await response.write_eof()
    return response


def sse(*values, names=()):
    named = [f"event: {name}\n" for name in names] or [""] * len(values)
    return [f"{name}data: {json.dumps(value)}\n\n".encode() for name, value in zip(named, values, strict=True)]


def chunk(**choice):
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, **choice}],
    }


async def provider(server, body):
    """What OpenAI and Anthropic would say, in short."""
    path = server.request.path
    if body.get("model") == "broken":
        return web.json_response({"error": {"message": "no", "type": "server_error"}}, status=500)
    if path.endswith("/chat/completions"):
        if body.get("stream"):
            lines = sse(
                chunk(delta={"content": "Hel"}), chunk(delta={"content": "lo"}), chunk(delta={}, finish_reason="stop")
            )
            usage = sse(
                {**chunk(), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
            )
            return await events(server, [*lines, *usage, b"data: [DONE]\n\n"])
        message = {"role": "assistant", "content": None if body.get("tools") else "Hello"}
        message |= {"tool_calls": [TOOL]} if body.get("tools") else {}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        value = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"}
        return web.json_response({**value, "choices": [choice]}, headers={"x-ratelimit-remaining-requests": "41"})
    if path.endswith("/completions"):
        choice = {"index": 0, "text": " world", "finish_reason": "stop", "logprobs": None}
        return web.json_response(
            {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        )
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        return web.json_response(
            {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
        )
    if path.endswith("/responses"):
        content = [{"type": "output_text", "text": "Hello", "annotations": []}]
        item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": content}
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "input_tokens_details": {"cached_tokens": 0}}
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
        value = {
            "id": "r",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "completed",
            "output": [item],
        }
        value |= {"usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        if body.get("stream"):
            delta = {"type": "response.output_text.delta", "delta": "Hello", "item_id": "i", "output_index": 0}
            delta |= {"content_index": 0, "sequence_number": 1, "logprobs": []}
            done = {"type": "response.completed", "response": value, "sequence_number": 2}
            return await events(server, sse(delta, done, names=("response.output_text.delta", "response.completed")))
        return web.json_response(value)
    if path.endswith("/count_tokens"):
        return web.json_response({"input_tokens": 9})
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-x", "stop_sequence": None}
    if body.get("stream"):
        start = {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
        stop = {"type": "content_block_stop", "index": 0}
        end = {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        }
        values = (start, block, delta, stop, end, {"type": "message_stop"})
        return await events(server, sse(*values, names=[value["type"] for value in values]))
    value = {**message, "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "usage": usage}
    return web.json_response(value, headers=CLAUDE)
