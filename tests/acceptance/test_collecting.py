"""Collections whose course depends on their answers, and how they are watched."""

import asyncio
import json
import time

from aiohttp import web

from tests.server import chat, code_answer


def write(home, rows):
    return home.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_until_so_many_passed(home, serve, sandboxed):
    """Of this teacher every second answer passes: two a task take three or four questions, not eight."""
    server = serve()
    home.add_mock(server.url)
    home.prompts(10)
    recipe = home.recipe(samples=8, until_verified=2)
    done = home("run", recipe, "--json").json
    assert done["verified"] == 20
    assert done["answers"] == len(server.requests) == 40, "samples 0 to 3: wrong, right, wrong, right"
    again = home("run", recipe, "--json").json
    assert (again["reused"], len(server.requests)) == (40, 40)
    three = home("run", home.recipe(samples=8, until_verified=3), "--json").json
    assert (three["verified"], len(server.requests)) == (30, 60), "more is asked only where more is wanted"


def test_until_needs_code_to_be_run(home, serve):
    home.add_mock(serve().url)
    home.prompts(1)
    assert "needs answers to be run" in home("collect", home.recipe(until_verified=1), code=2).err


def recipe_with_rows(home, rows, **collect):
    path = home.recipe(**collect)
    return home.write("rows.toml", path.read_text() + f"rows = {rows}\n")


def test_exactly_so_many_rows(home, serve, sandboxed):
    """Wrong answers and duplicates are replaced, one by one, until there are as many rows as were wanted."""

    async def repeating(server, body):
        seed = body["seed"]
        text = f"```python\ndef f(x):\n    y = {seed // 3}\n    return x + {int(seed % 3 == 0)}\n```"
        return web.json_response(chat("```python\ndef f(x):\n    return x + 1\n```" if seed % 3 == 1 else text))

    server = serve(repeating)
    home.add_mock(server.url)
    home.prompts(6)
    recipe = recipe_with_rows(home, 15, samples=30)
    done = home("run", recipe, "--json").json
    assert done["rows"] == 15
    assert len(server.requests) < 60, "a third of all that could be asked"
    sent = len(server.requests)
    again = home("run", recipe, "--json").json
    assert (again["content_digest"], len(server.requests)) == (done["content_digest"], sent)
    fewer = home("run", recipe_with_rows(home, 7, samples=30), "--json").json
    assert (fewer["rows"], len(server.requests)) == (7, sent)
    assert home("dataset", "show", "example", "--json").json["funnel"][-1]["dropped"]["surplus"] > 0


def test_a_candidate_budget_ends_it(home, serve, sandboxed):
    async def wrong(server, body):
        return web.json_response(chat("```python\ndef f(x):\n    return None\n```"))

    server = serve(wrong)
    home.add_mock(server.url)
    home.prompts(6)
    done = home("run", recipe_with_rows(home, 5, samples=100, candidates=20), "--json").json
    assert (done["rows"], len(server.requests)) == (0, 20)


def test_a_cap_that_is_used_up_loses_no_answer(home, serve, sandboxed):
    """Run again with nothing left to spend, an adaptive recipe still makes its dataset of what it has."""
    home.add_mock(serve().url, "mock", "--price-in", "0", "--price-out", "1000")
    home.prompts(10)
    options = {"samples": 8, "until_verified": 2, "budget": "0.15", "max_tokens": 5}
    first = home("run", home.recipe(**options), "--json", code=5).json
    assert first["answers"] == 30
    again = home("run", home.recipe(**options), "--json", code=5).json
    assert (again["answers"], again["content_digest"]) == (30, first["content_digest"])


def test_rows_that_were_cut_short_are_filled_up_later(home, serve, sandboxed):
    async def repeating(server, body):
        return web.json_response(
            chat(f"```python\ndef f(x):\n    return x + 1 + {0 if body['seed'] % 2 else body['seed']} * 0\n```")
        )

    home.add_mock(serve(repeating).url, "mock", "--price-in", "0", "--price-out", "1000")
    home.prompts(6)
    short = home("run", recipe_with_rows(home, 20, samples=30, budget="0.11", max_tokens=5), "--json", code=5).json
    assert short["rows"] < 20
    full = home("run", recipe_with_rows(home, 20, samples=30, budget="9", max_tokens=5), "--json").json
    assert full["rows"] == 20


def test_conversations(home, serve):
    async def counting(server, body):
        return web.json_response(chat(f"answer {len(body['messages'])} to {body['messages'][-1]['content']}"))

    server = serve(counting)
    home.add_mock(server.url)
    rows = [
        {"id": f"t{n}", "messages": [{"role": "user", "content": f"q{n}"}], "turns": ["why?", "sure?"]}
        for n in range(5)
    ]
    write(home, rows)
    done = home("collect", home.recipe(samples=2), "--json").json
    assert (len(server.requests), done["dataset"]) == (30, "example@1")
    home("dataset", "export", "example", "rows.jsonl")
    exported = [json.loads(line) for line in (home.folder / "rows.jsonl").read_text().splitlines()]
    assert [m["content"] for m in exported[0]["messages"]] == [
        "q0", "answer 1 to q0", "why?", "answer 3 to why?", "sure?", "answer 5 to sure?",
    ]  # fmt: skip
    assert home("collect", home.recipe(samples=2), "--json").json["paid"] == 0
    write(home, [*rows, {"id": "new", "messages": [{"role": "user", "content": "q9"}], "turns": ["why?"]}])
    home("collect", home.recipe(samples=2))
    assert len(server.requests) == 34, "one more conversation of two turns, twice"


def test_parameters_pass_and_are_part_of_the_key(home, serve):
    async def logged(server, body):
        value = chat("x")
        value["choices"][0] |= {"logprobs": {"content": [{"token": "x", "logprob": -0.5, "top_logprobs": []}]}}
        value["choices"][0]["message"] |= {"tool_calls": [{"id": "c"}], "reasoning_content": "because"}
        return web.json_response(value)

    server = serve(logged)
    home.add_mock(server.url)
    home.prompts(2)
    recipe = home.recipe(parameters={"logprobs": True})
    recipe.write_text(
        recipe.read_text()
        .replace('parameters = {"logprobs": true}\n', "")
        .replace("[dataset]", "[collect.parameters]\nlogprobs = true\ntop_logprobs = 5\n[dataset]")
    )
    home("collect", recipe)
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 5)
    log = b"".join(path.read_bytes() for path in (home.home / "log").rglob("*.segment"))
    for raw in (b"logprob", b"tool_calls", b"reasoning_content"):
        assert raw in log, "kept as it came"
    recipe.write_text(recipe.read_text().replace("logprobs = true\n", "model = 'other'\n"))
    assert "may not hold model" in home("collect", recipe, code=2).err
    home("collect", home.recipe())
    assert len(server.requests) == 4, "without them it is another question"


def test_programs_can_watch(home, serve):
    async def slow(server, body):
        await asyncio.sleep(0.1)
        if body["messages"][-1]["content"] == "add 3":
            return web.json_response({"error": {"message": "odd"}}, status=400)
        return web.json_response(chat(code_answer(body), completion_tokens=7))

    home.add_mock(serve(slow).url, "mock", "--price-in", "0", "--price-out", "1000")
    home.prompts(60)
    ran = home("collect", home.recipe(in_flight=3, budget="9", max_tokens=10), "--json", "--progress", "json")
    states = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    last = [state for state in states if state["event"] == "update"][-1]
    assert last["asked"] == 60
    assert last["in_flight"] <= 3
    assert last["cap"] == "9"
    assert last["requests_a_second"] > 0
    assert last["tokens_a_second"] > 0
    assert last["errors"] == {"odd": 1}
    assert last["waiting"] + last["done"] + last["in_flight"] >= 55
    assert states[-1]["event"] == "finish"


def test_people_can_watch(home, serve):
    async def slow(server, body):
        await asyncio.sleep(0.25)
        return web.json_response(chat(code_answer(body)))

    home.add_mock(serve(slow).url)
    home.prompts(30)
    ran = home("collect", home.recipe(in_flight=1))
    assert "in flight" in ran.err
    assert "requests/s" in ran.err
    assert "to go" in ran.err


def test_a_storm_of_refusals_burns_no_tries(home, serve):
    """Every call is refused until three seconds have passed: more often than there are tries."""
    started = time.monotonic()

    async def busy(server, body):
        if time.monotonic() - started < 4:
            return web.json_response({"error": "busy"}, status=429, headers={"Retry-After": "0.1"})
        return web.json_response(chat(code_answer(body)))

    server = serve(busy)
    home.add_mock(server.url)
    home.prompts(20)
    done = home("collect", home.recipe(in_flight=20), "--json").json
    assert (done["answers"], done["failed"], done["unsettled"]) == (20, 0, 0)
    assert len(server.requests) < 150, "and it did not hammer"


def test_caps_of_the_home_hold_over_runs(home, serve):
    server = serve()
    home.add_mock(server.url, "mock", "--price-in", "0", "--price-out", "1000")
    (home.home / "config.toml").write_text('[budgets.projects]\nx = "0.1"\n[budgets.teachers]\nmock = "0.15"\n')
    home.prompts(15)
    first = home("collect", home.recipe(budget="9", max_tokens=5, project="x"), "--json").json
    assert first["spent"] == "0.075000"
    ran = home("collect", home.recipe(budget="9", max_tokens=5, seed=1, project="x"), "--json", code=5)
    assert "project:x" in ran.err
    assert ran.json["answers"] == 5
    other = home("collect", home.recipe(budget="9", max_tokens=5, seed=2), "--json", code=5)
    assert "teacher:mock" in other.err
    assert other.json["answers"] == 10


def test_prices_come_from_a_dated_file(home, serve):
    server = serve()
    words = [
        "teacher",
        "add",
        "g",
        "--kind",
        "openai",
        "--model",
        "gpt-4o-mini",
        "--lab",
        "openai",
        "--channel",
        "official",
    ]
    words += ["--terms", "ChatGPT/Commercial Terms", "--base-url", server.url]
    ran = home(*words, "--json")
    assert (ran.json["price_in"], ran.json["price_out"], ran.json["batch_share"]) == ("0.15", "0.60", "0.5")
    assert "openai/gpt-4o-mini@2024-07-18" in ran.json["prices_of"]
    assert "secondary" in ran.err, "and how well it is known"
    own = '[[price]]\nlab = "openai"\nmodel = "gpt-4o-mini"\nsince = "2026-01-01"\nprice_in = "1"\nprice_out = "2"\n'
    (home.home / "prices.toml").write_text(own + 'source = "contract"\n')
    words[2] = "h"
    assert home(*words, "--json").json["price_out"] == "2"
