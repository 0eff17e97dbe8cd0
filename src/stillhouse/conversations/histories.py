"""Requests that repeat a history: what was read once is not read again. Pure.

Agents send all that was said with every call. Of a request, each message is looked up by the digest of its bytes; only new ones
are parsed, so the work grows with what is new, and turns that requests share are the same object. What comes out is what the
readers of the formats give of the whole request.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from stillhouse.conversations.answer_turns import Api
from stillhouse.conversations.content import decoded
from stillhouse.conversations.formats import anthropic_messages, openai_chat, prompt_completion, responses
from stillhouse.conversations.formats.format import CannotRead, mapping
from stillhouse.conversations.record import Conversation, Role, Tool, Turn, in_turns

_READERS = {Api.CHAT: openai_chat.read, Api.MESSAGES: anthropic_messages.read, Api.RESPONSES: responses.read}
# Where a request has what was said, what stands before it, and its tools: all that is large in it.
_SAID = {Api.CHAT: ("messages", ""), Api.MESSAGES: ("messages", "system"), Api.RESPONSES: ("input", "instructions")}
_LARGE = frozenset({"messages", "input", "system", "instructions", "tools", "functions", "prompt"})
_DIGEST = 16


class Request(NamedTuple):
    """What a request asks, and what else it says, but for what is large in it."""

    asked: Conversation
    about: Mapping[str, Any]


class Histories:
    """Reads requests, and remembers what was in them."""

    def __init__(self) -> None:
        self._turns: dict[bytes, tuple[Turn, ...]] = {}
        self._joined: dict[bytes, Turn] = {}
        self._tools: dict[bytes, tuple[Tool, ...]] = {}

    def read(self, api: Api, body: bytes) -> Request:
        """A request. Raises CannotRead."""
        try:
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            about = {name: msgspec.json.decode(raw) for name, raw in fields.items() if name not in _LARGE}
        except (ValueError, RecursionError):
            return self._plainly(api, body)  # it may be JSON all the same, as others write it
        if api not in _SAID:
            return self._plainly(api, body)
        said, before = _SAID[api]
        try:
            messages = msgspec.json.decode(fields[said], type=list[msgspec.Raw])
        except (KeyError, ValueError, RecursionError):
            return self._plainly(api, body)
        first = {before: fields[before]} if before in fields else {}
        lines = [(self._digest(api, part), part) for part in messages]
        system = [(self._digest(api, raw), raw) for raw in first.values()]
        turns = [turn for digest, raw in system for turn in self._read_one(api, digest, raw, before)]
        every = [*turns, *self._merged(api, lines)]
        if not every or not lines:
            return self._plainly(api, body)
        tools = {name: raw for name, raw in fields.items() if name in ("tools", "functions")}
        return Request(Conversation(tuple(every), self._read_tools(api, tools)), about)

    def _plainly(self, api: Api, body: bytes) -> Request:
        try:
            said = mapping(decoded(body))
        except (ValueError, RecursionError):
            raise CannotRead("it is no JSON") from None
        about = {name: value for name, value in said.items() if name not in _LARGE}
        if api is Api.COMPLETIONS:
            asked = prompt_completion.read({"prompt": said.get("prompt"), "completion": "-"})[0]
            return Request(Conversation(asked.turns[:-1]), about)
        return Request(_READERS[api](said)[0], about)

    def _digest(self, api: Api, raw: msgspec.Raw) -> bytes:
        return blake3(api.encode() + bytes(raw)).digest(_DIGEST)

    def _read_one(self, api: Api, digest: bytes, raw: msgspec.Raw, field: str = "") -> tuple[Turn, ...]:
        """The turns of one message, item or system text."""
        known = self._turns.get(digest)
        if known is None:
            known = self._turns[digest] = in_turns(_turns_of(api, decoded(bytes(raw)), field))
        return known

    def _merged(self, api: Api, lines: Sequence[tuple[bytes, msgspec.Raw]]) -> Iterator[Turn]:
        """Turns, with those that are one in a conversation together: results, and an answer's items."""
        together = (Role.TOOL, Role.ASSISTANT) if api is Api.RESPONSES else (Role.TOOL,)
        said = ((digest, turn) for digest, raw in lines for turn in self._read_one(api, digest, raw))
        numbered = (
            (digest, turn, turn.role if turn.role in together else number) for number, (digest, turn) in enumerate(said)
        )
        for _, run in itertools.groupby(numbered, lambda one: one[2]):
            found = list(run)
            if len(found) == 1:
                yield found[0][1]
                continue
            key = b"".join(digest for digest, _, _ in found)
            if key not in self._joined:
                parts = tuple(part for _, turn, _ in found for part in turn.parts)
                self._joined[key] = msgspec.structs.replace(found[0][1], parts=parts)
            yield self._joined[key]

    def _read_tools(self, api: Api, fields: Mapping[str, msgspec.Raw]) -> tuple[Tool, ...]:
        key = b"".join(self._digest(api, raw) for raw in fields.values())
        if key not in self._tools:
            said = {name: decoded(bytes(raw)) for name, raw in fields.items()}
            placeholder = {_SAID[api][0]: [{"role": "user", "content": "-"}]}
            self._tools[key] = _READERS[api]({**placeholder, **said})[0].tools
        return self._tools[key]


def _turns_of(api: Api, value: Any, field: str) -> list[Turn]:
    if field:
        placeholder = {_SAID[api][0]: [{"role": "user", "content": "-"}]}
        return list(_READERS[api]({field: value, **placeholder})[0].turns[:-1])
    if api is Api.MESSAGES:
        return anthropic_messages.read_message(value)
    return [responses.read_item(value)] if api is Api.RESPONSES else [openai_chat.read_message(value)]
