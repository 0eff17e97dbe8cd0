"""Alpaca: ``instruction``, ``input`` and ``output``, with ``system`` and ``history`` (pairs that came before).

Source: Stanford Alpaca; LLaMA-Factory, "Data preparation".
"""

from collections.abc import Sequence
from typing import Any

from stillhouse.conversations.formats.format import (
    ALL,
    CannotRead,
    CannotWrite,
    Detail,
    Format,
    items,
    made,
    mapping,
    string,
)
from stillhouse.conversations.record import Conversation, Reasoning, Role, Text, Turn, text_of

LEAVES_OUT = ALL - {Detail.TOOLS, Detail.TOOL_EXTRAS, Detail.THOUGHT_FORMS, Detail.NEIGHBOURS}
_PAIR = 2


def read(given: Any) -> list[Conversation]:
    """The conversation of a row."""
    row = mapping(given)
    if "instruction" not in row or "output" not in row:
        raise CannotRead("there is no instruction with its output")
    turns = [Turn(Role.SYSTEM, (Text(string(row["system"])),))] if row.get("system") else []
    for pair in items(row.get("history")):
        said = items(pair)
        if len(said) != _PAIR:
            raise CannotRead("the history is not made of pairs")
        turns += _pair(string(said[0]), string(said[1]))
    asked = "\n".join(text for text in (string(row["instruction"]), string(row.get("input"))) if text)
    return [made([*turns, *_pair(asked, string(row["output"]))])]


def write(conversation: Conversation) -> dict[str, Any]:
    """A row of text alone, in pairs of question and answer."""
    if conversation.tools:
        raise CannotWrite("definitions of tools")
    turns, row = list(conversation.turns), dict[str, Any]()
    if turns and turns[0].role in (Role.SYSTEM, Role.DEVELOPER):
        row["system"] = _text(turns.pop(0))
    roles = [turn.role for turn in turns]
    if not turns or len(turns) % _PAIR or roles != [Role.USER, Role.ASSISTANT] * (len(turns) // _PAIR):
        raise CannotWrite("turns that are no pairs of question and answer")
    *history, (asked, said) = zip(map(_text, turns[::2]), map(_text, turns[1::2]), strict=True)
    row |= {"instruction": asked, "input": "", "output": said}
    return row | ({"history": [list(pair) for pair in history]} if history else {})


FORMAT = Format("alpaca", read, write, frozenset(LEAVES_OUT))


def _pair(asked: str, said: str) -> Sequence[Turn]:
    return Turn(Role.USER, (Text(asked),)), Turn(Role.ASSISTANT, (Text(said),))


def _text(turn: Turn) -> str:
    if any(isinstance(part, Reasoning) for part in turn.parts) or len(turn.parts) != sum(
        1 for part in turn.parts if hasattr(part, "text")
    ):
        raise CannotWrite("parts of other types than text")
    if not text_of(turn):
        raise CannotWrite("turns without text")
    return text_of(turn)
