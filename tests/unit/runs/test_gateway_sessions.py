"""Calls in the log, as sessions: what cannot be read costs itself alone, and says why."""

import json

import pytest

from stillhouse.home import facts
from stillhouse.home.open_home import open_home
from stillhouse.home.settings import read_settings
from stillhouse.nouns import GatewayKey, Outcome, Use
from stillhouse.runs.gateway_sessions import as_text, find_sessions, matches, session_of

BY = {"at": "2026-01-01T00:00:00.000Z", "by": "t"}
CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "go"}]})
ANSWER = json.dumps(
    {"model": "m", "choices": [{"message": {"role": "assistant", "content": "gone"}, "finish_reason": "stop"}]}
)


def received(call, body=GOOD, path=CHAT, **more):
    return facts.CallReceived(
        **BY, call=call, key="k", teacher="t", path=path, purpose="train", stamps=5, body=body, **more
    )


def returned(call, body=ANSWER, outcome=Outcome.ANSWERED, **more):
    return facts.CallReturned(**BY, call=call, status=200, outcome=outcome, reason="", kind="", body=body, **more)


@pytest.fixture
def app(home):
    with open_home(read_settings(home.home)) as app:
        key = GatewayKey(id="k", name="n", digest="d", project="p", uses=(Use.TRAIN,))
        app.recorder.record(facts.KeyIssued(**BY, key=key))
        app.recorder.refresh()
        yield app


BAD = [
    ("its request: it is no JSON", received("x", "{")),
    ("its request: a list stands where an object should", received("x", "[1]")),
    ("its request: there are no messages", received("x", '{"messages": []}')),
    ("its request: a message has a role that is not known", received("x", '{"messages": [{"role": "ghost"}]}')),
    ("its request: a list stands where an object should", received("x", '{"messages": [[]]}')),
    ("its text holds half of a surrogate pair", received("x", '{"messages": [{"role": "user", "content": "\\ud800"}]}')),
    ("it asked no model for words", received("x", GOOD, "/v1/embeddings")),
    ("its request: it is no JSON", received("x", "/w==", base64=True)),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "bad"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_what_cannot_be_read_costs_itself_alone(app, reason, bad):
    app.recorder.record(received("a"), bad, returned("x"), returned("a"), received("open"))
    found = find_sessions(app)
    assert found.left_out == {reason: 1, "it was not seen to end": 1}
    (one,) = found.sessions
    assert one.project == "p" and one.session.lines[0].calls == ("a",)


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"choices": []}', '{"error": {"message": "no"}}'])
def test_an_answer_that_says_nothing_ends_its_line(app, body):
    app.recorder.record(received("a"), returned("a", body))
    found = find_sessions(app)
    (one,) = found.sessions
    assert found.unanswered == 1
    assert len(one.session.lines[0].conversation.turns) == 1


def test_calls_that_were_refused_or_never_sent_are_in_no_session(app):
    app.recorder.record(
        received("a"), returned("a", outcome=Outcome.NOT_SENT), received("b"), returned("b", outcome=Outcome.REFUSED)
    )
    found = find_sessions(app)
    assert found.sessions == [] and sum(found.left_out.values()) == 2


def test_answers_in_pieces_text_and_search(app):
    said = {
        "model": "m",
        "choices": [
            {"index": 0, "delta": {"reasoning_content": "hm", "content": "Gone Fishing"}, "finish_reason": "stop"}
        ],
    }
    data = f"data: {json.dumps(said)}\n\n"
    pieces = [facts.ChunkReceived(**BY, call="a", data=data[:20]), facts.ChunkReceived(**BY, call="a", data=data[20:])]
    app.recorder.record(received("a"), *pieces, returned("a", ""))
    found = find_sessions(app, "p")
    assert find_sessions(app, "other").sessions == []
    conversation = session_of(found, "a").session.lines[0].conversation
    text = as_text(conversation)
    assert "[thinks] hm\nGone Fishing" in text and conversation.turns[1].stamps == 5
    assert [place for _, _, place, _ in matches(found, "gone f")] == [1] and not list(matches(found, "nothing"))
