"""Promise 1. No answer that was received is lost or bought again, whatever the moment of a process kill; calls in flight at
a kill are named and counted.

Not covered: power loss within the last 50 ms, unless the durability is ``power``; a provider that charges for a call it
never answered.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from aiohttp import web

from tests.conftest import TASK
from tests.server import chat, code_answer


def test_finished_work_is_not_bought_again(home, serve):
    server = serve()
    home.add_mock(server.url)
    home.prompts(5)
    recipe = home.recipe(samples=3)
    first = home("collect", recipe, "--json").json
    assert (first["asked"], first["paid"], first["reused"]) == (15, 15, 0)
    again = home("collect", recipe, "--json").json
    assert (again["paid"], again["reused"], again["content_digest"]) == (0, 15, first["content_digest"])
    home.prompts(6)
    assert home("collect", recipe, "--json").json["paid"] == 3, "one more row buys its own answers and no other"
    home.recipe(samples=4)
    assert home("collect", recipe, "--json").json["paid"] == 6, "one more sample buys its own answers and no other"
    assert home("collect", home.recipe(samples=4, dataset="other"), "--json").json["paid"] == 0
    assert max(server.answered.values()) == 1


def test_another_server_is_another_teacher(home, serve):
    home.prompts(2)
    home.add_mock(serve().url, "one")
    home.add_mock(serve().url, "two")
    assert [home("collect", home.recipe(name), "--json").json["paid"] for name in ("one", "two")] == [2, 2]


def test_another_parameter_is_another_answer(home, serve):
    home.add_mock(serve().url)
    home.prompts(2)
    assert home("collect", home.recipe(), "--json").json["paid"] == 2
    assert home("collect", home.recipe(temperature=0.1), "--json").json["paid"] == 2
    assert home("collect", home.recipe(max_tokens=99), "--json").json["paid"] == 2


def test_truncated_filtered_and_malformed_answers_are_data(home, serve):
    async def odd(server, body):
        number = int(body["messages"][-1]["content"].split()[-1])
        if number == 0:
            return web.json_response({"choices": [{"message": {"content": "half"}, "finish_reason": "length"}]})
        if number == 1:
            return web.json_response({"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]})
        return web.Response(text='{"choices": [{"mess', content_type="application/json")

    server = serve(odd)
    home.add_mock(server.url)
    home.prompts(3)
    done = home("collect", home.recipe(), "--json").json
    assert (done["answers"], done["failed"]) == (3, 0)
    assert home("collect", home.recipe(), "--json").json["paid"] == 0, "they were paid for, and are kept"
    log = b"".join(file.read_bytes() for file in home.home.rglob("*.segment"))
    assert rb"\"mess" in log, "the raw answer is in the log, though it could not be read"


def test_kills_at_random_moments(home, serve):
    """kill -9, again and again; what the server answered outside the moments of the kills is never asked for twice."""
    server = serve(delay=0.15)
    home.add_mock(server.url)
    home.prompts(40)
    recipe = home.recipe(samples=5, in_flight=6)
    luck = random.Random(5)
    kills = 0
    for _ in range(30):
        process = home.start("collect", recipe, "--json")
        try:
            out, err = process.communicate(timeout=1.2 + luck.random() + kills / 4)  # a busy machine starts slowly
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, err
        break
    done = json.loads(out)
    bought = sum(server.answered.values())
    assert kills >= 2, "the test must kill to mean anything"
    assert (done["asked"], done["answers"]) == (200, 200)
    assert len(server.answered) == 200
    assert bought - 200 <= 6 * kills, "only calls in flight at a kill may be bought twice"
    assert bought - 200 <= done["unsettled"] <= 6 * kills, "and those are counted"
    doctor = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert (doctor["log"], doctor["ledger"]) == ("note", "ok")
    calm = home("collect", home.recipe(samples=5, dataset="again"), "--json").json
    assert (calm["paid"], calm["content_digest"]) == (0, done["content_digest"])


def test_the_same_question_under_two_names_is_bought_once(home, serve, sandboxed):
    server = serve()
    home.add_mock(server.url)
    question = [{"role": "user", "content": "add 0"}]
    rows = [{"id": name, "messages": question, **TASK} for name in ("a", "b")]
    rows[1]["tests"] = [{"arguments": [1], "returns": 1}]
    home.write("prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    done = home("run", home.recipe(samples=2), "--json").json
    assert sum(server.answered.values()) == 2
    assert done["verified"] == 2, "each task judges the shared answers by its own tests"
    home.write("prompts.jsonl", json.dumps({**rows[0], "id": "renamed"}))
    renamed = home("run", home.recipe(samples=2), "--json").json
    assert (renamed["reused"], renamed["verified"], sum(server.answered.values())) == (2, 1, 2)


def test_what_arrived_before_an_interrupt_is_kept(home, serve):
    """Answers are written down by the thread that receives them, not when the main thread comes to it."""
    server = serve(delay=0.01)
    home.add_mock(server.url)
    home.prompts(400)
    process = home.start("collect", home.recipe(in_flight=64), "--json")
    deadline = time.monotonic() + 20
    while server.answered.total() < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    answered = server.answered.total()
    kept = home("status", "--json").json["counts"]["answers"]
    assert 0 <= answered - kept <= 64, "at most what was on the wire at that moment"
    home("collect", home.recipe(in_flight=64))
    assert server.answered.total() - 400 == answered - kept


CRASH = """
import os, signal, sys
from pathlib import Path
from stillhouse.home import facts
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.permission.decide import Policy
from stillhouse.home.recorder import Recorder
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects

root, point, where = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = 0

def reached(name):
    global seen
    seen += name == point
    if seen == where:
        os.kill(os.getpid(), signal.SIGKILL)

log = Log(root / "log", Objects(LocalBackend(root / "objects")), segment_bytes=1500)
recorder = Recorder(log, Ledger(f"sqlite:///{root / 'ledger.db'}"), by="me", signatory=lambda: None, reached=reached)
for number in range(12):
    recorder.record(facts.RefusalMade(at="t", by="me", subject=f"s{number}", reason="r" * 200))
    print(number, flush=True)
    recorder.refresh()
"""


@pytest.mark.parametrize("point", ["decided", "appended", "viewed"])
@pytest.mark.parametrize("where", [1, 5, 9])
def test_kills_at_every_point_of_the_recorder(tmp_path, point, where):
    from stillhouse.home.ledger.ledger import Ledger
    from stillhouse.vault.local import LocalBackend
    from stillhouse.vault.log import Log
    from stillhouse.vault.objects import Objects

    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), point, str(where)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = len(done.stdout.split())
    log = Log(tmp_path / "log", Objects(LocalBackend(tmp_path / "objects")), segment_bytes=1500)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.catch_up(log)
    expected = {"decided": where - 1, "appended": where, "viewed": where}[point]
    assert ledger.counts()["refusals"] == expected
    assert acknowledged in (expected, expected - 1), "nothing that was acknowledged is missing"
    assert ledger.differences(log) == []
    ledger.close()


def test_an_interrupt_is_put_down_in_order(home, serve):
    async def slow(server, body):
        import asyncio

        await asyncio.sleep(0.05 if server.answered.total() < 10 else 30)
        return web.json_response(chat(code_answer(body)))

    server = serve(slow)
    home.add_mock(server.url)
    home.prompts(30)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Calls that the run before left behind still hang in the server: only calls of this run count.
        waited_for = len(server.requests) + (10 - server.answered.total()) + 8
        process = home.start("collect", home.recipe(), "--json")
        deadline = time.monotonic() + 30
        while len(server.requests) < waited_for and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert json.loads(out)["error"] == "Interrupted"
        assert b"Traceback" not in err
    plans = home("plan", "list", "--json").json
    assert [[receipt["outcome"] for receipt in plan["receipts"]] for plan in plans] == [["stopped"], ["stopped"]]
    counts = home("status", "--json").json["counts"]
    assert counts["answers"] == server.answered.total()
    assert counts["asked"] >= counts["answers"] + 8, "the calls in flight are named"
