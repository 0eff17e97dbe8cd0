"""Clients of the gateway that mean harm, or have bad luck."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
from pathlib import Path

import pytest

from stillhouse.home.change_marker import ChangeMarker
from stillhouse.nouns import GatewayKey, Outcome, Use
from stillhouse.teachers.gateway import body_memory, keyring, server
from stillhouse.teachers.gateway.admission import Refused
from tests.gateways import (
    BODY,
    MANAGED,
    calls,
    connect,
    events,
    head,
    post,
    provider,
    resident_mib,
)


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
        store = body_memory.Memory(1 << 20)
        async with store.growing() as share:
            with pytest.raises(Refused) as caught:
                await server.Gateway._body(None, Request(), share)
            assert caught.value.refusal.status == 408
        assert store.taken == 0

    asyncio.run(read())


def test_all_bodies_together_have_a_limit():
    async def fill():
        store = body_memory.Memory(100)
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
    ring = keyring.Keyring(dict, ChangeMarker(Path("/nonexistent")), lambda: "2026-01-01", lambda: moment)
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
    known = GatewayKey(id="aaaaaaaa", name="n", digest=keyring._digest("right"), project="p", uses=(Use.TRAIN,))
    ring = keyring.Keyring(lambda: {known: ""}, ChangeMarker(Path("/nonexistent")), lambda: "2026-01-01")
    ring.reload()
    assert ring.find(f"{keyring.PREFIX}aaaaaaaa-right") == known
    for wrong in (
        "",
        "x",
        f"{keyring.PREFIX}aaaaaaaa-wrong",
        f"{keyring.PREFIX}bbbbbbbb-right",
        f"{keyring.PREFIX}aaaaaaaa-",
        keyring.PREFIX,
    ):
        assert ring.find(wrong) is None


def test_a_clock_that_is_set_back_opens_no_revoked_key():
    known = GatewayKey(
        id="aaaaaaaa", name="n", digest=keyring._digest("right"), project="p", uses=(Use.TRAIN,), expires="2026-05-01"
    )
    day, revoked = "2026-06-01", {known: ""}
    ring = keyring.Keyring(lambda: revoked, ChangeMarker(Path("/nonexistent")), lambda: day)
    ring.reload()
    assert ring.find(f"{keyring.PREFIX}aaaaaaaa-right") is None, "expired"
    day = "2020-01-01"
    assert ring.find(f"{keyring.PREFIX}aaaaaaaa-right") is not None, "expiry is by the clock, and says so"
    revoked[known] = "left"
    ring.reload()
    assert ring.find(f"{keyring.PREFIX}aaaaaaaa-right") is None, "revocation is not"


def test_a_key_of_another_project_spends_none_of_this_ones_budget(gateway, home, serve):
    upstream = serve(provider)
    home.add_mock(upstream.url, "mock", "--price-in", "0", "--price-out", "1000")
    (home.home / "config.toml").write_text('[budgets.projects]\none = "0.02"\n')
    running = gateway()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 15}).encode()
    one, other = (running.key(name, "--project", name, "--use", "train", "--budget", "1") for name in ("one", "other"))
    assert [post(running, one, body)[0] for _ in range(5)] == [200, 200, 200, 402, 402]
    assert post(running, other, body)[0] == 200
