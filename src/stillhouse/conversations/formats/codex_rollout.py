"""Codex's rollout files: JSON lines, of which the ``response_item`` are the conversation; events tell it a second time.

A compaction begins a new conversation: what stood before it is another one, which it goes on from. Read as of 0.171.0.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from stillhouse.conversations.formats import responses
from stillhouse.conversations.formats.format import (
    CannotRead,
    Detail,
    Format,
    entries_of,
    items,
    made,
    string,
    with_broken,
)
from stillhouse.conversations.record import Conversation, Role, Text, Turn
from stillhouse.conversations.usage import openai_usage
from stillhouse.nouns import Usage

LEAVES_OUT = responses.LEAVES_OUT - {Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.IDS} | {Detail.TOOLS}
_KNOWN = frozenset({"session_meta", "response_item", "turn_context", "token_usage_record", "compacted", "event_msg"})


def read(given: Any) -> list[Conversation]:
    """The conversations of a file's entries, the last first: the one that the session ended with. Raises CannotRead."""
    reading = _Reading()
    entries, broken = entries_of(given)
    if not any(one.get("type") in _KNOWN and isinstance(one.get("payload"), Mapping) for one in entries):
        raise CannotRead("it has no entries of a rollout")
    for entry in entries:
        payload = entry.get("payload")
        if isinstance(payload, Mapping):
            reading.take(string(entry.get("type")), payload, string(entry.get("timestamp")))
    last, *before = reading.conversations()
    return [with_broken(last, broken), *before]


class _Reading:
    def __init__(self) -> None:
        self._session = self._model = ""
        self._instructions: list[Turn] = []
        self._turns: list[Turn] = []
        self._before: list[list[Turn]] = []

    def take(self, kind: str, payload: Mapping[str, Any], time: str) -> None:
        """One entry."""
        if kind == "session_meta":
            self._session = self._session or string(payload.get("id"))
            told = payload.get("base_instructions") or payload.get("instructions")
            text = told.get("text") if isinstance(told, Mapping) else told
            self._instructions = [Turn(Role.SYSTEM, (Text(string(text)),))] if text else self._instructions
        elif kind == "turn_context":
            self._model = string(payload.get("model")) if "model" in payload else self._model
        elif kind == "response_item":
            self._add(responses.read_item(payload), time)
        elif kind == "token_usage_record" and isinstance(payload.get("usage"), Mapping):
            self._count(openai_usage(payload["usage"]))
        elif kind == "compacted":
            self._before.append(self._turns)
            kept = items(payload.get("replacement_history"))
            summary = (
                [Turn(Role.USER, (Text(string(payload.get("message"))),), time=time)] if payload.get("message") else []
            )
            self._turns = responses.read_items(kept) if kept else summary

    def _add(self, turn: Turn, time: str) -> None:
        last = self._turns[-1] if self._turns else None
        if last is not None and last.role is turn.role is Role.ASSISTANT and last.model == self._model:
            self._turns[-1] = msgspec.structs.replace(last, parts=last.parts + turn.parts)
        else:
            model = self._model if turn.role is Role.ASSISTANT else ""
            self._turns.append(msgspec.structs.replace(turn, time=time, model=model))

    def _count(self, usage: Usage) -> None:
        for place in range(len(self._turns) - 1, -1, -1):
            turn = self._turns[place]
            if turn.role is Role.ASSISTANT:
                had = turn.usage or Usage(0, 0)
                counts = (had.prompt_tokens, usage.prompt_tokens), (had.completion_tokens, usage.completion_tokens)
                self._turns[place] = msgspec.structs.replace(
                    turn, usage=Usage(*(sum(pair) if min(pair) >= 0 else -1 for pair in counts))
                )
                return

    def conversations(self) -> list[Conversation]:
        """All of them, the last first."""
        found = []
        for number, turns in enumerate([*self._before, self._turns]):
            if turns:
                found.append(
                    msgspec.structs.replace(made([*self._instructions, *turns]), id=f"{self._session}/{number}")
                )
        if not found:
            raise CannotRead("nothing is said in it")
        *before, last = found
        ids = [one.id for one in before]
        earlier = [
            msgspec.structs.replace(one, parent=ids[place - 1] if place else "") for place, one in enumerate(before)
        ]
        return [msgspec.structs.replace(last, id=self._session, parent=ids[-1] if ids else ""), *earlier[::-1]]


def write(conversation: Conversation) -> list[dict[str, Any]]:
    """Entries of a rollout; definitions of tools are not in those. Raises CannotWrite."""
    turns = list(conversation.turns)
    meta: dict[str, Any] = {"id": conversation.id}
    if turns and turns[0].role is Role.SYSTEM and len(turns[0].parts) == 1 and isinstance(turns[0].parts[0], Text):
        meta["base_instructions"] = {"text": turns.pop(0).parts[0].text}  # type: ignore[union-attr]
    entries: list[dict[str, Any]] = [{"type": "session_meta", "payload": meta}]
    writer = responses.ItemWriter()
    for turn in turns:
        time = {"timestamp": turn.time} if turn.time else {}
        if turn.role is Role.ASSISTANT:
            entries.append({"type": "turn_context", "payload": {"model": turn.model}})
        entries += [{"type": "response_item", "payload": item, **time} for item in writer.write(turn)]
        if turn.usage is not None:
            usage = {"input_tokens": turn.usage.prompt_tokens, "output_tokens": turn.usage.completion_tokens}
            entries.append({"type": "token_usage_record", "payload": {"usage": usage}})
    return entries


FORMAT = Format("codex", read, write, LEAVES_OUT)
