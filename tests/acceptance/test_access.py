"""The story of a revocation, as a user types it: official access, a model, a letter, attempts, quarantine, a clean retrain."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from tests.acceptance.test_student import EVAL, RIGHT, add_local
from tests.gateways import calls, connect, head, post

TRAIN = '[train]\nstudent = "tiny"\nlearning_rate = 0.01\nepochs = 1\n'
REVOKED = "2026-01-15"


def rows(home, name, first, count, model="rival-1"):
    """Somebody's answers, as they lie in files."""
    found = [
        {
            "model": model,
            "messages": [
                {"role": "user", "content": f"write f number {n}"},
                {"role": "assistant", "content": f"{RIGHT} # {n}"},
            ],
        }
        for n in range(first, first + count)
    ]
    return home.write(name, "".join(json.dumps(row) + "\n" for row in found))


def import_rival(home, file, name, day, *more, channel="official", use="train", code=0):
    words = ["dataset", "import", file, "--name", name, "--lab", "rival", "--channel", channel, "--day", day]
    return home(*words, "--terms", "licence/mit", "--use", use, "--json", *more, code=code)


def mixed_recipe(home, name, mix, teacher="recorded", prompts=None):
    path = home.recipe(teacher, name=f"{name}.toml", dataset=name)
    text = path.read_text().replace(f'name = "{name}"', f'name = "{name}"\nmix = {json.dumps(mix)}')
    path.write_text(text + TRAIN)
    return path


@pytest.fixture
def story(home, tiny_model, sandboxed):
    """A home with an open teacher of its own, answers of a rival from before and after it took access away, a student."""
    pytest.importorskip("peft")
    home.prompts(6)
    recorded = [{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(6)]
    home.add_replay(home.recording(recorded))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "january.jsonl", 100, 5), "january", "2026-01-05")
    import_rival(home, rows(home, "february.jsonl", 200, 4), "february", "2026-02-01")
    return home


def revoke(home, *more, code=0):
    words = [
        "access",
        "revoke",
        "rival",
        "--even-if-nothing",
        "--since",
        REVOKED,
        "--reason",
        "their letter of 15 January",
        "--json",
    ]
    return home(*words, *more, code=code)


def test_the_story_of_a_revocation(story, serve):
    home = story
    before = home("run", mixed_recipe(home, "before", ["january"]), "--json").json
    mixed = home("run", mixed_recipe(home, "mixed", ["january", "february"]), "--json").json
    assert (before["model"], mixed["model"]) == ("before@1", "mixed@1")
    # A student of the mixed model: it never saw the rival, and learned from what did.
    taught = home.recipe(
        "mixed@1", name="taught.toml", dataset="taught", max_tokens=8, temperature=0.5, keep=("truncated", "empty")
    )
    taught.write_text(taught.read_text() + "verified = false\n" + TRAIN)
    assert home("run", taught, "--json").json["model"] == "taught@1"
    home("dataset", "export", "mixed", "out.jsonl")
    home("passport", "write", "mixed")

    plan = revoke(home, "--plan").json
    assert plan["records"] == 4 + 6, "the rival's four, and the six answers of the model that learned from them"
    assert {share["dataset"]: share["rows"] for share in plan["datasets"]} == {
        "february@1": 4,
        "mixed@1": 4,
        "taught@1": 6,
    }
    assert {model["model"] for model in plan["models"]} == {"mixed@1", "taught@1"}
    by_name = {model["model"]: model for model in plan["models"]}
    assert by_name["mixed@1"]["first_step"] >= 1
    assert by_name["mixed@1"]["children"] == ["taught@1"]
    assert any("out.jsonl" in export for export in plan["exports"])
    assert any("mixed@1" in passport for passport in plan["passports"])
    assert plan["irreplaceable"] == 5 + 4 + 6, "what came before cannot be had again, either"
    assert plan["usable"]["train"] == 0
    assert plan["usable"]["store"] == 10
    retrain = {one["model"]: one for one in plan["retrain"]}
    assert retrain["mixed@1"]["rows_left"] == 6 + 5
    assert home("access", "list", "--json").json["changes"] == [], "a plan does nothing"

    done = revoke(home)
    assert done.json["done"]
    assert "ADVISORY" in done.err
    assert home("access", "gate", "before", "--json").json["allowed"], "a model trained before stays"
    closed = home("access", "gate", "mixed", "taught", "--json", "--job", "slurm 7", code=3).json
    assert not closed["allowed"]
    assert all("revoked access" in reason for reason in closed["reasons"])
    assert closed["receipt"]["signature"]

    # Attempts: the official way, a personal key, an intermediary under another name.
    server = serve()
    for name, channel, lab, model in (
        ("official", "official", "rival", "rival-2"),
        ("mine", "personal", "rival", "rival-2"),
        ("reseller", "intermediary", "rival", "rival-2"),
    ):
        words = ["teacher", "add", name, "--kind", "openai", "--model", model, "--lab", lab, "--channel", channel]
        home(*words, "--terms", "licence/mit", "--base-url", server.url, "--unmetered")
        refused = home("collect", home.recipe(name, name=f"{name}.toml", dataset=name), code=3)
        assert "revoked access" in refused.err
        evaluate = home.recipe(name, name=f"{name}.toml", dataset=name, purpose="store")
        assert home("collect", evaluate, code=3), "not even to store"
    assert server.answered.total() == 0

    # Answers that came by such ways arrive all the same: they are kept, and kept apart.
    late = import_rival(home, rows(home, "march.jsonl", 300, 3), "march", "2026-03-01", channel="intermediary").json
    assert (late["read"], late["rows"]) == (3, 0)
    funnel = home("dataset", "show", "march", "--json").json["funnel"]
    assert funnel[-1]["dropped"] == {"quarantined": 3}
    held = home("access", "list", "--json").json["quarantine"]
    assert held["records"] == 4 + 6 + 3
    assert any("revoked access" in reason for reason in held["reasons"])

    # The clean retrain: the same recipe without those rows; nobody is asked; the old model stays what it was.
    again = home("access", "retrain", "mixed", "--json").json
    assert (again["model"], again["instead_of"], again["rows"]) == ("mixed@2", "mixed@1", 11)
    assert home("access", "gate", "mixed@2", "--json").json["allowed"]
    shown = home("model", "show", "mixed@2", "--json").json
    days = {stamp["day"] for stamp in shown["origins"] if stamp["lab"] == "rival"}
    assert days == {"2026-01-05"}
    assert home("model", "show", "mixed@1", "--json").json["weights_digest"] == mixed_digest(home)
    assert "No row" in home("access", "retrain", "taught", code=1).err
    assert home("doctor", "--json").code == 0


def mixed_digest(home):
    models = {model["name"] + "@" + str(model["version"]): model for model in home("model", "list", "--json").json}
    return models["mixed@1"]["weights_digest"]


def test_partial_exempt_reversed_and_granted_again(story):
    home = story

    def allowed(use):
        return home("policy", "check", "february", "--use", use, "--json", code=None).json["allowed"]

    first = revoke(home, "--exempt", "evaluate").json["change"]["id"]
    assert (allowed("train"), allowed("evaluate"), allowed("store")) == (0, 4, 4)
    words = ["access", "grant", "rival", "--json"]
    home(*words, "--since", "2026-01-20", "--until", "2026-02-10")
    assert allowed("train") == 4, "granted again: of all changes that are about it, the last one counts"
    home("access", "revoke", "rival", "--even-if-nothing", "--channel", "cloud", "--json")
    assert allowed("train") == 4, "another channel"
    again = home("access", "revoke", "rival", "--even-if-nothing", "--json").json["change"]["id"]
    assert allowed("train") == 0
    home("access", "revoke", "rival", "--even-if-nothing", "--reverses", again, "--reason", "by mistake")
    assert allowed("train") == 4
    assert "reversed already" in home("access", "revoke", "rival", "--even-if-nothing", "--reverses", again, code=2).err
    assert (
        "no grant or revocation"
        in home("access", "revoke", "rival", "--even-if-nothing", "--reverses", "0000", code=2).err
    )
    assert {one["id"]: one["in_force"] for one in home("access", "list", "--json").json["changes"]}[first]


def test_an_agreement_stands_in_for_public_terms_while_it_is_in_force(story):
    home = story
    words = [
        "dataset",
        "import",
        rows(home, "x.jsonl", 400, 2),
        "--name",
        "xai",
        "--lab",
        "xai",
        "--channel",
        "official",
    ]
    home(*words, "--terms", "Grok/Commercial Terms", "--day", "2026-05-20", "--use", "store")
    assert home("policy", "check", "xai", "--use", "train", "--json", code=3).json["denied"] == 2
    contract = home.write("contract.txt", "order form 12: outputs may train")
    words = [
        "access",
        "grant",
        "xai",
        "--verdict",
        "allow",
        "--authority",
        "order form 12",
        "--duty",
        "name the supplier",
    ]
    assert "document" in home(*words, "--since", "2026-01-01", code=2).err
    home(*words, "--since", "2026-05-01", "--until", "2026-05-31", "--document", contract)
    found = home("policy", "check", "xai", "--use", "train", "--json").json
    assert (found["allowed"], found["duties"]) == (2, ["name the supplier"])
    assert "order form 12" in found["reasons"][0]
    words = [
        "dataset",
        "import",
        rows(home, "y.jsonl", 500, 1),
        "--name",
        "june",
        "--lab",
        "xai",
        "--channel",
        "official",
    ]
    home(*words, "--terms", "Grok/Commercial Terms", "--day", "2026-06-01", "--use", "store")
    home("policy", "check", "june", "--use", "train", code=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "15.01.2026"], "not a date"),
        (["--since", "2026-01-15T10:00:00"], "no time zone"),
        (["--use", "train", "--exempt", "train"], "both concerned and exempt"),
        (["--document", "nowhere.pdf"], "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(home, words, said):
    assert said in home("access", "revoke", "rival", "--even-if-nothing", *words, code=2).err


def test_a_time_with_a_zone_counts_in_utc(home):
    change = home(
        "access", "revoke", "rival", "--even-if-nothing", "--since", "2026-01-15T00:30:00+02:00", "--json"
    ).json["change"]
    assert change["since"] == "2026-01-14"


def test_a_revocation_stops_a_collection_that_is_under_way(home, serve):
    home.prompts(400)
    slow = serve(delay=0.05)
    home.add_mock(slow.url)
    running = home.start("collect", home.recipe(in_flight=2))
    while slow.answered.total() < 5:
        time.sleep(0.02)
    home("access", "revoke", "testlab", "--even-if-nothing")
    _, err = running.communicate(timeout=120)
    assert running.returncode == 3, err
    assert b"revoked access" in err
    assert slow.answered.total() < 400
    counts = home("status", "--json").json["counts"]
    assert counts["answers"] == slow.answered.total(), "what was on its way is kept"
    assert home("access", "list", "--json").json["quarantine"]["records"] == counts["answers"]


def test_a_revocation_stops_the_gateway_even_within_a_stream(home, start):
    go_on = threading.Event()

    async def answer(server, body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(server.request)
        for number in range(20):
            piece = {"choices": [{"index": 0, "delta": {"content": f"piece-{number} "}, "finish_reason": None}]}
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
            while not go_on.is_set():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.01)
        await response.write(b"data: [DONE]\n\n")
        return response

    _, running, key = start(answer)
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    with connect(running) as client:
        client.sendall(head(key, len(body)) + body)
        got = b""
        while b"piece-0" not in got:
            got += client.recv(4096)
        home("access", "revoke", "testlab", "--even-if-nothing")
        go_on.set()
        while more := client.recv(4096):
            got += more
    assert b"piece-19" not in got and b"[DONE]" not in got
    status, _, text = post(running, key)
    assert status == 403
    assert b"revoked access" in text
    assert calls(running)["cut by the gateway"] == 1


def test_days_count_in_utc_and_what_is_no_day_is_refused(home):
    row = {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    file = home.write("x.jsonl", json.dumps(row) + "\n")
    words = [
        "dataset",
        "import",
        file,
        "--name",
        "x",
        "--lab",
        "Rival",
        "--channel",
        "official",
        "--terms",
        "licence/mit",
    ]
    assert "not a date" in home(*words, "--day", "2026", code=2).err
    home(*words, "--day", "2026-01-14T23:30:00-08:00")
    refused = home("access", "revoke", "nobody-of-that-name", code=2)
    assert "match nothing" in refused.err and "--even-if-nothing" in refused.err
    noted = home("access", "revoke", "nobody-of-that-name", "--even-if-nothing")
    assert "no record and no teacher here is of a lab" in noted.err
    revoke(home)
    assert home("policy", "check", "x", "--use", "train", "--json", code=3).json["denied"] == 1, (
        "15 January in UTC, however spelt"
    )


def test_what_arrives_after_a_revocation_stands_in_no_dataset(story):
    home = story
    revoke(home)
    late = import_rival(home, rows(home, "april.jsonl", 400, 2), "april", "2026-04-01", use="store").json
    assert (late["read"], late["rows"]) == (2, 0)


def test_a_retrain_asks_nobody_even_where_calls_had_failed(home, serve, tiny_model, sandboxed):
    """Of three prompts one was refused; then access was revoked from tomorrow on: what came stays good, and nothing is asked."""
    pytest.importorskip("peft")

    async def answer(server, body):
        if "add 2" in str(body):
            return web.json_response({"error": {"message": "no"}}, status=400)
        return web.json_response(
            {"choices": [{"message": {"content": f"{RIGHT} # {body['messages'][-1]['content']}"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        )  # fmt: skip

    server = serve(answer)
    home.prompts(3)
    home.add_mock(server.url)
    add_local(home, tiny_model)
    import_rival(home, rows(home, "february.jsonl", 200, 2), "february", "2026-02-01")
    assert home("run", mixed_recipe(home, "mixed", ["february"], "mock"), "--json").json["model"] == "mixed@1"
    asked = len(server.requests)
    revoke(home)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    home(
        "access",
        "revoke",
        "testlab",
        "--even-if-nothing",
        "--model",
        "m",
        "--channel",
        "open-weights",
        "--since",
        tomorrow,
    )
    done = home("access", "retrain", "mixed", "--json").json
    assert (done["model"], done["left_out"]) == ("mixed@2", 2)
    assert home("run", "--replay", "mixed@2", "--json").json["data_equal"]
    assert len(server.requests) == asked


def test_a_reversal_that_is_reversed_brings_back_what_it_undid(story):
    home = story
    first = revoke(home).json["change"]["id"]
    undo = home("access", "grant", "rival", "--reverses", first, "--json").json["change"]["id"]
    assert home("policy", "check", "february", "--use", "train", "--json").json["allowed"] == 4
    plan = home("access", "revoke", "rival", "--even-if-nothing", "--reverses", undo, "--plan", "--json").json
    assert plan["records"] == 4, "the first one returns"
    home("access", "revoke", "rival", "--even-if-nothing", "--reverses", undo)
    assert home("policy", "check", "february", "--use", "train", "--json", code=3).json["denied"] == 4
    states = {one["id"]: one["in_force"] for one in home("access", "list", "--json").json["changes"]}
    assert (states[first], states[undo]) == (True, False)
    again = home("access", "grant", "rival", "--reverses", first, "--plan", "--json").json
    assert again["usable"]["train"] == 4


@pytest.mark.parametrize("model", ["m", " M ", "openrouter/m"])
@pytest.mark.parametrize("url", ["https://proxy.example/v1", "https://PROXY.example./v1", "https://ｐroxy.example/v1"])
def test_what_was_revoked_goes_on_under_no_other_name(home, model, url):
    words = ["--kind", "openai", "--channel", "open-weights", "--terms", "licence/mit", "--unmetered"]
    home("teacher", "add", "one", *words, "--model", "m", "--lab", "rival", "--base-url", "https://proxy.example/v1")
    home("teacher", "add", "two", *words, "--model", model, "--lab", "somebody", "--base-url", url)
    home("access", "revoke", "rival")
    given = ["--model", model, "--base-url", url]
    refused = home("teacher", "add", "three", *words, *given, "--lab", "somebody-else", code=3)
    assert "revoked" in refused.err
    for name in ("one", "two"):
        decisions = {one["use"]: one["allowed"] for one in home("policy", "explain", name, "--json").json}
        assert not decisions["train"], "what was registered before is of either lab"
    home("teacher", "add", "four", *words, "--model", "another", "--lab", "somebody-else", "--base-url", url)


def test_what_a_retrain_cost_in_capability_is_measured(home, tiny_model, sandboxed):
    """Against the old model's own answers to its evaluation: it may be asked nothing more. The new one gets its passport."""
    pytest.importorskip("peft")
    home.prompts(4)
    home.add_replay(home.recording([{"task": f"t{n}", "text": f"{RIGHT} # {n}"} for n in range(4)]))
    add_local(home, tiny_model)
    import_rival(home, rows(home, "january.jsonl", 100, 3), "january", "2026-01-05")
    import_rival(home, rows(home, "february.jsonl", 200, 3), "february", "2026-02-01")
    path = mixed_recipe(home, "mixed", ["january", "february"])
    path.write_text(path.read_text() + EVAL)
    home("run", path)
    revoke(home)
    found = home("access", "retrain", "mixed", "--json").json
    [measured] = found["capability"]
    assert (measured["suite"], measured["tasks"], measured["samples"]) == ("prompts.jsonl", 4, 2)
    assert measured["difference"]["low"] <= measured["clean"] - measured["old"] <= measured["difference"]["high"]
    assert home("passport", "verify", found["passport"], "--json").json["result"] == "trusted"
    refused = home("model", "eval", "mixed@1", "--suite", "stillhouse", "--limit", "1", code=3).err
    assert "revoked access" in refused
