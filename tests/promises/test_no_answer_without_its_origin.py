"""Promise 3. Every record carries a provenance stamp. The gateway passes on nothing, not even a piece of a stream, that it has
not written down; if it cannot, it cuts the stream and records that.

Not covered: what a teacher sent and nobody read. How the gateway behaves with a full disk is in ``hostile/test_gateway.py``.
"""

import asyncio
import urllib.request

import msgspec
from aiohttp import web

from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, dataset_queries, origin_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from stillhouse.teachers.register import account_fingerprint
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects


def test_every_answer_says_where_it_comes_from(home, serve):
    home.add_mock(serve().url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
    home.prompts(3)
    home("run", home.recipe(samples=2), MOCK_KEY="sk-abc")
    with open_home(read_settings(home.home)) as app:
        sets = origin_queries.stamp_sets(app.ledger)
        keys = [
            row.key
            for row in dataset_queries.placements(
                app.ledger, app.objects, dataset_queries.dataset(app.ledger, "example@1")
            )
        ]
        answers = answer_queries.answers(app.ledger, keys)
    assert len(answers) == 6
    for answer in answers.values():
        teacher, prompt = (
            sets[answer.stamps].stamps
            if sets[answer.stamps].stamps[0].origin == "teacher"
            else sets[answer.stamps].stamps[::-1]
        )
        assert (teacher.origin, teacher.lab, teacher.model, teacher.channel) == (
            "teacher",
            "testlab",
            "m",
            "open-weights",
        )
        assert (teacher.terms, teacher.purpose, teacher.grade) == (("licence/apache-2.0",), "train", "declared")
        assert teacher.account == account_fingerprint("sk-abc")
        assert teacher.day == prompt.day
        assert prompt.origin == "prompt seed"


def test_a_stamp_set_is_in_the_log_before_the_first_entry_that_names_it(home, serve):
    home.add_mock(serve().url)
    home.prompts(1)
    home("run", home.recipe())
    with open_home(read_settings(home.home)) as app:
        kinds = [
            msgspec.json.decode(entry.payload)["fact"] for writer in app.log.writers() for entry in app.log.read(writer)
        ]
    assert kinds.index("stamps-seen") < kinds.index("asked") < kinds.index("answered")
    assert kinds.index("prompt-seen") < kinds.index("asked")


def test_lineage_reaches_from_teacher_to_dataset_and_back(home, serve):
    home.add_mock(serve().url)
    home.prompts(2)
    home("run", home.recipe(samples=2))
    down = home("lineage", "impact", "teacher:mock", "--json").json
    assert "dataset:example@1" in down["nodes"]
    assert down["records"] == 4
    up = home("lineage", "show", "dataset:example@1", "--json").json
    assert {edge["parent"] for edge in up} >= {"teacher:mock", "prompts:prompts.jsonl"}


def test_every_piece_is_in_the_log_before_a_client_has_it(gateway, home, serve):
    """The server sends a piece and waits; whatever the client has by then is in the log by then."""
    pieces = [f"data: piece {number}\n\n" for number in range(8)] + ["data: [DONE]\n\n"]

    async def stepwise(server, body):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(server.request)
        for piece in pieces:
            await response.write(piece.encode())
            await asyncio.sleep(0.05)
        return response

    home.add_mock(serve(stepwise).url)
    running = gateway()
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
    headers = {"Authorization": f"Bearer {running.key()}"}
    request = urllib.request.Request(f"{running.url}/v1/chat/completions", data=body, headers=headers)
    received = ""
    with urllib.request.urlopen(request) as response:
        while piece := response.read1(4096):
            received += piece.decode()
            written = "".join(fact.data for fact in written_down(home) if isinstance(fact, facts.ChunkReceived))
            assert written.startswith(received)
    assert received == "".join(pieces)
    running.ended()
    answer = next(fact for fact in written_down(home) if isinstance(fact, facts.Answered))
    with open_home(read_settings(home.home)) as app:
        stamps = origin_queries.stamp_sets(app.ledger)[answer.stamps].stamps
    assert {(stamp.origin, stamp.lab, stamp.purpose) for stamp in stamps if stamp.lab} == {
        ("teacher", "testlab", "train")
    }


def written_down(home):
    log = Log(home.home / "log", Objects(LocalBackend(home.home / "objects")))
    return [facts.decode(entry.payload) for writer in log.writers() for entry in log.read(writer)]


def test_what_is_imported_says_that_it_is_only_declared(home):
    home.write("old.jsonl", '{"prompt": "q", "response": "a", "model": "gpt-4o"}\n')
    home("dataset", "import", "old.jsonl", "--name", "old")
    with open_home(read_settings(home.home)) as app:
        (stamps,) = origin_queries.stamp_sets(app.ledger).values()
    assert (stamps.stamps[0].grade, stamps.stamps[0].lab) == ("declared", "openai")
