"""Promise 7. A verdict, a drop, a truncation, a failure is data with a reason; filters are views."""

import pytest
from aiohttp import web

from stillhouse.datasets.shards import DROPPED, ROWS, read_rows
from stillhouse.home.ledger import answer_queries, dataset_queries
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings

ANSWERS = {
    "t0": "```python\ndef f(x): return x + 1\n```",
    "t1": "```python\ndef f(x): return x\n```",
    "t2": "```python\ndef f(x: oops\n```",
    "t3": "I would rather not.",
    "t4": "```python\nwhile True: pass\n```",
    "t5": "```python\nimport os; os._exit(0)\n```",
    "t6": "",
    "t7": "```python\ndef f(x): return [0] * 10 ** 12\n```",
}
EXPECTED = {
    "t0": "passed", "t1": "failed", "t2": "error", "t3": "no code", "t4": "timeout", "t5": "crash", "t6": "no code",
    "t7": "memory",
}  # fmt: skip


@pytest.fixture
def done(home, sandboxed):
    home.prompts(9)
    home.add_replay(home.recording([{"task": task, "text": text} for task, text in ANSWERS.items()]))
    home("run", home.recipe("recorded"))
    with open_home(read_settings(home.home)) as app:
        yield app


def test_every_answer_has_a_verdict_and_a_place(done):
    dataset = dataset_queries.dataset(done.ledger, "example@1")
    placed = list(dataset_queries.placements(done.ledger, done.objects, dataset))
    answers = answer_queries.answers(done.ledger, [row.key for row in placed])
    verdicts = {
        answers[key].task: verdict for (key, _), verdict in answer_queries.verdicts(done.ledger, answers).items()
    }
    assert {task: str(verdict.status) for task, verdict in verdicts.items()} == EXPECTED
    assert all(
        verdict.reason and verdict.isolation for task, verdict in verdicts.items() if EXPECTED[task] != "no code"
    )
    assert {answers[row.key].task: row.step for row in placed} == {
        task: "" if status == "passed" else "complete" if not ANSWERS[task] else "verified"
        for task, status in EXPECTED.items()
    }
    assert all(row.reason for row in placed if row.step)


def test_what_was_dropped_is_in_the_dataset_with_its_reason(done):
    dataset = dataset_queries.dataset(done.ledger, "example")
    dropped = {row["task"]: row for row in read_rows(done.objects, dataset, DROPPED)}
    assert len(dropped) == 7
    assert dropped["t1"]["reason"] == "failed at test 1: returned 1, not 2"
    assert dropped["t3"]["response"] == ANSWERS["t3"]
    assert [row["task"] for row in read_rows(done.objects, dataset, ROWS)] == ["t0"]


def test_what_was_not_answered_is_a_failure_with_its_reason(done):
    failures = done.ledger.counts()["failures"]
    assert failures == 1
    with done.ledger.engine.connect() as connection:
        from stillhouse.home.ledger.projection import tables

        row = connection.execute(tables.failures.select()).one()
    assert row.reason == "the recording does not hold this answer"


def test_another_filter_is_another_view_of_the_same_answers(home, serve, sandboxed):
    home.add_mock(serve().url)
    home.prompts(3)
    strict = home("run", home.recipe(samples=4), "--json").json
    loose = home("collect", home.recipe(samples=4, dataset="unfiltered"), "--json").json
    assert (strict["rows"], loose["paid"], loose["answers"]) == (3, 0, 12)
    rows = {dataset["name"]: dataset["rows"] for dataset in home("dataset", "list", "--json").json}
    assert rows == {"example": 3, "unfiltered": 6}


def test_a_version_never_changes(home, serve, sandboxed):
    home.add_mock(serve().url)
    home.prompts(2)
    first = home("run", home.recipe(samples=2), "--json").json
    assert home("run", home.recipe(samples=2), "--json").json["dataset"] == first["dataset"] == "example@1"
    home.prompts(3)
    assert home("run", home.recipe(samples=2), "--json").json["dataset"] == "example@2"
    shown = home("dataset", "show", "example@1", "--json").json
    assert shown["content_digest"] == first["content_digest"]


def test_server_errors_are_evidence_too(home, serve):
    async def refusing(server, body):
        return web.json_response({"error": {"message": "no such thing"}}, status=422)

    home.add_mock(serve(refusing).url)
    home.prompts(2)
    ran = home("run", home.recipe(), code=1)
    assert "no such thing" in ran.err
    assert home("status", "--json").json["counts"]["failures"] == 2
