"""``model eval``: pass rates with intervals, alone and against another, on answers that are no training data."""

from aiohttp import web

from tests.server import chat


async def good(server, body):
    return web.json_response(chat("```python\ndef f(x): return x + 1\n```"))


async def fair(server, body):
    right = body["seed"] % 2 == 0
    return web.json_response(chat(f"```python\ndef f(x): return x + {int(right)}\n```"))


def test_two_models_on_the_same_tasks(home, serve, sandboxed):
    home.add_mock(serve(good).url, "good")
    home.add_mock(serve(fair).url, "fair")
    home.prompts(20)
    words = ["model", "eval", "good", "--against", "fair", "--suite", "prompts.jsonl", "--split", "", "--samples", "6"]
    found = home(*words, "--json").json
    assert (found["tasks"], found["answers"]) == (20, 240)
    assert found["arms"]["good"]["pass@1"]["mean"] == 1.0
    assert found["arms"]["fair"]["pass@1"]["mean"] == 0.5
    assert found["arms"]["fair"]["pass@5"]["mean"] == 1.0
    assert found["differences"]["good - fair"]["pass@1"]["mean"] == 0.5
    assert "50.0 %" in home(*words).out
    counts = home("status", "--json").json["counts"]
    assert (counts["answers"], counts["datasets"]) == (240, 0), "asked once, and no dataset is made of it"


def test_what_was_collected_to_evaluate_is_stamped_so(home, serve, sandboxed):
    words = ["teacher", "add", "mock", "--kind", "openai", "--model", "m", "--lab", "xai", "--channel", "official"]
    home(*words, "--terms", "Grok/Commercial Terms", "--base-url", serve(good).url, "--unmetered")
    home.prompts(2)
    home("run", home.recipe(), code=3)
    words = ["model", "eval", "mock", "--suite", "prompts.jsonl", "--split", "", "--samples", "1"]
    assert home(*words, "--json").json["arms"]["mock"]["pass@1"]["mean"] == 1


def test_bad_requests(home, serve):
    home.add_mock(serve(good).url)
    home.prompts(1)
    assert "No teacher" in home("model", "eval", "nobody", code=2).err
    assert "no task in the split" in home("model", "eval", "mock", "--suite", "prompts.jsonl", code=2).err
    assert home("model", "eval", "mock", "--samples", "0", code=2).err
