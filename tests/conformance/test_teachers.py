"""One suite for every teacher client: whatever it speaks to, each ask ends in exactly one reply or failure."""

import json
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from stillhouse.canon import digest_file
from stillhouse.errors import BudgetReached, StorageError
from stillhouse.nouns import Ask, Channel, Message, Parameters, Teacher, TeacherKind
from stillhouse.teachers.anthropic import AnthropicDialect
from stillhouse.teachers.client import Failure, Reply
from stillhouse.teachers.http_teacher import HttpOptions, HttpTeacher
from stillhouse.teachers.local_teacher import LocalTeacher
from stillhouse.teachers.openai import OpenAIDialect
from stillhouse.teachers.replay_teacher import ReplayTeacher
from tests.server import chat


def asks(count: int) -> list[Ask]:
    parameters = Parameters(24, 0.8, 7, stop_at_code=True)
    return [
        Ask(f"key{n}", f"task{n // 2}", f"prompt{n // 2}", (Message("user", f"Say {n // 2}."),), parameters, n % 2)
        for n in range(count)
    ]


def teacher(kind: TeacherKind, **more: str) -> Teacher:
    made = Teacher(name="t", kind=kind, model="m", lab="l", channel=Channel.OPEN_WEIGHTS, terms=("licence/mit",))
    return msgspec.structs.replace(made, **more)


async def messages(server, body):
    return web.json_response(
        {
            "content": [{"type": "text", "text": f"said {body['messages'][-1]['content']}"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 4},
        }
    )


async def completions(server, body):
    return web.json_response(chat(f"said {body['messages'][-1]['content']}"))


def recorded(path):
    return ReplayTeacher(teacher(TeacherKind.REPLAY, weights=str(path), weights_digest=digest_file(path)))


@pytest.fixture(params=["openai", "anthropic", "replay", pytest.param("local", marks=pytest.mark.model)])
def client(request, serve, tmp_path):
    if request.param == "openai":
        made = HttpTeacher(
            teacher(TeacherKind.OPENAI, base_url=serve(completions).url), OpenAIDialect(), HttpOptions(in_flight=3)
        )
    elif request.param == "anthropic":
        url = serve(messages).url.removesuffix("/v1")
        made = HttpTeacher(teacher(TeacherKind.ANTHROPIC, base_url=url), AnthropicDialect(), HttpOptions(in_flight=3))
    elif request.param == "replay":
        rows = [{"task": ask.task, "sample": ask.sample, "text": f"said {ask.key}"} for ask in asks(6)]
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = recorded(tmp_path / "r.jsonl")
    else:
        from stillhouse.generation.weights import weights_digest

        weights = request.getfixturevalue("tiny_model")
        local = teacher(TeacherKind.LOCAL, weights=str(weights), weights_digest=weights_digest(weights))
        made = LocalTeacher(local, tmp_path)
    yield made
    made.close()


def test_every_ask_is_admitted_first_and_ends_once(client):
    admitted, ended = [], []

    def deliver(item):
        assert isinstance(item, Reply), item
        assert item.ask.key in admitted
        assert item.finish in ("stop", "length")
        ended.append(item.ask.key)

    client.answer(asks(6), {ask.key for ask in asks(6)}, lambda group: admitted.extend(a.key for a in group), deliver)
    assert sorted(ended) == sorted(admitted) == sorted(ask.key for ask in asks(6))


def test_what_follows_from_an_answer_is_asked_too(client):
    first, later = asks(6)[:2], asks(6)[2:]
    admitted, ended, followed = [], [], list(later)

    def more(item):
        return [followed.pop()] if followed else []

    client.answer(
        first, {ask.key for ask in first}, lambda group: admitted.extend(a.key for a in group), ended.append, more
    )
    assert sorted(item.ask.key for item in ended) == sorted(admitted) == sorted(ask.key for ask in asks(6))
    assert client.load().waiting == 0


def test_only_what_is_wanted_is_asked_for(client):
    admitted = []
    replies = []
    client.answer(asks(6), {"key1", "key4"}, lambda group: admitted.extend(a.key for a in group), replies.append)
    assert sorted(reply.ask.key for reply in replies) == sorted(admitted) == ["key1", "key4"]


def test_nothing_wanted_is_nothing_done(client):
    client.answer(asks(2), set(), lambda group: pytest.fail("nothing is to be admitted"), pytest.fail)


def test_a_refused_admission_stops_and_is_raised(client):
    def refuse(group):
        raise BudgetReached("no")

    with pytest.raises(BudgetReached):
        client.answer(asks(6), {ask.key for ask in asks(6)}, refuse, pytest.fail)


def test_what_cannot_be_written_down_is_raised(client):
    def broken(item):
        raise StorageError("full")

    with pytest.raises(StorageError):
        client.answer(asks(6), {ask.key for ask in asks(6)}, lambda group: None, broken)


def test_a_recording_without_an_answer_fails_and_is_free(tmp_path: Path):
    (tmp_path / "r.jsonl").write_text("")
    made = recorded(tmp_path / "r.jsonl")
    found = []
    made.answer(asks(1), {"key0"}, lambda group: None, found.append)
    assert isinstance(found[0], Failure)
    assert not found[0].charged


def test_the_dialects_put_things_where_they_belong():
    local = teacher(TeacherKind.ANTHROPIC)
    talk = msgspec.structs.replace(asks(1)[0], messages=(Message("system", "be brief"), Message("user", "hi")))
    body = AnthropicDialect().body(local, talk)
    assert (body["system"], [message["role"] for message in body["messages"]]) == ("be brief", ["user"])
    assert AnthropicDialect().headers("k")["x-api-key"] == "k"
    assert OpenAIDialect().headers("") == {}
    first, second = (OpenAIDialect().body(local, ask) for ask in asks(2))
    assert first["seed"] != second["seed"], "two samples of one prompt must be able to differ"
