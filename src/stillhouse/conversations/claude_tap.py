"""Traces of claude-tap and of proxies like it: JSON lines, each a request to a model and its answer, whole or in events.

Calls are put together as sessions are (``sessions``): by what their requests repeat, and by the ids of answers. Events of a
WebSocket (``ws_events``) hold several requests and answers in one line; the last of them is read, with what it goes on from.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stillhouse.conversations.answer_turns import Api, api_of, turn_of_body, turn_of_stream
from stillhouse.conversations.client_names import client_of
from stillhouse.conversations.formats import anthropic_messages, openai_chat, responses
from stillhouse.conversations.formats.format import (
    ALL,
    CannotRead,
    CannotWrite,
    Format,
    as_json,
    entries_of,
    items,
    mapping,
    string,
    with_broken,
)
from stillhouse.conversations.record import Conversation, Turn, Unknown
from stillhouse.conversations.sessions import Exchange, assemble

_READERS = {Api.CHAT: openai_chat.read, Api.MESSAGES: anthropic_messages.read, Api.RESPONSES: responses.read}
_ANSWERED = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def is_trace(entry: Mapping[str, Any]) -> bool:
    """Is an entry a request with its answer?"""
    request = entry.get("request")
    return isinstance(request, Mapping) and "response" in entry and "path" in request


def read(given: Any) -> list[Conversation]:
    """The conversations of a trace, in the order of their first calls. Raises CannotRead."""
    entries, broken = entries_of(given)
    if not any(map(is_trace, entries)):
        raise CannotRead("it has no requests with their answers")
    exchanges = []
    for number, entry in enumerate(entries):
        if is_trace(entry):
            try:
                exchanges += list(_exchanges(number, entry))
            except CannotRead:
                broken.append(Unknown("call that cannot be read", as_json(dict(entry))))
    found = [line.conversation for session in assemble(exchanges) for line in session.lines]
    if not found:
        raise CannotRead("none of its requests can be read")
    plain = [_without_keys(one) for one in found]
    return [with_broken(plain[0], broken), *plain[1:]]


def _without_keys(conversation: Conversation) -> Conversation:
    turns = tuple(msgspec.structs.replace(turn, key="") for turn in conversation.turns)
    return msgspec.structs.replace(conversation, turns=turns)


def _exchanges(number: int, entry: Mapping[str, Any]) -> Iterator[Exchange]:
    request, response = mapping(entry["request"]), mapping(entry.get("response") or {})
    api = api_of(string(request.get("path")))
    if api is None or api is Api.COMPLETIONS:
        return
    headers = {str(name): str(value) for name, value in mapping(request.get("headers") or {}).items()}
    time, events = string(entry.get("timestamp")), _events(response)
    bodies = [one for one in items(request.get("ws_events")) if mapping(one).get("type") == "response.create"]
    if len(bodies) > 1:  # a WebSocket's: several requests, and as many answers, one after the other
        answers = _apart(events)
        for place, (body, said) in enumerate(zip(bodies, answers, strict=False)):
            yield _exchange(api, f"{number}.{place}", mapping(body), headers, said, None, time)
        return
    yield _exchange(api, str(number), mapping(request.get("body")), headers, events, response.get("body"), time)


def _exchange(
    api: Api, call: str, body: Mapping[str, Any], headers: Mapping[str, str], events: list[Any], whole: Any, time: str
) -> Exchange:
    asked = _READERS[api](body)[0] if body.get("input") != [] else Conversation(())
    answer: Turn | None = None
    try:
        if isinstance(whole, Mapping):
            answer = turn_of_body(api, as_json(dict(whole)))
        elif events:
            answer = turn_of_stream(api, [b"data: " + as_json(one).encode() + b"\n\n" for one in events])
    except CannotRead:
        answer = None
    id = answer.key if answer is not None else _id_of(events)
    turn = msgspec.structs.replace(answer, key=f"call:{call}", time=time) if answer is not None else None
    return Exchange(call, asked, turn, client_of(headers, body, id))


def _events(response: Mapping[str, Any]) -> list[Any]:
    """The events of a streamed answer, however the trace calls them, in their API's own form."""
    said = next(
        (response[name] for name in ("ws_events", "sse_events", "events", "chunks") if response.get(name)), None
    )
    found = []
    for one in items(said):
        event = mapping(one)
        data = event.get("data", event)
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except ValueError:
                continue
        found.append(data)
    return found


def _apart(events: list[Any]) -> list[list[Any]]:
    found: list[list[Any]] = [[]]
    for event in events:
        found[-1].append(event)
        if isinstance(event, Mapping) and event.get("type") in _ANSWERED:
            found.append([])
    return found


def _id_of(events: list[Any]) -> str:
    """The id of an answer that said nothing: the next request may go on from it."""
    for event in events:
        response = event.get("response") if isinstance(event, Mapping) else None
        if isinstance(response, Mapping) and isinstance(response.get("id"), str):
            return str(response["id"])
    return ""


def write(conversation: Conversation) -> list[dict[str, Any]]:
    """A trace is what a proxy saw. Raises CannotWrite."""
    raise CannotWrite("anything: a trace is what a proxy saw, and is read only")


FORMAT = Format("claude-tap", read, write, ALL)
