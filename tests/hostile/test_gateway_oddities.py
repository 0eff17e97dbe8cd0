"""What servers and clients of the three dialects do now and then: each costs what it costs, and is recorded as what it was."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import zlib

import pytest
from aiohttp import web

from stillhouse.home import facts
from stillhouse.nouns import Outcome
from tests.gateways import BODY, MANAGED, calls, chunk, connect, events, head, log_of, post, provider, sse

PATHS = {"openai": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
QUESTIONS = {
    "openai": {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "responses": {"model": "m", "input": "Hi", "max_output_tokens": 100},
    "anthropic": {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
}
STREAMS = {
    "openai": [*sse(chunk(delta={"content": "Hello"}), chunk(delta={}, finish_reason="stop")), b"data: [DONE]\n\n"],
    "responses": sse(
        {"type": "response.output_text.delta", "delta": "Hello"},
        {
            "type": "response.completed",
            "response": {
                "status": "completed",
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
                "usage": {"input_tokens": 3, "output_tokens": 2},
            },
        },
        names=("response.output_text.delta", "response.completed"),
    ),
    "anthropic": sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": 900, "output_tokens": 2},
        },
        {"type": "message_stop"},
        names=("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"),
    ),
}


def add(home, upstream, dialect="openai", *more):
    kind = "anthropic" if dialect == "anthropic" else "openai"
    url = upstream.url.removesuffix("/v1") if kind == "anthropic" else upstream.url
    words = ["teacher", "add", "mock", "--kind", kind, "--model", "m", "--lab", "testlab", "--channel", "open-weights"]
    home(*words, "--terms", "licence/apache-2.0", "--base-url", url, *(more or ["--unmetered"]))


def ask(running, key, dialect, **more):
    return post(running, key, json.dumps({**QUESTIONS[dialect], **more}).encode(), PATHS[dialect])


def spent(running):
    log = log_of(running.cli)
    return [fact for fact in log if isinstance(fact, facts.Answered)]


@pytest.mark.parametrize("after", ["holds the connection", "breaks it off", "the client leaves"])
@pytest.mark.parametrize("dialect", STREAMS)
def test_a_stream_that_said_its_last_word_is_an_answer(gateway, home, serve, dialect, after):
    """Whoever closes first afterwards: the text was passed on, and is gathered and replayed."""

    async def lingering(server, body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(server.request)
        for line in STREAMS[dialect]:
            await response.write(line)
        with contextlib.suppress(OSError):
            await (asyncio.sleep(0.2) if after == "breaks it off" else asyncio.sleep(20))
        server.transport.abort()
        return response

    add(home, serve(lingering), dialect)
    running = gateway()
    key = running.key()
    body = json.dumps({**QUESTIONS[dialect], "stream": True}).encode()
    request = head(key, len(body), "Connection: close", "Idempotency-Key: once").replace(
        PATHS["openai"].encode(), PATHS[dialect].encode()
    )
    last = STREAMS[dialect][-1].strip()
    with connect(running) as client:
        client.sendall(request + body)
        received = b""
        while last not in received and (piece := client.recv(4096)):
            received += piece
        assert last in received
        if after == "the client leaves":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            with contextlib.suppress(OSError):
                while client.recv(4096):
                    pass
    for _ in range(100):
        if calls(running):
            break
    assert calls(running) == {str(Outcome.ANSWERED): 1}
    assert "Hello" in "".join(fact.data for fact in log_of(running.cli) if isinstance(fact, facts.ChunkReceived))


def test_a_count_that_comes_late_is_charged(gateway, home, serve):
    """Nothing in ``message_start``, 900 tokens in ``message_delta``: the largest of every counter is what is owed."""

    async def late(server, body):
        return await events(server, STREAMS["anthropic"])

    add(home, serve(late), "anthropic", "--price-in", "1000", "--price-out", "1000")
    running = gateway()
    key = running.key("poor", "--project", "p", "--use", "train", "--budget", "2")
    assert ask(running, key, "anthropic", stream=True)[0] == 200
    assert [fact.usage.prompt_tokens for fact in spent(running)] == [900]
    # Its bill is above what was held for it, so nothing bounds the next one: this cap ends here, and says why.
    for _ in range(2):
        status, _, body = ask(running, key, "anthropic", stream=True)
        assert status == 402
        assert "was billed at $0.902000" in body.decode()


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "no", "type": "server_error", "code": "overloaded"}},
        {"choices": None, "usage": {"prompt_tokens": 1, "completion_tokens": 0}},
        {"choices": []},
        {"object": "error", "message": "no"},
    ],
)
def test_success_that_holds_no_answer_is_none(gateway, home, serve, answer):
    async def hollow(server, body):
        return web.json_response(answer)

    add(home, serve(hollow))
    running = gateway()
    status, _, body = ask(running, running.key(), "openai")
    assert json.loads(body) == answer, "the client sees what the teacher said"
    assert str(Outcome.ANSWERED) not in calls(running), (status, calls(running))


def test_an_upgrade_is_refused_with_the_status_of_that(gateway, home, serve):
    add(home, serve(provider))
    running = gateway()
    with connect(running) as client:
        lines = ["GET /v1/responses HTTP/1.1", "Host: x", f"Authorization: Bearer {running.key()}"]
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AA=="]
        client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 426 ")


def test_who_waits_to_be_told_to_go_on_is_told(gateway, home, serve):
    add(home, serve(provider))
    running = gateway()
    with connect(running) as client:
        client.sendall(head(running.key(), len(BODY), "Expect: 100-continue"))
        client.settimeout(10)
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        client.sendall(BODY)
        assert b" 200 " in client.recv(4096)


PACKED = {
    "two members of gzip": ("gzip", lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:])),
    "deflate with its header": ("deflate", zlib.compress),
    "deflate without": ("deflate", lambda data: zlib.compress(data)[2:-4]),
    "gzip": ("gzip", gzip.compress),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_answers_pass_unharmed_beside_a_managed_key(gateway, home, serve, name):
    encoding, pack = PACKED[name]
    told = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": None}).encode()

    async def packing(server, body):
        return web.Response(body=pack(told), headers={"Content-Encoding": encoding, "Content-Type": "application/json"})

    upstream = serve(packing)
    add(home, upstream, "openai", "--unmetered", "--key-env", "MOCK_KEY")
    running = gateway(MOCK_KEY=MANAGED)
    status, headers, body = post(running, running.key(), **{"Accept-Encoding": encoding})
    assert status == 200
    given = headers.get("Content-Encoding")
    if given == "gzip":
        body = gzip.decompress(body)
    elif given == "deflate":
        body = zlib.decompress(body) if name.endswith("header") else zlib.decompress(body, -15)
    assert body == told
    assert calls(running) == {str(Outcome.ANSWERED): 1}


def test_a_connection_that_died_in_the_pool_is_replaced_once(gateway, home):
    """A server that closes its connections without a word while they are idle: no client notices."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked = []

    def serve_one(connection):
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            rest = data.partition(b"\r\n\r\n")[2]
            length = int(data.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(rest) < length:
                rest += connection.recv(65536)
            asked.append(rest)
            body = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            with contextlib.suppress(OSError):  # the next request is read by nobody
                connection.recv(1)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    home.add_mock(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    running = gateway()
    key = running.key()
    assert [post(running, key, BODY.replace(b"Hi", f"Hi {n}".encode()))[0] for n in range(4)] == [200] * 4
    assert len(asked) == 4
    listener.close()


def test_a_key_gives_its_own_limit_to_calls_that_name_none(gateway, home, serve):
    upstream = serve(provider)
    add(home, upstream, "openai", "--price-in", "1", "--price-out", "1000")
    running = gateway()
    more = ("--project", "p", "--use", "train", "--budget", "1")
    limited = running.key("limited", *more, "--max-tokens", "50")
    assert post(running, running.key("plain", *more))[0] == 400, "without a limit nothing bounds the call"
    assert post(running, limited)[0] == 200
    assert 50 in json.loads(upstream.bodies[-1]).values()


@pytest.mark.parametrize("dialect", ["openai", "responses"])
def test_a_limit_that_is_null_is_none(gateway, home, serve, dialect):
    """Clients that write down every field send it as null: the key's limit takes its place, and no name stands twice."""
    upstream = serve(provider)
    add(home, upstream, dialect, "--price-in", "0", "--price-out", "1000")
    running = gateway()
    key = running.key("k", "--project", "p", "--use", "train", "--budget", "9", "--max-tokens", "50")
    name = "max_output_tokens" if dialect == "responses" else "max_tokens"
    question = {**QUESTIONS[dialect], name: None, "max_completion_tokens": None}
    post(running, key, json.dumps(question).encode(), PATHS[dialect])
    (body,) = upstream.bodies
    sent = json.loads(body, object_pairs_hook=list)
    assert [value for field, value in sent if field in (name, "max_completion_tokens")] == [50]


@pytest.mark.parametrize("value", ["S\xe3o Paulo", "caf\u00e9 \u2615", "\xff\xfe"])
def test_bytes_of_any_kind_in_a_header_cost_no_answer(gateway, home, value):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            body = json.dumps(
                {
                    "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
                }
            ).encode()
            raw = value.encode("latin-1" if value.isascii() or max(value) < "\u0100" else "utf-8")
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-city: "
                + raw
                + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )

    threading.Thread(target=answer, daemon=True).start()
    home.add_mock(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "mock")
    running = gateway()
    status, _, said = post(running, running.key("k", "--project", "p", "--use", "train"))
    assert (status, json.loads(said)["choices"][0]["message"]["content"]) == (200, "Hello")
    assert calls(running) == {"answered": 1}
    listener.close()


def test_an_agent_has_a_budget(gateway, home, serve):
    """What coding agents send: tools that run at the client, images, what to clear of the context; and what has no bound."""
    upstream = serve(provider)
    add(home, upstream, "anthropic", "--price-in", "1", "--price-out", "1")
    running = gateway()
    key = running.key("agent", "--project", "p", "--use", "train", "--budget", "100", "--max-tokens", "100")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    fine = {
        "tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "edit"}],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, image]}],
    }
    assert ask(running, key, "anthropic", **fine)[0] == 200
    for name, unbounded in {
        "web_search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "context_management": {"context_management": {"edits": [{"type": "compact_20260112"}]}},
    }.items():
        status, _, body = ask(running, key, "anthropic", **unbounded)
        assert status == 400
        assert name in body.decode()
