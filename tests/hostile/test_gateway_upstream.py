"""Teachers behind the gateway, and its log, that fail or mean harm."""

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

import pytest
from aiohttp import web

from stillhouse.home import facts
from stillhouse.nouns import Outcome
from stillhouse.teachers.gateway import carry
from stillhouse.teachers.gateway.redact import Redactor
from tests.gateways import (
    BODY,
    MANAGED,
    calls,
    chunk,
    connect,
    events,
    head,
    log_of,
    post,
    provider,
    resident_mib,
    sse,
    workers_of,
)


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


def test_a_teacher_that_drips_holds_up_nobody_else(start):
    """One byte now and then, for as long as anybody waits: others are served, and the client's end is the call's."""

    async def dripping(server, body):
        if b"drip" not in server.bodies[-1]:
            return await provider(server, body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(server.request)
        with contextlib.suppress(Exception):
            while True:
                await response.write(b"d")
                await asyncio.sleep(0.05)
        return response

    _, running, key = start(dripping)
    body = BODY.replace(b"Hi", b"drip")[:-1] + b', "stream": true}'
    slow = [connect(running) for _ in range(20)]
    for client in slow:
        client.sendall(head(key, len(body)) + body)
    time.sleep(0.5)
    assert post(running, key)[0] == 200
    for client in slow:
        client.close()
    deadline = time.monotonic() + 30
    while calls(running).get(str(Outcome.CANCELLED)) != 20 and time.monotonic() < deadline:
        time.sleep(0.3)
    assert calls(running) == {"answered": 1, str(Outcome.CANCELLED): 20}


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
    from stillhouse.teachers.http_teacher import HttpOptions, HttpTeacher
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
    full = max(path.stat().st_size for path in (running.cli.home / "log").rglob("*.segment"))
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (full, used + 60_000))  # what was left might hold a short entry
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
