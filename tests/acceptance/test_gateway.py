"""The gateway as its clients see it: the official SDKs, unmodified, over loopback."""

import asyncio
import contextlib
import gc
import http.client
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import anthropic
import openai
import pytest
import time_machine
from aiohttp import web

from stillhouse.home import facts
from stillhouse.nouns import Outcome
from tests.gateways import chunk, events, log_of, provider, sse


@pytest.fixture(autouse=True)
def clients_are_closed():
    """An SDK's client that nobody closes leaves its socket to the garbage collector, whose warning would hit another test."""
    yield
    for each in gc.get_objects():
        if type(each) in (openai.OpenAI, anthropic.Anthropic):
            each.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def upstream(serve):
    return serve(provider)


@pytest.fixture
def running(gateway, home, upstream):
    home.add_mock(upstream.url)
    words = ["teacher", "add", "claude", "--kind", "anthropic", "--model", "claude-x", "--lab", "testlab", "--channel"]
    words += ["open-weights", "--terms", "licence/mit", "--base-url", upstream.url.removesuffix("/v1"), "--unmetered"]
    home(*words)
    return gateway()


@pytest.fixture
def client(running):
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0)


@pytest.fixture
def claude(running):
    return anthropic.Anthropic(base_url=running.url, api_key=running.key("claude"), max_retries=0)


ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_openai_chat_is_unchanged_and_recorded(client, running, upstream):
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.parse().choices[0].message.content == "Hello"
    assert raw.headers["x-ratelimit-remaining-requests"] == "41", "the provider's headers pass"
    call = raw.headers["x-stillhouse-call"]
    running.ended()
    log = log_of(running.cli)
    received = next(fact for fact in log if isinstance(fact, facts.CallReceived))
    assert (received.call, received.body.encode()) == (call, upstream.bodies[0]), "byte for byte what was sent on"
    returned = next(fact for fact in log if isinstance(fact, facts.CallReturned))
    assert json.loads(returned.body)["choices"][0]["message"]["content"] == "Hello"
    answer = next(fact for fact in log if isinstance(fact, facts.Answered))
    assert (answer.text, answer.finish, answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        "Hello",
        "stop",
        3,
        2,
    )
    assert running.cli("doctor", "--json").json
    sets = running.cli("lineage", "impact", "teacher:mock", "--json").json
    assert sets["records"] == 1


def test_openai_streams(client, running):
    stream = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert "".join(event.choices[0].delta.content or "" for event in stream if event.choices) == "Hello"
    running.ended()
    log = log_of(running.cli)
    pieces = "".join(fact.data for fact in log if isinstance(fact, facts.ChunkReceived))
    assert pieces.startswith("data: {")
    assert pieces.endswith("data: [DONE]\n\n"), "every byte of the stream is in the log"
    answer = next(fact for fact in log if isinstance(fact, facts.Answered))
    assert (answer.text, answer.finish, answer.usage.completion_tokens) == ("Hello", "stop", 2)


def test_tools_completions_embeddings_responses_and_models(client, running):
    called = client.chat.completions.create(
        **ASK, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]
    )
    assert called.choices[0].message.tool_calls[0].function.arguments == '{"x": 1}'
    assert client.completions.create(model="m", prompt="Hello").choices[0].text == " world"
    assert client.embeddings.create(model="m", input="Hi", encoding_format="float").data[0].embedding == [0.5, 0.25]
    assert client.responses.create(model="m", input="Hi").output_text == "Hello"
    stream = client.responses.create(model="m", input="Hi", stream=True)
    assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == "Hello"
    assert [model.id for model in client.models.list()] == ["m"]
    running.ended()
    answers = [fact for fact in log_of(running.cli) if isinstance(fact, facts.Answered)]
    assert [answer.text for answer in answers] == ["", " world", "", "Hello", "Hello"]
    assert [answer.finish for answer in answers][2] == "embedding"


def test_anthropic_messages_streams_and_counts(claude, running, upstream):
    raw = claude.messages.with_raw_response.create(model="claude-x", max_tokens=9, messages=ASK["messages"])
    assert raw.parse().content[0].text == "Hello"
    assert (raw.headers["anthropic-ratelimit-requests-remaining"], raw.headers["request-id"]) == ("7", "req_1")
    with claude.messages.stream(model="claude-x", max_tokens=9, messages=ASK["messages"]) as stream:
        assert stream.get_final_text() == "Hello"
    assert claude.messages.count_tokens(model="claude-x", messages=ASK["messages"]).input_tokens == 9
    assert [model.id for model in claude.models.list()] == ["claude-x"]
    beta = claude.beta.messages.create(
        model="claude-x", max_tokens=9, messages=ASK["messages"], betas=["x-2025"], extra_query={"beta": "true"}
    )
    assert beta.content[0].text == "Hello"
    assert upstream.paths[-1] == "/v1/messages?beta=true"
    assert upstream.headers[-1]["anthropic-beta"] == "x-2025", "what the client says of the dialect passes on"
    running.ended()
    answers = [fact for fact in log_of(running.cli) if isinstance(fact, facts.Answered)]
    assert [answer.text for answer in answers] == ["Hello"] * 3, "counting tokens is no answer"


def test_the_clients_key_stays_here_and_the_managed_key_there(gateway, home, upstream):
    home.add_mock(upstream.url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
    running = gateway(MOCK_KEY="sk-managed-secret-1234")
    secret = running.key()
    openai.OpenAI(base_url=f"{running.url}/v1", api_key=secret).chat.completions.create(**ASK)
    assert upstream.headers[0]["Authorization"] == "Bearer sk-managed-secret-1234"
    assert secret not in json.dumps(upstream.headers)
    running.ended()
    everything = b"".join(path.read_bytes() for path in home.folder.rglob("*") if path.is_file())
    assert b"sk-managed-secret-1234" not in everything
    assert secret.encode() not in everything, "a client's key is stored as a digest alone"


@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_provider_pass_unchanged(running, serve, home, stream):
    async def limited(server, body):
        headers = {"Retry-After": "7", "x-ratelimit-limit-requests": "3"}
        return web.json_response({"error": {"message": "slow down", "type": "rate_limit"}}, status=429, headers=headers)

    home.add_mock(serve(limited).url.replace("127.0.0.1", "localhost"), "other")
    key = running.key("scoped", "--project", "p", "--use", "train", "--teacher", "other")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASK, stream=stream)
    assert "slow down" in str(caught.value)
    assert caught.value.response.headers["Retry-After"] == "7"
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "3"
    assert running.cli("gateway", "status", "--json").json["calls"] == {"refused by the teacher": 1}


def test_an_sdks_own_retry_is_another_purchase(running, serve, home):
    async def failing_once(server, body):
        if len(server.requests) == 1:
            return web.json_response({"error": {"message": "hiccup"}}, status=500)
        return await provider(server, body)

    server = serve(failing_once)
    home.add_mock(server.url, "other")
    key = running.key("scoped", "--project", "p", "--use", "train", "--teacher", "other")
    answer = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=2).chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Hello"
    assert len(server.requests) == 2
    calls = running.cli("gateway", "status", "--json").json["calls"]
    assert calls == {"answered": 1, "refused by the teacher": 1}, "two calls, and the log says so"


def test_an_idempotency_key_makes_it_one_purchase(client, running, upstream):
    first = client.chat.completions.create(**ASK, extra_headers={"Idempotency-Key": "job-1"})
    again = client.chat.completions.with_raw_response.create(**ASK, extra_headers={"Idempotency-Key": "job-1"})
    assert again.parse() == first
    assert "x-stillhouse-replayed" in again.headers
    assert len(upstream.requests) == 1
    with pytest.raises(openai.UnprocessableEntityError, match="another request"):
        client.chat.completions.create(model="m", messages=[], extra_headers={"Idempotency-Key": "job-1"})


def test_two_at_once_under_one_idempotency_key_are_one_purchase(running, upstream):
    async def slow(server, body):
        await asyncio.sleep(0.5)
        return await provider(server, body)

    upstream.answer = slow
    key = running.key()
    answers = []

    def ask():
        made = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key).chat.completions.create(
            **ASK, extra_headers={"Idempotency-Key": "same"}
        )
        answers.append(made.choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, len(upstream.requests)) == (["Hello"] * 4, 1)


def test_a_client_that_times_out_does_not_lose_what_was_bought(running, upstream):
    async def slow(server, body):
        await asyncio.sleep(1.0)
        return await provider(server, body)

    upstream.answer = slow
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), timeout=0.3, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**ASK, extra_headers={"Idempotency-Key": "patience"})
    patient = client.with_options(timeout=20)
    answer = patient.chat.completions.create(**ASK, extra_headers={"Idempotency-Key": "patience"})
    assert (answer.choices[0].message.content, len(upstream.requests)) == ("Hello", 1)


def test_one_purchase_over_several_workers(gateway, home, upstream):
    async def slow(server, body):
        await asyncio.sleep(0.5)
        return await provider(server, body)

    upstream.answer = slow
    home.add_mock(upstream.url)
    running = gateway("--workers", "2")
    headers = {"Authorization": f"Bearer {running.key()}", "Idempotency-Key": "one", "Connection": "close"}
    answers = []

    def ask():
        request = urllib.request.Request(f"{running.url}/v1/chat/completions", json.dumps(ASK).encode(), headers)
        with urllib.request.urlopen(request) as response:
            answers.append(json.load(response)["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers, len(upstream.requests)) == (["Hello"] * 12, 1)


SKIPPED = {"it asked no model for words": 1}


def test_a_dataset_of_what_was_asked(client, claude, running, home):
    client.chat.completions.create(**ASK)
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Again"}])
    client.chat.completions.create(**ASK, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    client.embeddings.create(model="m", input="Hi", encoding_format="float")
    claude.messages.create(model="claude-x", max_tokens=9, system="Be brief.", messages=ASK["messages"])
    plan = home("dataset", "gather", "p", "--name", "asked", "--plan", "--json").json
    assert (plan["does"]["answers"], plan["does"]["usable"]) == (5, 4)
    done = home("dataset", "gather", "p", "--name", "asked", "--json").json
    assert (done["dataset"], done["rows"], done["skipped"]) == ("asked@1", 4, SKIPPED)
    home("dataset", "export", "asked", "rows.jsonl")
    rows = [json.loads(line)["messages"] for line in (home.folder / "rows.jsonl").read_text().splitlines()]
    assert [
        {"role": "system", "content": "Be brief."},
        *ASK["messages"],
        {"role": "assistant", "content": "Hello"},
    ] in rows
    assert home("policy", "check", "asked", "--use", "train", "--json").json["allowed"] == 4
    assert "dataset:asked@1" in home("lineage", "impact", "teacher:claude", "--json").json["nodes"]
    assert "No call" in home("dataset", "gather", "nobody", "--name", "x", code=2).err


def test_keys_are_scoped(running, home, upstream):
    home.add_mock(upstream.url, "dear", "--price-in", "1", "--price-out", "1")
    key = running.key("narrow", "--project", "p", "--use", "evaluate", "--teacher", "claude")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.NotFoundError, match="may ask: none"):
        client.chat.completions.create(**ASK)
    claude = anthropic.Anthropic(base_url=running.url, api_key=key, max_retries=0)
    with pytest.raises(anthropic.PermissionDeniedError, match="use_not_allowed"):
        claude.messages.create(
            model="claude-x", max_tokens=9, messages=ASK["messages"], extra_headers={"x-stillhouse-purpose": "train"}
        )
    assert claude.messages.create(model="claude-x", max_tokens=9, messages=ASK["messages"]).content[0].text == "Hello"
    poor = running.key("poor", "--project", "p", "--use", "train", "--teacher", "dear")
    with pytest.raises(openai.NotFoundError):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=poor, max_retries=0).chat.completions.create(**ASK)


def test_a_revoked_key_opens_nothing_from_the_next_request_on(client, running):
    client.chat.completions.create(**ASK)
    running.cli("gateway", "key", "revoke", "me", "--reason", "left")
    with pytest.raises(openai.AuthenticationError, match="Invalid or revoked"):
        client.chat.completions.create(**ASK)


def test_a_revocation_cuts_a_stream(running, upstream):
    async def long(server, body):
        return await events(server, sse(*[chunk(delta={"content": "x"})] * 200), pause=0.05)

    upstream.answer = long
    body = json.dumps({**ASK, "stream": True}).encode()
    headers = {"Authorization": f"Bearer {running.key()}"}
    received = b""
    request = urllib.request.Request(f"{running.url}/v1/chat/completions", body, headers)
    with pytest.raises((OSError, http.client.HTTPException)), urllib.request.urlopen(request) as response:
        while piece := response.read1(4096):
            received += piece
            if received.count(b'"content"') == 3:
                running.cli("gateway", "key", "revoke", "me")
    assert 3 <= received.count(b'"content"') < 150
    assert running.cli("gateway", "status", "--json").json["calls"] == {str(Outcome.CUT): 1}


def test_an_expired_key_opens_nothing(running):
    with time_machine.travel("2020-01-01T12:00:00Z"):
        key = running.key("old", "--project", "p", "--use", "train", "--expires", "2020-01-01")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0).chat.completions.create(**ASK)


def test_policy_is_asked_before_the_call(running, home, upstream):
    words = ["teacher", "add", "gpt", "--kind", "openai", "--model", "gpt", "--lab", "openai", "--channel", "personal"]
    home(*words, "--terms", "ChatGPT/Terms of Service@2026-01-16", "--base-url", upstream.url, "--unmetered")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0)
    with pytest.raises(openai.PermissionDeniedError, match="personal account") as caught:
        client.chat.completions.create(model="gpt", messages=ASK["messages"])
    assert caught.value.code == "policy_refusal"
    assert upstream.requests == [], "nothing was sent"


def test_money_is_held_before_the_call(gateway, home, upstream):
    home.add_mock(upstream.url, "mock", "--price-in", "0", "--price-out", "1000")
    running = gateway()
    key = running.key("rich", "--project", "p", "--use", "train", "--budget", "0.025")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=2)
    with pytest.raises(openai.BadRequestError, match="max_completion_tokens is required"):
        client.chat.completions.create(**ASK)
    with pytest.raises(openai.BadRequestError, match="input_audio has no price"):
        parts = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}], max_tokens=5)
    for _ in range(8):  # each 20 tokens at worst, 2 in truth
        client.chat.completions.create(**ASK, max_tokens=5)
    with pytest.raises(openai.APIStatusError, match=r"of the \$0.025 of key:") as caught:
        client.chat.completions.create(**ASK, max_tokens=15)
    assert caught.value.status_code == 402
    assert len(upstream.requests) == 8, "and the SDK did not try it again"


def test_health_metrics_and_no_admin_on_the_data_port(client, running):
    client.chat.completions.create(**ASK)
    for path in ("/healthz", "/readyz"):
        assert urllib.request.urlopen(running.ops + path).status == 200
    metrics = urllib.request.urlopen(running.ops + "/metrics").read().decode()
    assert "stillhouse_gateway_answered_total 1" in metrics
    assert "stillhouse_gateway_added_seconds_count 1" in metrics
    for path in ("/healthz", "/metrics", "/", "/admin", "/v1/keys"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(running.url + path)
        assert caught.value.code in (401, 404)


def test_it_drains_when_it_is_told_to_end(running, upstream):
    async def slow(server, body):
        await asyncio.sleep(2)
        return await provider(server, body)

    upstream.answer = slow
    headers = {"Authorization": f"Bearer {running.key()}"}
    request = urllib.request.Request(f"{running.url}/v1/chat/completions", json.dumps(ASK).encode(), headers)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(json.load(urllib.request.urlopen(request))))
    thread.start()
    while not upstream.requests:
        time.sleep(0.02)
    running.process.terminate()
    thread.join(30)
    assert answers[0]["choices"][0]["message"]["content"] == "Hello", "who was being served is served"
    assert running.ended()[0] == 0


def test_a_worker_that_dies_is_replaced(running):
    request = urllib.request.Request(f"{running.url}/v1/models", headers={"Authorization": f"Bearer {running.key()}"})
    assert urllib.request.urlopen(request).status == 200
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text()
    time.sleep(1.1)
    os.kill(int(children.split()[0]), 9)
    deadline, status = time.monotonic() + 30, 0
    while status != 200 and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            status = urllib.request.urlopen(request, timeout=2).status
        time.sleep(0.2)
    assert status == 200
    assert "was restarted" in running.ended()[1]


def test_several_workers_share_a_port(gateway, home, upstream):
    home.add_mock(upstream.url)
    running = gateway("--workers", "2")
    key = running.key()

    def ask():
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=key)
        for _ in range(5):
            client.chat.completions.create(**ASK)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert running.cli("gateway", "status", "--json").json["calls"] == {"answered": 30}


def test_power_durability_answers_the_same(gateway, home, upstream):
    home.add_mock(upstream.url)
    running = gateway("--durability", "power")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key())
    assert client.chat.completions.create(**ASK).choices[0].message.content == "Hello"
    assert "".join(
        e.choices[0].delta.content or "" for e in client.chat.completions.create(**ASK, stream=True) if e.choices
    )


@pytest.mark.parametrize("option", ["--port", "--ops-port"])
def test_a_port_that_is_taken_is_named(home, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [option, port, "--ops-port" if option == "--port" else "--port", "0", "--workers", "1"]
        ran = home("gateway", "serve", *words, code=2)
    assert f"127.0.0.1:{port}" in ran.err
    assert "Choose another" in ran.err


def test_a_day_that_is_none_is_refused(home):
    words = ["gateway", "key", "add", "me", "--project", "p", "--use", "train", "--expires"]
    for day in ("2026-13-01", "20260101", "soon"):
        assert "not a date" in home(*words, day, code=2).err
