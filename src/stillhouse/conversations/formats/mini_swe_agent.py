"""Trajectories of mini-swe-agent: the messages as they were sent, with how the run ended (``info``).

Source: SWE-agent/mini-swe-agent, ``DefaultAgent.save``. Commands stand in the text (a fenced block) or are calls of a tool.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from stillhouse.conversations.formats import openai_chat, responses
from stillhouse.conversations.formats.format import CannotRead, Detail, Format, items, made, mapping, string
from stillhouse.conversations.record import Conversation, Outcome, Role, Turn

LEAVES_OUT = openai_chat.LEAVES_OUT | {Detail.TOOLS}
# The last entry notes that the agent stopped, and what it hands in; no model said or saw it.
_EXIT = "exit"


def read(given: Any) -> list[Conversation]:
    """The conversation of a document, or of its messages alone (as the first versions wrote)."""
    document = {"messages": given} if isinstance(given, list) else mapping(given)
    messages = [mapping(one) for one in items(document.get("messages"))]
    if not messages:
        raise CannotRead("there are no messages")
    info = document.get("info")
    if not isinstance(info, Mapping):
        info = {}
    model = _model(info)
    turns = [_named(turn, model) for message in messages if message.get("role") != _EXIT for turn in _turns(message)]
    why = string(info.get("exit_status"))
    return [made(turns, (), Outcome(why=why) if why else None)]


def _turns(message: Mapping[str, Any]) -> list[Turn]:
    if isinstance(message.get("output"), list) and "role" not in message:  # a whole answer of OpenAI's responses
        return responses.read_items(message["output"])
    if "role" not in message and message.get("type"):
        return [responses.read_item(message)]
    return [openai_chat.read_message(message)]


def _named(turn: Turn, model: str) -> Turn:
    return msgspec.structs.replace(turn, model=model) if turn.role is Role.ASSISTANT else turn


def _model(info: Mapping[str, Any]) -> str:
    at: Any = info
    for name in ("config", "model", "model_name"):
        at = at.get(name) if isinstance(at, Mapping) else None
    return at if isinstance(at, str) else ""


def write(conversation: Conversation) -> dict[str, Any]:
    """A document. Raises CannotWrite."""
    written = openai_chat.write(msgspec.structs.replace(conversation, tools=()))
    return {**written, "info": {}, "trajectory_format": "mini-swe-agent-1"}


FORMAT = Format("mini-swe-agent", read, write, LEAVES_OUT)
