"""Servers that refuse, stall, throttle, break off, or talk nonsense."""

import asyncio
import gzip
import json
import time

import pytest
from aiohttp import web

from tests.server import chat, code_answer


def collect(home, server, count=3, code=0, **options):
    home.add_mock(server.url)
    home.prompts(count)
    return home("collect", home.recipe(**options), "--json", code=code)


def test_nobody_is_there(home):
    home.add_mock("http://127.0.0.1:9/v1")
    home.prompts(3)
    ran = home("run", home.recipe(), "--json", code=1)
    assert ran.json["error"] == "TeacherUnreachable"
    assert "127.0.0.1:9" in ran.json["message"]
    assert "later" in ran.json["next_step"]
    assert home("status", "--json").json["counts"]["datasets"] == 0


def test_an_address_that_leads_nowhere(home):
    home.add_mock("http://no-such-host.invalid/v1")
    home.prompts(1)
    assert home("run", home.recipe(), "--json", code=1).json["error"] in ("TeacherUnreachable", "TeacherError")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_hopeless_error_stops_the_run_at_once(home, serve, status):
    async def no(server, body):
        return web.json_response({"error": {"message": "go away"}}, status=status)

    server = serve(no)
    ran = collect(home, server, 50, code=1, in_flight=2)
    assert ran.json["error"] == "TeacherRejected"
    assert f"{status}: go away" in ran.json["message"]
    at_most = 2 if status != 403 else 6  # which may be said of one prompt
    assert len(server.requests) <= at_most, "it is not asked again and again"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "'max_tokens' or 'max_completion_tokens' is too large: 512. The context length is 4096 tokens"),
        (403, "this prompt was flagged by moderation"),
        (400, 'the prompt "add 0 seed temperature" is not allowed'),
    ],
)
def test_a_refusal_of_one_prompt_ends_nothing(home, serve, status, said):
    """It comes before anything else does, since nothing is generated for it."""

    async def one_is_refused(server, body):
        if body["messages"][-1]["content"] == "add 0":
            return web.json_response({"error": {"message": said}}, status=status)
        await asyncio.sleep(0.2)
        return web.json_response(chat(code_answer(body)))

    done = collect(home, serve(one_is_refused), 8, code=0, in_flight=2).json
    assert (done["answers"], done["failed"]) == (7, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"statusCode": 400, "error": "Bad Request", "message": "body must NOT have additional properties: 'seed'"},
        {"error": {"message": "Unsupported parameter.", "param": "seed"}},
        {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        [{"error": {"message": "Unknown name seed"}}],
    ],
)
def test_the_field_that_is_rejected_is_named_in_any_dialect(home, serve, body):
    async def strict(server, asked):
        return web.json_response(body, status=400)

    ran = collect(home, serve(strict), 2, code=1)
    assert "it rejects the field 'seed'" in ran.json["message"]
    assert "teacher probe" in ran.json["next_step"]


def test_a_poisoned_prompt_costs_no_other(home, serve):
    async def poisoned(server, body):
        if body["messages"][-1]["content"] == "add 1":
            return web.json_response({"error": {"message": "cannot"}}, status=400)
        return web.json_response(chat(code_answer(body)))

    server = serve(poisoned)
    done = collect(home, server).json
    assert (done["answers"], done["failed"], len(server.requests)) == (2, 1, 3)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_what_passes_is_tried_again(home, serve, status):
    async def busy(server, body):
        if len(server.requests) <= 2:
            return web.json_response({"error": "busy"}, status=status, headers={"Retry-After": "0.2"})
        return web.json_response(chat(code_answer(body)))

    done = collect(home, serve(busy), 2, in_flight=1).json
    assert (done["answers"], done["failed"]) == (2, 0)


def test_retry_after_is_heeded(home, serve):
    moments = []

    async def busy(server, body):
        moments.append(time.monotonic())
        if len(moments) == 1:
            return web.json_response({}, status=429, headers={"Retry-After": "1.5"})
        return web.json_response(chat(code_answer(body)))

    collect(home, serve(busy), 1)
    assert moments[1] - moments[0] >= 1.5


def test_a_stalled_server_is_left_and_its_call_stays_unsettled(home, serve):
    async def stalling(server, body):
        if body["messages"][-1]["content"] == "add 0":
            await asyncio.sleep(60)
        return web.json_response(chat(code_answer(body)))

    done = collect(home, serve(stalling), 3, stall_seconds=1.0).json
    assert (done["answers"], done["failed"], done["unsettled"]) == (2, 1, 1)


def test_torn_and_foreign_answers_are_kept_as_what_they_are(home, serve):
    bodies = [b"", b"{", b"null", b"[]", b'{"choices": [{"message": {"content": 7}}]}', b"\xff\xfe\x00", b'"text"']

    async def nonsense(server, body):
        return web.Response(
            body=bodies[int(body["messages"][-1]["content"].split()[-1])], content_type="application/json"
        )

    done = collect(home, serve(nonsense), len(bodies)).json
    assert (done["answers"], done["failed"]) == (len(bodies) - 1, 1), "an empty body is no answer"
    assert home("doctor", "--json", code=0).json


def test_a_connection_that_breaks_off(home, serve):
    async def breaking(server, body):
        if len(server.requests) == 1:
            server.transport.close()
        return web.json_response(chat(code_answer(body)))

    done = collect(home, serve(breaking), 3, in_flight=1).json
    assert (done["answers"], done["failed"], done["unsettled"]) == (2, 1, 1)
    again = home("collect", home.recipe(in_flight=1), "--json").json
    assert (again["answers"], again["paid"]) == (3, 1), "asked again by decision: a new run of the command"


@pytest.mark.parametrize("tokens", [2**63, 10**24, -5, 1.5, "many", None, True])
def test_counts_of_tokens_that_cannot_be(home, serve, tokens):
    async def counting(server, body):
        return web.json_response(chat(code_answer(body), completion_tokens=tokens))

    done = collect(home, serve(counting), 2).json
    assert done["answers"] == 2
    assert home("status", "--json").json["counts"]["answers"] == 2, "and the home opens again"
    home("doctor")


def test_redirects_are_not_followed(home, serve):
    other = serve()

    async def elsewhere(server, body):
        return web.Response(status=307, headers={"Location": f"{other.url}/chat/completions"})

    ran = collect(home, serve(elsewhere), 1, code=1)
    assert ran.json["error"] == "TeacherError"
    assert other.requests == [], "a key must not travel to a host that nobody registered"


@pytest.mark.parametrize("size", [0, 10_000_000])
def test_empty_and_huge_answers(home, serve, sandboxed, size):
    async def huge(server, body):
        return web.json_response(chat("```python\n# " + "x" * size + "\n```" if size else ""))

    home.add_mock(serve(huge).url)
    home.prompts(1)
    done = home("run", home.recipe(), "--json").json
    assert (done["answers"], done["verified"]) == (1, 0)


@pytest.mark.parametrize(
    "text", ["\u0000", "\ud83d\ude00 ```\ndef f(x): return x\u0000\n```", "``` ```", "def f(x): return '\udcff'"]
)
def test_odd_characters(home, serve, sandboxed, text):
    async def odd(server, body):
        return web.json_response(chat(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))

    home.add_mock(serve(odd).url)
    home.prompts(1)
    assert home("run", home.recipe(), "--json").json["answers"] == 1
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert states["ledger"] == "ok"


def test_no_more_calls_than_allowed(home, serve):
    server = serve(delay=0.05)
    collect(home, server, 30, in_flight=4)
    assert server.most_in_flight == 4


def test_one_slow_answer_holds_up_no_other(home, serve):
    async def straggler(server, body):
        await asyncio.sleep(3 if body["messages"][-1]["content"] == "add 0" else 0.02)
        return web.json_response(chat(code_answer(body)))

    server = serve(straggler)
    started = time.monotonic()
    collect(home, server, 60, in_flight=2)
    assert time.monotonic() - started < 8, "no batch waits for its slowest"


def test_a_server_that_takes_no_connection_costs_nothing(home):
    """Its backlog is full: nothing is ever sent, so nothing is charged, and the run says what is the matter."""
    import socket

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        holders = [socket.socket() for _ in range(4)]
        for holder in holders:
            holder.setblocking(False)
            holder.connect_ex(("127.0.0.1", port))
        home.add_mock(f"http://127.0.0.1:{port}/v1", "mock", "--price-in", "1", "--price-out", "1")
        home.prompts(1)
        ran = home("collect", home.recipe(budget="1", in_flight=1), "--json", code=1)
        for holder in holders:
            holder.close()
    assert ran.json["error"] == "TeacherUnreachable"


@pytest.mark.parametrize(
    "body", [b"[" * 20_000, b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": 7}]}']
)
def test_answers_that_break_readers_are_answers(home, serve, body):
    async def odd(server, asked):
        return web.Response(body=body, content_type="application/json")

    done = collect(home, serve(odd), 2).json
    assert (done["answers"], done["failed"]) == (2, 0)
    assert home("doctor", "--json").json


@pytest.mark.parametrize("size", [1, 256])
def test_a_packed_answer_is_opened_within_bounds(home, serve, size):
    """Nobody asked for it to be packed. What fits is an answer; what would fill the memory is a failure that says so."""

    async def packed(server, body):
        text = json.dumps(chat("x" * (size << 20)))
        return web.Response(
            body=gzip.compress(text.encode()), headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
        )

    home.add_mock(serve(packed).url)
    home.prompts(1)
    ran = home("collect", home.recipe(), "--json", code=None)
    if size == 1:
        assert ran.json["answers"] == 1
    else:
        assert "larger than 40 MiB" in ran.err


def test_a_kept_connection_that_the_server_has_closed_costs_no_call(home, serve):
    """It is found out only by using it: the call is made again over a new one, at once and at no cost."""
    served = set()

    async def once(server, body):
        if server.transport in served:
            server.transport.abort()
        served.add(server.transport)
        return web.json_response(chat(code_answer(body)))

    done = collect(home, serve(once), 6, in_flight=1).json
    assert (done["answers"], done["failed"], done["unsettled"]) == (6, 0, 0)
