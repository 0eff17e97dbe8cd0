"""Ctrl-C at any moment: no traceback, nothing lost, and the next run goes on."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from stillhouse.nouns import TeacherKind
from stillhouse.teachers.http_teacher import HttpOptions, HttpTeacher
from stillhouse.teachers.openai import OpenAIDialect
from tests.conformance.test_teachers import asks, teacher


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
    process = home.spawn("run", recipe, "--json", PYTHONFAULTHANDLER="1")
    time.sleep(random.Random(number).uniform(0.02, 1.6))
    os.kill(process.pid, signal.SIGINT)
    try:
        _, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # it says where each of its threads stands
        pytest.fail(f"it did not end:\n{process.communicate()[1].decode()}")
    assert b"Traceback" not in err, err.decode()
    assert process.returncode in (0, 130, -signal.SIGINT), err.decode()
    done = home("run", recipe, "--json").json
    assert (done["answers"], done["verified"], done["rows"]) == (120, 30, 30)
    states = {check["name"]: check["state"] for check in home("doctor", "--json").json["checks"]}
    assert states["ledger"] == states["objects"] == "ok"


@pytest.mark.parametrize("moment", [0.11, 0.2, 0.33])
def test_an_interrupt_leaves_no_event_loop_behind(serve, moment):
    """A process that ends below a running loop crashes (SIGSEGV in uvloop), and loses what the loop still receives."""
    server = serve(delay=30)
    client = HttpTeacher(teacher(TeacherKind.OPENAI, base_url=server.url), OpenAIDialect(), HttpOptions(in_flight=6))
    wanted = asks(6)

    def interrupt():
        deadline = time.monotonic() + 30
        while len(server.requests) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.answer(wanted, {ask.key for ask in wanted}, lambda batch: None, lambda item: None)
        left = [frame for frame in sys._current_frames().values() if _in_a_loop(frame)]
        assert left == [], "the loop ended before the interrupt went on"
    finally:
        signal.signal(signal.SIGINT, handler)
        interrupting.join()


def _in_a_loop(frame):
    """Does this stack stand in the client's event loop?"""
    while frame is not None:
        if frame.f_code.co_filename.endswith("uvloop/__init__.py"):
            return True
        frame = frame.f_back
    return False
