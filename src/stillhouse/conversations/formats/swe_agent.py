"""Trajectories of SWE-agent (``.traj``): the messages stand in ``history``; ``trajectory`` tells its steps a second time.

Source: SWE-agent 1.x, ``SWEAgent.get_trajectory_data``. Demonstrations in the history are not the agent's own: a conversation
with an assistant's demonstration makes no row.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from stillhouse.conversations.formats import openai_chat
from stillhouse.conversations.formats.format import CannotRead, Detail, Format, as_json, items, made, mapping, string
from stillhouse.conversations.record import Conversation, Outcome, Result, Role, Turn, Unknown

LEAVES_OUT = openai_chat.LEAVES_OUT | {Detail.TOOLS, Detail.RESULT_NAMES}
_BESIDE = frozenset(
    {"agent", "message_type", "thought", "action", "tool_call_ids", "is_demo", "tags", "thinking_blocks"}
)


def read(given: Any) -> list[Conversation]:
    """The conversation of a document. Raises CannotRead."""
    document = mapping(given)
    history = [mapping(one) for one in items(document.get("history"))]  # demonstrations are files of a history alone
    if not history:
        raise CannotRead("there is no history")
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    model = _model(document.get("replay_config"))
    turns = [_turn(message, model) for message in history]
    why = string(info.get("exit_status"))
    return [made(turns, (), Outcome(why=why) if why else None)]


def _turn(message: Mapping[str, Any], model: str) -> Turn:
    said = {name: value for name, value in message.items() if name not in _BESIDE}
    if message.get("thinking_blocks") and not message.get("reasoning_content"):
        thought = [string(mapping(one).get("thinking")) for one in items(message["thinking_blocks"])]
        said["reasoning_content"] = "".join(thought)
    turn = openai_chat.read_message(said)
    if turn.role is Role.ASSISTANT:
        if message.get("is_demo"):
            return Turn(Role.ASSISTANT, (Unknown("demonstration", as_json(dict(message))),))
        return msgspec.structs.replace(turn, model=model)
    ids = [string(id) for id in items(message.get("tool_call_ids"))]
    if turn.role is Role.TOOL and isinstance(turn.parts[0], Result) and ids:
        first = msgspec.structs.replace(turn.parts[0], call=ids[0])
        # One observation answers all calls of an answer.
        return msgspec.structs.replace(turn, parts=(first, *(Result((), id) for id in ids[1:])))
    return turn


def _model(replay: Any) -> str:
    try:
        at: Any = json.loads(replay) if isinstance(replay, str) else replay
    except (ValueError, RecursionError):
        return ""
    for name in ("agent", "model", "name"):
        at = at.get(name) if isinstance(at, Mapping) else None
    return at if isinstance(at, str) else ""


def write(conversation: Conversation) -> dict[str, Any]:
    """A document with its history. Raises CannotWrite."""
    history: list[dict[str, Any]] = []
    for turn in conversation.turns:
        for message in openai_chat.write_turn(turn):
            if message["role"] == "tool":
                message["tool_call_ids"] = [message.pop("tool_call_id")]
                message.pop("name", None)
            history.append({**message, "agent": "main"})
    return {"trajectory": [], "history": history, "info": {}}


FORMAT = Format("swe-agent", read, write, LEAVES_OUT)
