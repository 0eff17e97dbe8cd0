"""Ctrl-C at any moment: no traceback, nothing lost, and the next run goes on."""

import os
import random
import signal
import subprocess
import time

import pytest


@pytest.mark.parametrize("number", range(8))
def test_an_interrupt_at_a_random_moment(home, sandboxed, number):
    home.prompts(30)
    rows = [
        {"task": f"t{n}", "sample": s, "text": f"```\ndef f(x): return x + {s}\n```"}
        for n in range(30)
        for s in range(4)
    ]
    home.add_replay(home.recording(rows))
    recipe = home.recipe("recorded", samples=4)
    process = home.start("run", recipe, "--json")
    time.sleep(random.Random(number).uniform(0.02, 1.6))
    os.kill(process.pid, signal.SIGINT)
    try:
        _, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert b"Traceback" not in err, err.decode()
    assert process.returncode in (0, 130, -signal.SIGINT), err.decode()
    done = home("run", recipe, "--json").json
    assert (done["answers"], done["verified"], done["rows"]) == (120, 30, 30)
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert states["ledger"] == states["objects"] == "ok"
