"""Promise 2. Metered spend never passes the cap, under any concurrency and any number of restarts: unsettled calls stay
charged at their worst case. An item without a price is refused.

Not covered: a provider that bills more than its own counts; processes whose homes do not share a folder.
"""

import asyncio
import json
import subprocess
import time
from decimal import Decimal

import pytest
from aiohttp import web

from tests.server import chat, code_answer

PRICES = ("--price-in", "0", "--price-out", "1000")  # a tenth of a cent per token: easy to add up


def worst_case(tokens: int) -> Decimal:
    return Decimal(tokens) * Decimal("0.001")


@pytest.mark.parametrize("in_flight", [1, 16])
def test_the_cap_holds_and_what_was_collected_is_a_dataset(home, serve, in_flight):
    async def dear(server, body):
        await asyncio.sleep(0.01)
        return web.json_response(chat(code_answer(body), completion_tokens=body["max_tokens"]))

    server = serve(dear)
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(30)
    recipe = home.recipe(budget="0.105", max_tokens=10, in_flight=in_flight)
    ran = home("collect", recipe, "--json", code=5)
    assert Decimal(ran.json["spent"]) <= Decimal("0.105")
    assert sum(server.answered.values()) == 10, "ten calls of one cent fit, the eleventh does not"
    assert (ran.json["answers"], ran.json["dataset"]) == (10, "example@1")
    assert "budget" in ran.err
    assert home("collect", recipe, "--json", code=5).json["paid"] == 0, "starting again does not start the budget again"
    more = home("collect", home.recipe(budget="0.205", max_tokens=10), "--json", code=5).json
    assert (more["paid"], Decimal(more["spent"])) == (10, Decimal("0.2"))
    assert home("collect", home.recipe(budget="9", max_tokens=10), "--json").json["answers"] == 30
    assert max(server.answered.values()) == 1


def test_what_is_cheaper_than_its_worst_case_frees_the_rest(home, serve):
    home.add_mock(serve().url, "mock", *PRICES)
    home.prompts(12)
    done = home("collect", home.recipe(budget="0.105", max_tokens=20, in_flight=2), "--json").json
    assert (done["answers"], Decimal(done["spent"])) == (12, Decimal("0.060"))


def test_killed_calls_stay_charged(home, serve):
    """However often it is killed, what the server answered never costs more than the cap."""

    async def dear(server, body):
        await asyncio.sleep(0.15)
        return web.json_response(chat(code_answer(body), completion_tokens=10))

    server = serve(dear)
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(60)
    recipe = home.recipe(budget="0.30", max_tokens=10, in_flight=5)
    for _ in range(6):
        sent = len(server.requests)
        process = home.start("collect", recipe, "--json")
        while process.poll() is None and len(server.requests) < sent + 8:
            time.sleep(0.01)
        process.kill()
        process.communicate()
    last = home("collect", recipe, "--json", code=None)
    assert last.code == 5
    assert worst_case(10) * len(server.requests) <= Decimal("0.30"), (
        "every request that was ever sent fits under the cap"
    )
    assert last.json["unsettled"] > 0


def test_a_refusal_is_free_and_a_broken_connection_is_not(home, serve):
    async def picky(server, body):
        number = int(body["messages"][-1]["content"].split()[-1])
        if number == 0:
            return web.json_response({"error": {"message": "bad prompt"}}, status=400)
        if number == 1:
            server.transport.close()
        return web.json_response(chat(code_answer(body), completion_tokens=1))

    home.add_mock(serve(picky).url, "mock", *PRICES)
    home.prompts(3)
    done = home("collect", home.recipe(budget="1", max_tokens=10, in_flight=1), "--json").json
    assert (done["answers"], done["failed"], done["unsettled"]) == (1, 2, 1)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_error_that_may_have_been_billed_is_charged_each_time(home, serve, status):
    async def failing(server, body):
        return web.json_response({"error": "late"}, status=status, headers={"Retry-After": "0.05"})

    server = serve(failing)
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(5)
    ran = home("collect", home.recipe(budget="0.035", max_tokens=10, in_flight=2), "--json", code=5)
    assert len(server.requests) == 3, "three calls of one cent fit, whether they are tries or new questions"
    assert ran.json["unsettled"] == 3


def test_the_same_question_twice_is_reserved_and_paid_once(home, serve):
    server = serve()
    home.add_mock(server.url, "mock", *PRICES)
    rows = [{"id": name, "messages": [{"role": "user", "content": "add 0"}]} for name in ("a", "b", "c")]
    home.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    done = home("collect", home.recipe(budget="0.01", max_tokens=10), "--json").json
    assert (len(server.requests), done["answers"], Decimal(done["spent"])) == (1, 1, Decimal("0.005"))


def test_a_wrong_key_holds_no_money(home, serve):
    async def wrong(server, body):
        await asyncio.sleep(0.05)
        return web.json_response({"error": {"message": "wrong key"}}, status=401)

    server = serve(wrong)
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(20)
    recipe = home.recipe(budget="0.087", max_tokens=10, in_flight=8)
    assert home("collect", recipe, "--json", code=1).json["error"] == "TeacherRejected"

    async def right(server, body):
        return web.json_response(chat(code_answer(body), completion_tokens=4))

    server.answer = right
    assert home("collect", recipe, "--json").json["answers"] == 20


def test_what_has_no_price_is_refused(home):
    words = [
        "teacher",
        "add",
        "t",
        "--kind",
        "openai",
        "--model",
        "m",
        "--lab",
        "l",
        "--channel",
        "official",
        "--terms",
    ]
    ran = home(*words, "licence/mit", "--base-url", "http://127.0.0.1:9", code=2)
    assert "no price" in ran.err
    assert "--unmetered" in ran.err
    assert "no price" in home(*words, "licence/mit", "--price-in", "1", code=2).err
    assert "not 'dear'" in home(*words, "licence/mit", "--price-in", "dear", "--price-out", "1", code=2).err


def test_a_metered_teacher_needs_a_budget(home, serve):
    server = serve()
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(1)
    ran = home("run", home.recipe(), code=2)
    assert "sets no budget" in ran.err
    assert server.requests == []


def test_the_plan_shows_the_worst_case_and_sends_nothing(home, serve):
    server = serve()
    home.add_mock(server.url, "mock", *PRICES)
    home.prompts(4)
    plan = home("collect", home.recipe(budget="1", max_tokens=10, samples=2), "--plan", "--json").json
    assert (plan["does"]["answers_to_ask_for"], Decimal(plan["worst_case_usd"])) == (8, Decimal("0.08"))
    assert server.requests == []
    assert json.loads(home("plan", "list", "--json").out) == []


def test_one_cap_over_several_processes_and_kills(home, serve):
    """Four collections at once under one project's cap, killed and started again: every request that was ever sent fits."""
    billed = []

    async def dear(server, body):
        tokens = 1 + hash(body["messages"][-1]["content"]) % body["max_tokens"]
        billed.append(worst_case(tokens))
        await asyncio.sleep(0.05)
        return web.json_response(chat(code_answer(body), completion_tokens=tokens))

    home.add_mock(serve(dear).url, "mock", *PRICES)
    (home.home / "config.toml").write_text('[budgets.projects]\nshared = "1.5"\n')
    home.prompts(120)
    recipes = [
        home.recipe(
            name=f"r{n}.toml", dataset=f"d{n}", budget="9", max_tokens=10, project="shared", seed=n, in_flight=16
        )
        for n in range(4)
    ]
    running = [home.start("collect", recipe) for recipe in recipes]
    for number in range(4):
        try:
            running[number].communicate(timeout=0.9)
        except subprocess.TimeoutExpired:
            running[number].kill()
            running[number].communicate()
            running[number] = home.start("collect", recipes[number])
        assert sum(billed) <= Decimal("1.5")
    for process in running:
        process.communicate(timeout=100)
    assert sum(billed) <= Decimal("1.5")
    assert sum(billed) > Decimal("0.5"), "and the cap was worth having"
    codes = [home("collect", recipe, "--json", code=None).code for recipe in recipes]
    assert 5 in codes, "not all of them fit under the cap"
    assert set(codes) <= {0, 5}
    assert sum(billed) <= Decimal("1.5")
