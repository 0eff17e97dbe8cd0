"""Clients and teachers that mean harm, or have bad luck, on both sides of the gateway."""

import asyncio
import contextlib
import gzip
import http.client
import json
import os
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from aiohttp import web

from stillhouse import facts
from stillhouse.nouns import GatewayKey, Outcome, Use
from stillhouse.teachers.gateway import carry, keys, memory, server
from stillhouse.teachers.gateway.admission import Refused
from stillhouse.teachers.gateway.redact import Redactor
from tests.acceptance.test_gateway import chunk, events, log_of, provider, sse

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


@pytest.fixture
def start(gateway, home, serve):
    """A gateway in front of a server that answers as a test says; the server, the gateway, a key."""

    def make(answer=provider, **environment):
        upstream = serve(answer)
        home.add_mock(upstream.url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
        running = gateway(MOCK_KEY=MANAGED, **environment)
        return upstream, running, running.key()

    return make


# --- clients


def test_a_body_that_is_too_large_is_refused_and_not_kept(start):
    _, running, key = start()
    before = resident_mib(running)
    with connect(running) as declared:
        declared.sendall(head(key, 1 << 30))
        assert b" 413 " in declared.recv(100)
    with connect(running) as undeclared:
        undeclared.sendall(head(key, None, "Transfer-Encoding: chunked"))
        piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        answer = b""
        with contextlib.suppress(OSError):
            for _ in range(1024):
                undeclared.sendall(piece)
        with contextlib.suppress(OSError):
            answer = undeclared.recv(100)
        assert answer == b"" or b" 413 " in answer
    assert resident_mib(running) - before < 200
    assert post(running, key)[0] == 200


@pytest.mark.parametrize("endless", ["fields", "one field", "the request line"])
def test_endless_headers_are_refused(start, endless):
    _, running, key = start()
    before = resident_mib(running)
    with connect(running) as client, contextlib.suppress(OSError):
        client.sendall(
            b"POST /v1/chat/completions" if endless == "the request line" else b"POST / HTTP/1.1\r\nHost: x\r\n"
        )
        for number in range(3000):
            line = f"X-{number}: y\r\n".encode() if endless == "fields" else b"x" * 10_000
            client.sendall((b"X-Long: " if endless == "one field" and not number else b"") + line)
    assert resident_mib(running) - before < 50
    assert post(running, key)[0] == 200


def test_many_slow_clients_keep_nobody_out(start):
    _, running, key = start()
    slow = [connect(running) for _ in range(200)]
    for number, client in enumerate(slow):
        client.sendall(head(key, 1000) + b"{" if number % 2 else b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
    started = time.monotonic()
    assert post(running, key)[0] == 200
    assert time.monotonic() - started < 10
    for client in slow:
        client.close()


def test_a_request_that_never_ends_is_given_up(monkeypatch):
    """The same limit as in service, made short: the connection is not held for ever."""
    monkeypatch.setattr(server, "_BODY_SECONDS", 0.2)

    class Content:
        async def iter_any(self):
            yield b"{"
            await asyncio.sleep(60)

    class Request:
        content_length, content = None, Content()

    async def read():
        store = memory.Memory(1 << 20)
        async with store.growing() as share:
            with pytest.raises(Refused) as caught:
                await server.Gateway._body(None, Request(), share)
            assert caught.value.refusal.status == 408
        assert store.taken == 0

    asyncio.run(read())


def test_all_bodies_together_have_a_limit():
    async def fill():
        store = memory.Memory(100)
        async with store.growing() as first, store.growing() as second:
            first.take(60)
            with pytest.raises(Refused):
                second.take(60)
            second.take(40)
        assert store.taken == 0

    asyncio.run(fill())


def test_a_client_that_takes_nothing_is_left(start):
    """It asks for a long stream and reads none of it: the pieces wait here only as far as buffers go."""

    async def endless(server, body):
        return await events(server, [b"data: " + b"x" * 60_000 + b"\n\n"] * 2000)

    _, running, key = start(endless)
    before = resident_mib(running)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
    client = connect(running)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(head(key, len(body)) + body)
    time.sleep(3)
    assert resident_mib(running) - before < 80, "120 MB are not kept for somebody who does not read"
    client.close()
    deadline = time.monotonic() + 20
    while str(Outcome.CANCELLED) not in calls(running) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert calls(running) == {str(Outcome.CANCELLED): 1}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe{}", b'{"model": 7}', b'{"model": "m", "n": "many"}', b"[" * 100_000]
)
def test_bodies_that_are_no_requests(start, body):
    upstream, running, key = start()
    status, _, answer = post(running, key, body)
    assert status == 400
    assert json.loads(answer)["error"]["code"] == "not_json"
    assert upstream.requests == []


def test_a_packed_body_is_not_unpacked(start):
    _, running, key = start()
    bomb = gzip.compress(b"0" * (64 << 20))
    before = resident_mib(running)
    assert post(running, key, bomb, **{"Content-Encoding": "gzip"})[0] == 400
    assert resident_mib(running) - before < 30


@pytest.mark.parametrize(
    "model",
    [
        "http://169.254.169.254/latest",
        "../../etc/passwd",
        "m/../x",
        "m\r\nHost: evil",
        "m?x=1",
        "",
        "m" * 10_000,
        "＠evil",
    ],
)
def test_no_name_of_a_model_leads_anywhere_else(start, model):
    upstream, running, key = start()
    status, _, answer = post(running, key, json.dumps({"model": model, "messages": []}).encode())
    assert status == 404
    assert json.loads(answer)["error"]["code"] == "model_not_allowed"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/../../x", "/v1//chat/completions", "/v1/files", "/v1/chat/completions%2F"]
)
def test_only_known_paths_lead_anywhere(start, path):
    upstream, running, key = start()
    assert post(running, key, path=path)[0] == 404
    assert upstream.requests == []


def test_what_a_client_says_of_itself_does_not_pass(start):
    upstream, running, key = start()
    more = (
        "Cookie: a=b",
        "X-Forwarded-For: 1.2.3.4",
        "x-api-key: mine",
        "Connection: X-Secret",
        "X-Secret: s",
        "X-Stainless-Lang: python",
        "X-Kept: no",
    )
    with connect(running) as client:
        client.sendall(head(key, len(BODY), *more) + BODY)
        assert b" 200 " in client.recv(100)
    sent = {name.lower(): value for name, value in upstream.headers[0].items()}
    assert not {"cookie", "x-forwarded-for", "x-api-key", "x-secret"} & sent.keys()
    assert "x-kept" not in sent, "only what a dialect needs passes"
    assert (sent["x-stainless-lang"], sent["authorization"]) == ("python", f"Bearer {MANAGED}")


def test_guessing_keys_is_limited(start):
    _, running, key = start()
    for number in range(10):
        assert post(running, f"sk-stillhouse-{number:08x}-guess")[0] == 401
    status, headers, _ = post(running, "sk-stillhouse-00000000-guess")
    assert (status, headers["Retry-After"]) == (429, "60")
    assert post(running, key)[0] == 429, "nothing from that address is even looked at for a minute"


def test_guesses_are_forgotten_and_their_memory_is_bounded():
    moment = 0.0
    ring = keys.Keyring(dict, Path("/nonexistent"), lambda: "2026-01-01", lambda: moment)
    for _ in range(10):
        ring.guessed("a")
    assert ring.must_wait("a") > 0
    assert ring.must_wait("b") == 0
    moment = 61.0
    assert ring.must_wait("a") == 0
    for number in range(20_000):
        ring.guessed(str(number))
    assert len(ring._guesses) <= 10_000


def test_every_key_is_compared_in_the_same_way():
    """A wrong secret, an unknown id and no key at all go through one comparison of digests."""
    known = GatewayKey(id="aaaaaaaa", name="n", digest=keys._digest("right"), project="p", uses=(Use.TRAIN,))
    ring = keys.Keyring(lambda: {known: ""}, Path("/nonexistent"), lambda: "2026-01-01")
    ring.reload()
    assert ring.find(f"{keys.PREFIX}aaaaaaaa-right") == known
    for wrong in (
        "",
        "x",
        f"{keys.PREFIX}aaaaaaaa-wrong",
        f"{keys.PREFIX}bbbbbbbb-right",
        f"{keys.PREFIX}aaaaaaaa-",
        keys.PREFIX,
    ):
        assert ring.find(wrong) is None


def test_a_clock_that_is_set_back_opens_no_revoked_key():
    known = GatewayKey(
        id="aaaaaaaa", name="n", digest=keys._digest("right"), project="p", uses=(Use.TRAIN,), expires="2026-05-01"
    )
    day, revoked = "2026-06-01", {known: ""}
    ring = keys.Keyring(lambda: revoked, Path("/nonexistent"), lambda: day)
    ring.reload()
    assert ring.find(f"{keys.PREFIX}aaaaaaaa-right") is None, "expired"
    day = "2020-01-01"
    assert ring.find(f"{keys.PREFIX}aaaaaaaa-right") is not None, "expiry is by the clock, and says so"
    revoked[known] = "left"
    ring.reload()
    assert ring.find(f"{keys.PREFIX}aaaaaaaa-right") is None, "revocation is not"


def test_a_key_of_another_project_spends_none_of_this_ones_budget(gateway, home, serve):
    upstream = serve(provider)
    home.add_mock(upstream.url, "mock", "--price-in", "0", "--price-out", "1000")
    (home.home / "config.toml").write_text('[budgets.projects]\none = "0.02"\n')
    running = gateway()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 15}).encode()
    one, other = (running.key(name, "--project", name, "--use", "train", "--budget", "1") for name in ("one", "other"))
    assert [post(running, one, body)[0] for _ in range(5)] == [200, 200, 200, 402, 402]
    assert post(running, other, body)[0] == 200


# --- teachers


def test_a_teacher_that_closes_within_its_stream_is_recorded_as_that(start):
    async def breaking(server, body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(server.request)
        for line in sse(chunk(delta={"content": "half"}), chunk(delta={"content": " a "})):
            await response.write(line)
        await asyncio.sleep(0.2)
        server.transport.abort()
        return response

    _, running, key = start(breaking)
    with connect(running) as client:
        body = BODY[:-1] + b', "stream": true}'
        client.sendall(head(key, len(body)) + body)
        received = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(4096):
                received += piece
    assert b"half" in received
    assert not received.endswith(b"0\r\n\r\n"), "no client can take it for whole"
    assert calls(running) == {str(Outcome.UPSTREAM_DIED): 1}
    log = log_of(running.cli)
    assert "half" in "".join(fact.data for fact in log if isinstance(fact, facts.ChunkReceived))
    assert not any(isinstance(fact, facts.Answered) for fact in log)
    assert next(fact for fact in log if isinstance(fact, facts.CallFailed)).charged


def test_a_teacher_that_is_not_there(gateway, home):
    home.add_mock("http://127.0.0.1:9/v1")
    running = gateway()
    status, _, answer = post(running, running.key())
    assert (status, json.loads(answer)["error"]["code"]) == (502, "teacher_unreachable")
    assert calls(running) == {str(Outcome.NOT_SENT): 1}


def test_a_teacher_that_stalls_is_left(gateway, home, serve):
    async def stalling(server, body):
        await asyncio.sleep(30)

    home.add_mock(serve(stalling).url)
    running = gateway("--stall-seconds", "1")
    started = time.monotonic()
    assert post(running, running.key())[0] == 502
    assert time.monotonic() - started < 15
    assert calls(running) == {str(Outcome.UPSTREAM_DIED): 1}


@pytest.mark.parametrize("length", [True, False])
def test_a_teacher_that_answers_without_end_is_cut(start, length):
    async def endless(server, body):
        headers = {"Content-Length": str(1 << 30)} if length else {}
        response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
        await response.prepare(server.request)
        with contextlib.suppress(Exception):
            for _ in range(1024):
                await response.write(b"x" * (1 << 20))
        return response

    _, running, key = start(endless)
    before = resident_mib(running)
    assert post(running, key)[0] == 502
    assert resident_mib(running) - before < 250
    assert calls(running) == {str(Outcome.CUT): 1}


@pytest.mark.parametrize(("managed", "size"), [(False, 256), (True, 256), (True, 1)])
def test_a_packed_answer_is_read_within_bounds(gateway, home, serve, managed, size):
    """It was asked not to be packed. Where a managed key could hide in it, it is opened, or, where that is too much, cut."""

    async def bomb(server, body):
        told = server.request.headers.get("Authorization", "").encode()
        packed = gzip.compress(told + b"0" * (size << 20))
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    more = ["--unmetered", *(["--key-env", "MOCK_KEY"] if managed else [])]
    home.add_mock(serve(bomb).url, "mock", *more)
    running = gateway(MOCK_KEY=MANAGED)
    before = resident_mib(running)
    status, headers, body = post(running, running.key())
    if not managed:
        assert (status, headers["Content-Encoding"]) == (200, "gzip")
        assert len(body) < 1 << 20
    elif size == 1:
        assert (status, headers["Content-Encoding"]) == (200, None)
        assert body.startswith(b"Bearer [redacted key]000")
    else:
        assert status == 502
    assert resident_mib(running) - before < 250, "not a quarter of a gigabyte"
    for path in home.folder.rglob("*"):
        assert not path.is_file() or MANAGED.encode() not in path.read_bytes(), path


def test_a_packed_stream_is_cut(start):
    async def packed(server, body):
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
        return web.Response(body=gzip.compress(b"data: x\n\n"), headers=headers)

    _, running, key = start(packed)
    assert post(running, key, BODY[:-1] + b', "stream": true}')[0] == 502


def test_a_stream_that_ends_before_its_end_is_not_whole(start):
    """The connection ends cleanly, the answer does not: nobody is told that it is whole, and it stays charged."""

    async def short(server, body):
        return await events(server, sse(chunk(delta={"content": "half"})))

    _, running, key = start(short)
    with pytest.raises(http.client.IncompleteRead):
        post(running, key, BODY[:-1] + b', "stream": true}')
    assert calls(running) == {str(Outcome.UPSTREAM_DIED): 1}


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [{"message": {"content": "x"}, "finish_reason": 5}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": {"a": 1}}], "usage": {"prompt_tokens": True}},
        {"choices": [{"message": {"content": "\ud800"}, "finish_reason": True}]},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_makes_the_log_unreadable(start, value, stream):
    async def odd(server, body):
        if stream:
            choice = {**value["choices"][0], "index": 0, "delta": value["choices"][0]["message"]}
            return await events(server, [*sse({**value, "choices": [choice]}), b"data: [DONE]\n\n"])
        return web.json_response(value)

    _, running, key = start(odd)
    post(running, key, BODY[:-1] + b', "stream": true}' if stream else BODY)
    running.ended()
    assert calls(running) == {"answered": 1}
    assert running.cli("doctor", "--json").json


def test_a_deeply_nested_answer_is_an_answer(start):
    async def deep(server, body):
        return web.Response(body=b"[" * 20_000, content_type="application/json")

    _, running, key = start(deep)
    assert post(running, key)[0] == 200
    assert calls(running) == {"answered": 1}


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "model": "other", "messages": []}',
        b'{"model": "m", "mod\\u0065l": "m", "messages": []}',
        b'{"model": "m", "MODEL": "other", "messages": []}',
        b'{"Model": "m", "messages": []}',
        b'{"model": "m", "messages": [], "max_tokens": -1}',
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(start, body):
    upstream, running, key = start()
    assert post(running, key, body)[0] == 400
    assert upstream.requests == []


@pytest.mark.parametrize("name", ["models", "route", "provider", "preset"])
def test_no_request_leads_to_another_model(start, name):
    upstream, running, key = start()
    body = BODY[:-1] + f', "{name}": ["other"]}}'.encode()
    status, _, answer = post(running, key, body)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "rerouting_not_allowed")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "more",
    [
        {"max_completion_tokens": 1, "max_tokens": 100_000},
        {"max_tokens": 1, "speed": "fast"},
        {"max_tokens": 1, "inference_geo": "us"},
        {"max_tokens": 1, "previous_response_id": "r"},
        {"max_tokens": 1, "n": 1000},
    ],
)
def test_no_request_costs_more_than_is_held_for_it(gateway, home, serve, more):
    upstream = serve(provider)
    home.add_mock(upstream.url, "mock", "--price-in", "0", "--price-out", "1000")
    running = gateway()
    key = running.key("rich", "--project", "p", "--use", "train", "--budget", "0.05")
    assert post(running, key, json.dumps({**json.loads(BODY), **more}).encode())[0] in (400, 402)
    assert upstream.requests == []


def test_endless_headers_of_a_teacher():
    """A raw server: headers for ever. The call fails, and little of it is kept."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve_headers():
        client, _ = listening.accept()
        with contextlib.suppress(OSError), client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\n")
            for number in range(200_000):
                client.sendall(f"X-{number}: {'y' * 1000}\r\n".encode())

    thread = threading.Thread(target=serve_headers, daemon=True)
    thread.start()
    from stillhouse.nouns import Ask, Channel, Message, Parameters, Teacher, TeacherKind
    from stillhouse.teachers.http import HttpOptions, HttpTeacher
    from stillhouse.teachers.openai import OpenAIDialect

    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    teacher = Teacher(
        name="t", kind=TeacherKind.OPENAI, model="m", lab="l", channel=Channel.OFFICIAL, terms=("x",), base_url=url
    )
    ask = Ask("k", "t", "p", (Message("user", "hi"),), Parameters(1, 0, 0), 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = []
    HttpTeacher(teacher, OpenAIDialect(), HttpOptions(in_flight=1)).answer(
        [ask], {"k"}, lambda asks: None, ended.append
    )
    assert ended[-1].charged
    assert "connection broke" in ended[-1].reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
    thread.join(10)
    listening.close()


def test_answers_that_are_not_text_pass_byte_for_byte(start):
    odd = b'{"choices": [{"message": {"content": "\xff\xfe\x00"}}]}'

    async def binary(server, body):
        return web.Response(body=odd, content_type="application/json")

    _, running, key = start(binary)
    assert post(running, key)[2] == odd
    running.ended()
    returned = next(fact for fact in log_of(running.cli) if isinstance(fact, facts.CallReturned))
    assert returned.base64
    assert running.cli("doctor", "--json").json


@pytest.mark.parametrize("stream", [False, True])
def test_a_managed_key_that_comes_back_is_redacted_and_marked(start, stream):
    async def echo(server, body):
        text = f"your key is {server.request.headers['Authorization']} indeed"
        if not stream:
            return web.json_response({"choices": [{"message": {"content": text}}]}, headers={"X-Echo": text})
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        lines = [b"data: ", *(piece.encode() for piece in pieces), b"\n\ndata: [DONE]\n\n"]
        return await events(server, lines, pause=0.005)

    _, running, key = start(echo)
    _, headers, body = post(running, key, BODY[:-1] + b', "stream": true}' if stream else BODY)
    assert MANAGED.encode() not in body
    assert b"your key is Bearer [redacted key] indeed" in body
    assert MANAGED not in str(headers)
    running.ended()
    returned = next(fact for fact in log_of(running.cli) if isinstance(fact, facts.CallReturned))
    assert returned.redacted >= 1
    for path in running.cli.folder.rglob("*"):
        assert not path.is_file() or MANAGED.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("size", range(1, 12))
def test_a_key_in_any_pieces_is_found(size):
    data = b"a sk sk-sec sk-secret sk-secre" + b"t sk-secret"
    redactor = Redactor("sk-secret")
    passed = b"".join(redactor.feed(data[at : at + size]) for at in range(0, len(data), size)) + redactor.rest()
    assert passed == b"a sk sk-sec [redacted key] [redacted key] [redacted key]"
    assert redactor.count == 3


def test_redirects_are_not_followed(start, serve):
    elsewhere = serve()

    async def redirect(server, body):
        return web.Response(status=307, headers={"Location": f"{elsewhere.url}/chat/completions"})

    _, running, key = start(redirect)
    assert post(running, key)[0] == 307
    assert elsewhere.requests == [], "a managed key must not travel to a host that nobody registered"


# --- the log


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_written_down_does_not_pass(start, stream):
    """The disk is full in the middle of an answer: the client gets nothing that the log has not."""
    secret = "never to be seen"

    async def long(server, body):
        if not stream:
            return web.json_response({"choices": [{"message": {"content": secret + "x" * 200_000}}]})
        lines = sse(*[chunk(delta={"content": "x" * 5_000})] * 60, chunk(delta={"content": secret}))
        return await events(server, lines, pause=0.002)

    _, running, key = start(long)
    worker = workers_of(running)[0]
    used = sum(path.stat().st_size for path in (running.cli.home / "log").rglob("*.segment"))
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (used + 60_000, used + 60_000))
    body = BODY[:-1] + b', "stream": true}' if stream else BODY
    with connect(running) as client:
        client.sendall(head(key, len(body)) + body)
        received = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                received += piece
                if b"}\r\n0\r\n\r\n" in received or b'not_recorded"' in received:
                    break
    assert secret.encode() not in received
    if not stream:
        assert b" 503 " in received.splitlines()[0]
    passed = received.count(b'"content"') if stream else 0
    log = log_of(running.cli)
    written = sum(fact.data.count('"content"') for fact in log if isinstance(fact, facts.ChunkReceived))
    assert passed <= written
    assert post(running, key)[0] == 503, "and nothing is sent while nothing can be written"


def test_a_kill_in_the_middle_leaves_an_unsettled_call(gateway, home, serve):
    async def slow(server, body):
        return await events(server, sse(*[chunk(delta={"content": "x"})] * 100), pause=0.05)

    upstream = serve(slow)
    home.add_mock(upstream.url, "mock", "--price-in", "0", "--price-out", "1000")
    running = gateway()
    key = running.key("rich", "--project", "p", "--use", "train", "--budget", "0.03")
    body = BODY[:-1] + b', "stream": true, "max_tokens": 20}'
    with connect(running) as client:
        client.sendall(head(key, len(body)) + body)
        received = client.recv(4096)
        while received.count(b'"content"') < 5:
            received += client.recv(4096)
        for worker in workers_of(running):
            os.kill(worker, 9)
        with contextlib.suppress(OSError):
            while piece := client.recv(4096):
                received += piece
    log = log_of(home)
    written = "".join(fact.data for fact in log if isinstance(fact, facts.ChunkReceived))
    assert received.count(b'"content"') <= written.count('"content"'), "nothing was seen that the log has not"
    assert calls(running) == {"no end was seen": 1}
    time.sleep(1.5)
    status, _, answer = post(running, key, body)
    assert status == 402, "its worst case stays charged, and another call does not fit beside it"
    assert "of key:" in json.loads(answer)["error"]["message"]


def test_the_largest_answer_is_not_larger_than_all_memory():
    assert carry.LARGEST_ANSWER <= carry.IN_MEMORY // 4
