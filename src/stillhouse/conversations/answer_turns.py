"""The answer of a call as a turn, with all its parts: from a whole body, or from the events of a stream. Pure.

``answers`` and ``streams`` say what an answer costs, how it ended and what its text is, while it passes; this says all that is in
it, of bytes that are in the log. A stream that was cut gives what came until then, as an answer that was cancelled.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from stillhouse.conversations.content import decoded
from stillhouse.conversations.finishes import CANCELLED, ERROR, STOP, TOOL_CALLS, finish_label
from stillhouse.conversations.formats import anthropic_messages, openai_chat, responses
from stillhouse.conversations.formats.format import CannotRead, items, mapping, string
from stillhouse.conversations.record import Call, Part, Role, Text, Turn, in_turns
from stillhouse.conversations.streams import Events
from stillhouse.conversations.usage import anthropic_usage, largest, openai_usage
from stillhouse.nouns import Usage


class Api(StrEnum):
    """In which dialect a call was made."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    MESSAGES = "messages"
    RESPONSES = "responses"


def api_of(path: str) -> Api | None:
    """The dialect of a request's path; None for calls that ask no model for words."""
    ends = {
        "/chat/completions": Api.CHAT,
        "/completions": Api.COMPLETIONS,
        "/messages": Api.MESSAGES,
        "/responses": Api.RESPONSES,
    }
    plain = path.partition("?")[0].rstrip("/")
    return next((api for end, api in ends.items() if plain.endswith(end)), None)


def turn_of_body(api: Api, body: bytes | str) -> Turn:
    """The turn of a whole answer; its key is the id that the server gave it. Raises CannotRead for what is none."""
    try:
        return turn_of_value(api, mapping(decoded(body)))
    except (ValueError, RecursionError):
        raise CannotRead("the answer is no JSON") from None


def turn_of_stream(api: Api, pieces: Iterable[bytes]) -> Turn:
    """The turn of a streamed answer. Raises CannotRead where nothing was said in it."""
    stream: _Stream = _StreamedChat()
    if api is Api.MESSAGES:
        stream = _StreamedMessages()
    elif api is Api.RESPONSES:
        stream = _StreamedResponse()
    events = Events()
    for piece in pieces:
        for event in events.feed(piece):
            _feed(stream, event.data)
    for event in events.close():
        _feed(stream, event.data)
    return turn_of_value(api, stream.body())


class _Stream(Protocol):
    """Takes the events of a stream; ``done`` is set where it says itself that it has ended."""

    done: bool

    def take(self, event: Mapping[str, Any]) -> None:
        """One event."""

    def body(self) -> Mapping[str, Any]:
        """The whole answer."""


def _feed(stream: _Stream, data: bytes) -> None:
    if data.strip() == b"[DONE]":
        stream.done = True
        return
    try:
        event = decoded(data)
    except (ValueError, RecursionError):
        return  # it was passed on as it came; it says nothing that can be read
    if isinstance(event, Mapping):
        try:
            stream.take(event)
        except (TypeError, AttributeError, ValueError, KeyError):
            raise CannotRead("an event of the stream is of another form than its API's") from None


def turn_of_value(api: Api, body: Mapping[str, Any]) -> Turn:
    """The turn of an answer that was parsed already. Raises CannotRead."""
    parts: tuple[Part, ...]
    if api is Api.MESSAGES:
        parts = tuple(anthropic_messages.read_blocks(body.get("content")))
        return _turn(parts, body.get("stop_reason"), anthropic_usage(body.get("usage")), body)
    if api is Api.RESPONSES:
        turns = responses.read_items(items(body.get("output")))
        parts = tuple(part for turn in turns for part in turn.parts)
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        status = string(body.get("status")) or "completed"
        return _turn(
            parts, reason or ("length" if status == "incomplete" else status), openai_usage(body.get("usage")), body
        )
    choices = items(body.get("choices"))
    choice = mapping(choices[0]) if choices else {}
    if api is Api.COMPLETIONS:
        parts = (Text(string(choice.get("text"))),)
    else:
        parts = openai_chat.read_message({"role": "assistant", **mapping(choice.get("message") or {})}).parts
    return _turn(parts, choice.get("finish_reason"), openai_usage(body.get("usage")), body)


def _turn(parts: tuple[Part, ...], said: Any, usage: Usage, body: Mapping[str, Any]) -> Turn:
    label = finish_label(said)
    if label == STOP and any(isinstance(part, Call) for part in parts):
        label = TOOL_CALLS
    if body.get("error"):
        label = ERROR
    named, id = (one if isinstance(one, str) else "" for one in (body.get("model"), body.get("id")))
    turn = Turn(Role.ASSISTANT, parts, 0, label, usage, model=named, key=id)
    whole = in_turns([turn])
    if not whole or not whole[0].parts:
        raise CannotRead("the answer is an error" if label == ERROR else "nothing is said in it")
    return whole[0]


class _StreamedMessages:
    """Anthropic's events: blocks by their index, each in pieces."""

    def __init__(self) -> None:
        self.done = False
        self._message: dict[str, Any] = {}
        self._blocks: dict[Any, dict[str, Any]] = {}
        self._usage: dict[str, Any] = {}
        self._stop: Any = None

    def take(self, event: Mapping[str, Any]) -> None:
        """One event."""
        match event.get("type"):
            case "message_start":
                self._message = dict(mapping(event.get("message") or {}))
                self._usage = largest(self._usage, self._message.get("usage"))
            case "content_block_start":
                self._blocks[event.get("index")] = dict(mapping(event.get("content_block") or {}))
            case "content_block_delta":
                self._add(self._blocks.setdefault(event.get("index"), {}), mapping(event.get("delta") or {}))
            case "message_delta":
                self._stop = mapping(event.get("delta") or {}).get("stop_reason") or self._stop
                self._usage = largest(self._usage, event.get("usage"))
            case "message_stop":
                self.done = True
            case "error":
                self._message["error"] = event.get("error") or True

    def _add(self, block: dict[str, Any], delta: Mapping[str, Any]) -> None:
        match delta.get("type"):
            case "text_delta":
                block |= {"type": "text", "text": string(block.get("text")) + string(delta.get("text"))}
            case "thinking_delta":
                block |= {"type": "thinking", "thinking": string(block.get("thinking")) + string(delta.get("thinking"))}
            case "signature_delta":
                block["signature"] = string(block.get("signature")) + string(delta.get("signature"))
            case "input_json_delta":
                said = block.get("input")
                block["input"] = (said if isinstance(said, str) else "") + string(delta.get("partial_json"))
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta.get("citation")]

    def body(self) -> dict[str, Any]:
        """The whole answer."""
        stop = self._stop or ("end_turn" if self.done else CANCELLED)
        return {**self._message, "content": list(self._blocks.values()), "stop_reason": stop, "usage": self._usage}


class _StreamedChat:
    """OpenAI's chunks: the first choice, its calls by their index."""

    def __init__(self) -> None:
        self.done = False
        self._message: dict[str, Any] = {}
        self._calls: dict[Any, dict[str, Any]] = {}
        self._body: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._text = ""
        self._finish: Any = None

    def take(self, event: Mapping[str, Any]) -> None:
        """One chunk."""
        self._body |= {name: event[name] for name in ("model", "error", "id") if event.get(name)}
        self._usage = largest(self._usage, event.get("usage"))
        for given in items(event.get("choices")):
            choice = mapping(given)
            if choice.get("index"):
                continue
            self._finish = choice.get("finish_reason") or self._finish
            self._text += string(choice.get("text"))
            for name, value in mapping(choice.get("delta") or {}).items():
                self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        if name == "tool_calls":
            for place, given in enumerate(items(value)):
                call = mapping(given)
                _join(self._calls.setdefault(call.get("index", place), {}), call)
        elif name in ("content", "reasoning_content", "reasoning", "refusal") and isinstance(value, str):
            self._message[name] = string(self._message.get(name)) + value
        elif isinstance(value, list):
            self._message[name] = [*(self._message.get(name) or []), *value]
        elif name == "function_call" and isinstance(value, Mapping):
            _join(self._message.setdefault(name, {}), value)
        elif value is not None:
            self._message[name] = value

    def body(self) -> dict[str, Any]:
        """The whole answer."""
        calls = [{name: said for name, said in call.items() if name != "index"} for call in self._calls.values()]
        message = self._message | ({"tool_calls": calls} if calls else {})
        finish = self._finish or ("stop" if self.done else CANCELLED)
        choice = {"message": message, "text": self._text, "finish_reason": finish}
        return {**self._body, "choices": [choice], "usage": self._usage}


def _join(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a piece of a call to it: names and ids come once, arguments in pieces."""
    for name, value in piece.items():
        if isinstance(value, Mapping):
            _join(whole.setdefault(name, {}), value)
        elif name in ("arguments", "input") and isinstance(value, str):
            whole[name] = string(whole.get(name)) + value
        elif value is not None and (value or name not in whole):
            whole[name] = value


class _StreamedResponse:
    """OpenAI's response events: the last one has all of it; of a stream that was cut, the items that were done."""

    def __init__(self) -> None:
        self.done = False
        self._items: list[Any] = []
        self._final: Mapping[str, Any] | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """One event."""
        kind = string(event.get("type"))
        if kind == "response.output_item.done":
            self._items.append(event.get("item"))
        elif kind in ("response.completed", "response.incomplete", "response.failed", "response.cancelled"):
            self._final = mapping(event.get("response") or {})

    def body(self) -> Mapping[str, Any]:
        """The whole answer."""
        if self._final is None:
            return {"output": self._items, "status": CANCELLED}
        return {**self._final, "output": self._final.get("output") or self._items}


def answered(turn: Turn, key: str, stamps: int, time: str) -> Turn:
    """An answer's turn with what the log knows of the call."""
    return msgspec.structs.replace(turn, key=key, stamps=stamps, time=time)
