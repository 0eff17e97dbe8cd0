"""Another version replaces the view while a process of this one is at work: it buys nothing more, and says why."""

import sqlite3
import time

import pytest

from tests.gateways import post
from tests.server import Server, friendly


def replace_view(home):
    """As a newer version does: its view is in use, and whoever is at work is told to look."""
    with sqlite3.connect(home.home / "ledger.db") as database:
        database.execute("UPDATE stillhouse_view SET revision = 9999, token = 'another'")
    bell = home.home / "locks" / "gateway-bell"
    bell.parent.mkdir(exist_ok=True)
    bell.write_text(str(time.time()))


@pytest.mark.parametrize("words", [("status",), ("doctor",), ("doctor", "--rebuild")])
def test_whoever_puts_another_view_in_use_tells_those_at_work(home, words):
    bell = home.home / "locks" / "gateway-bell"
    with sqlite3.connect(home.home / "ledger.db") as database:
        database.execute("UPDATE stillhouse_view SET revision = 7, fingerprint = 'older'")
    bell.unlink(missing_ok=True)
    home(*words)
    assert bell.is_file()


def test_the_gateway_forwards_nothing_more(start, home):
    upstream, running, key = start()
    assert post(running, key)[0] == 200
    asked = len(upstream.bodies)
    replace_view(home)
    status, _, body = post(running, key)
    assert (status, len(upstream.bodies)) == (503, asked), body
    assert "newer" in body.decode()


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_collection_asks_for_nothing_more(home, serve, in_flight):
    answers = []

    async def answer(server: Server, body):
        answers.append(body)
        if len(answers) == 3:
            replace_view(home)
        return await friendly(server, body)

    server = serve(answer)
    home.add_mock(server.url, "mock", "--price-in", "1", "--price-out", "1")
    home.prompts(60)
    ran = home("collect", home.recipe(samples=2, budget="5", max_tokens=8, in_flight=in_flight), code=None)
    assert ran.code != 0 and "newer" in ran.err
    assert len(answers) < 20
