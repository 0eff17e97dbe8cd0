"""ShareGPT: ``conversations`` of turns with ``from`` and ``value``, ``system`` and ``tools`` beside them, with roles for tools.

Source: LLaMA-Factory, "Data preparation"; Axolotl and Hermes write calls in text, which is text here, too.
"""

import json
from collections.abc import Iterator
from typing import Any

from stillhouse.conversations.formats.format import (
    CannotRead,
    CannotWrite,
    Detail,
    Format,
    as_json,
    as_object,
    items,
    made,
    mapping,
    pieced,
    string,
)
from stillhouse.conversations.formats.openai_chat import read_tool, write_tool
from stillhouse.conversations.record import (
    FUNCTION,
    Call,
    Conversation,
    Reasoning,
    Refusal,
    Result,
    Role,
    Text,
    Turn,
)

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.NAMES, Detail.CALL_IDS,
    Detail.RESULT_NAMES, Detail.ERRORS, Detail.ORDER, Detail.PIECES, Detail.DEVELOPER, Detail.NEIGHBOURS, Detail.LAYOUT,
    Detail.OUTCOME, Detail.LINEAGE, Detail.IDS, Detail.REFUSALS,
})  # fmt: skip
_ROLES = {
    "human": Role.USER, "user": Role.USER, "gpt": Role.ASSISTANT, "assistant": Role.ASSISTANT, "chatgpt": Role.ASSISTANT,
    "bing": Role.ASSISTANT, "bard": Role.ASSISTANT, "model": Role.ASSISTANT, "system": Role.SYSTEM,
}  # fmt: skip
_CALLS = frozenset({"function_call", "tool_call", "tool_calls", "function-call"})
_RESULTS = frozenset({"observation", "tool", "function_response", "tool_response", "function", "function-response"})


def read(given: Any) -> list[Conversation]:
    """The conversation of a row."""
    row = mapping(given)
    said = items(row.get("conversations") or row.get("conversation"))
    if not said:
        raise CannotRead("there are no turns")
    turns: list[Turn] = [Turn(Role.SYSTEM, (Text(string(row["system"])),))] if row.get("system") else []
    for one in said:
        turn = _read_turn(one)
        if turns and turns[-1].role is turn.role is Role.ASSISTANT:
            turns[-1] = Turn(Role.ASSISTANT, turns[-1].parts + turn.parts)
        else:
            turns.append(turn)
    return [made(turns, map(read_tool, items(row.get("tools"))))]


def write(conversation: Conversation) -> dict[str, Any]:
    """A row with ``conversations``, and ``tools`` as JSON."""
    row: dict[str, Any] = {"conversations": [one for turn in conversation.turns for one in _write_turn(turn)]}
    return row | ({"tools": as_json([write_tool(tool) for tool in conversation.tools])} if conversation.tools else {})


FORMAT = Format("sharegpt", read, write, LEAVES_OUT)


def _read_turn(given: Any) -> Turn:
    turn = mapping(given)
    named = string(turn.get("from") or turn.get("role"))
    value = turn.get("value", turn.get("content"))
    if named in _CALLS:
        return Turn(Role.ASSISTANT, tuple(_read_calls(value)))
    if named in _RESULTS:
        text = value if isinstance(value, str) or value is None else as_json(value)
        return Turn(Role.TOOL, (Result((Text(text),) if text else ()),))
    role = _ROLES.get(named)
    if role is None:
        raise CannotRead("a turn has a speaker that is not known")
    # A weight of one says nothing; of nought, that the turn is not to be learned.
    beside = {
        name
        for name, said in turn.items()
        if name not in ("from", "role", "value", "content")
        and said not in (None, "", [], {})
        and (name, said) != ("weight", 1)
    }
    if beside:
        raise CannotRead("a turn says more than who says what")
    return Turn(role, (Text(string(value)),))


def _read_calls(value: Any) -> list[Call]:
    """What a turn calls: an object, or a list of them, mostly as JSON text."""
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise CannotRead("a call of a tool is no JSON") from None
    calls = []
    for one in read if isinstance(read, list) else [read]:
        call = mapping(one)
        function = mapping(call["function"]) if "function" in call else call
        arguments = function.get("arguments", function.get("parameters"))
        sent = arguments if isinstance(arguments, str) else as_json({} if arguments is None else arguments)
        calls.append(Call(string(function.get("name")), sent))
    return calls


def _write_turn(turn: Turn) -> Iterator[dict[str, str]]:
    if turn.role is Role.TOOL:
        for part in turn.parts:
            if not isinstance(part, Result) or not all(isinstance(one, Text) for one in part.parts):
                raise CannotWrite("results that are more than text")
            yield {"from": "observation", "value": "".join(one.text for one in part.parts if isinstance(one, Text))}
        return
    calls = [part for part in turn.parts if isinstance(part, Call)]
    texts = pieced(
        [Text(part.text) if isinstance(part, Refusal) else part for part in turn.parts if not isinstance(part, Call)]
    )
    if any(not isinstance(one, Text) for one in texts):
        raise CannotWrite("reasoning, and parts of other types than text" if any(
            isinstance(one, Reasoning) for one in texts) else "parts of other types than text")  # fmt: skip
    speaker = {Role.USER: "human", Role.ASSISTANT: "gpt"}.get(turn.role, "system")
    if texts:
        yield {"from": speaker, "value": "".join(one.text for one in texts)}
    if calls:
        if any(call.kind != FUNCTION for call in calls):
            raise CannotWrite("calls of other tools than functions")
        said = [{"name": call.name, "arguments": as_object(call.arguments)} for call in calls]
        yield {"from": "function_call", "value": as_json(said[0] if len(said) == 1 else said)}
