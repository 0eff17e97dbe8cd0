"""SWE-smith's conversations: messages of text in which calls of tools are tags (``<function=bash>``), and results follow as the
user's messages (``OBSERVATION:``). The tools are told in the system text, which stays as it is.

Source: SWE-bench/SWE-smith and SWE-agent's ``XMLFunctionCallingParser``.
"""

import json
import re
from typing import Any

import msgspec

from stillhouse.conversations.formats import openai_chat
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
)
from stillhouse.conversations.record import (
    FUNCTION,
    Call,
    Conversation,
    Part,
    Refusal,
    Result,
    Role,
    Text,
    Turn,
    text_of,
)

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.NAMES, Detail.CALL_IDS,
    Detail.RESULT_NAMES, Detail.ERRORS, Detail.ORDER, Detail.PIECES, Detail.LAYOUT, Detail.OUTCOME, Detail.LINEAGE, Detail.IDS,
    Detail.REFUSALS, Detail.TOOLS,
})  # fmt: skip
OBSERVED = "OBSERVATION:\n"
_CALL = re.compile(r"<function=([^>\n]+)>\n?((?:<parameter=[^>\n]+>.*?</parameter>\n?)*)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)</parameter>\n?", re.DOTALL)


def is_told(messages: list[Any]) -> bool:
    """Do these messages call tools in this way?"""
    texts = [one.get("content") for one in messages if isinstance(one, dict) and one.get("role") == "assistant"]
    return any(isinstance(text, str) and _CALL.search(text) for text in texts)


def read(given: Any) -> list[Conversation]:
    """The conversation of a row. Raises CannotRead."""
    messages = items(mapping(given).get("messages"))
    if not messages:
        raise CannotRead("there are no messages")
    turns: list[Turn] = []
    for message in messages:
        turn = openai_chat.read_message(message)
        called = bool(turns) and any(isinstance(part, Call) for part in turns[-1].parts)
        text = text_of(turn)
        if turn.role is Role.ASSISTANT and all(isinstance(part, Text) for part in turn.parts):
            turn = msgspec.structs.replace(turn, parts=tuple(_parts(text)))
        elif turn.role is Role.USER and called and all(isinstance(part, Text) for part in turn.parts):
            seen = text.removeprefix(OBSERVED)  # some of them are introduced in other words, which stay
            turn = Turn(Role.TOOL, (Result((Text(seen),) if seen else ()),))
        turns.append(turn)
    return [made(turns)]


def _parts(text: str) -> list[Part]:
    """Text, then the calls that end it; tags within it are text."""
    calls: list[Part] = []
    end = len(text)
    found = list(_CALL.finditer(text))
    for call in reversed(found):
        if text[call.end() : end].strip("\n"):
            break
        calls.insert(0, Call(call[1], as_json(dict(_PARAMETER.findall(call[2])))))
        end = call.start()
    said = text[:end]
    return [*([Text(said)] if said else []), *calls] if calls else [Text(text)]


def write(conversation: Conversation) -> dict[str, Any]:
    """A row of messages. Raises CannotWrite."""
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(conversation.turns):
        if turn.role is Role.TOOL:
            messages.append({"role": "user", "content": OBSERVED + _observed(turn)})
            continue
        calls = [part for part in turn.parts if isinstance(part, Call)]
        said = [part for part in turn.parts if isinstance(part, Text | Refusal)]
        if len(calls) + len(said) < len(turn.parts) or len(calls) > 1:
            raise CannotWrite("reasoning, several calls at once, and parts of other types than text")
        text = "".join(part.text for part in said)
        before = conversation.turns[place - 1] if place else None
        after_call = before is not None and any(isinstance(part, Call) for part in before.parts)
        if after_call and turn.role is Role.USER:
            raise CannotWrite("calls without results")
        if turn.role is Role.ASSISTANT and _CALL.search(text):
            raise CannotWrite("text that looks like a call")
        written = text + "".join(map(_write_call, calls))
        if _parts(written) != [*([Text(text)] if text else []), *map(_plain, calls)] and turn.role is Role.ASSISTANT:
            raise CannotWrite("text that looks like a call")
        messages.append({"role": str(turn.role), "content": written})
    return {"messages": messages}


FORMAT = Format("swe-smith", read, write, LEAVES_OUT)


def _plain(call: Call) -> Call:
    return Call(call.name, as_json(json.loads(call.arguments)))


def _observed(turn: Turn) -> str:
    result = turn.parts[0]
    if len(turn.parts) > 1 or not isinstance(result, Result) or not all(isinstance(one, Text) for one in result.parts):
        raise CannotWrite("several results at once, and results that are more than text")
    return "".join(one.text for one in result.parts if isinstance(one, Text))


def _write_call(call: Call) -> str:
    values = as_object(call.arguments)
    if call.kind != FUNCTION or not all(isinstance(value, str) for value in values.values()):
        raise CannotWrite("arguments that are more than text")
    lines = "".join(f"<parameter={name}>{value}</parameter>\n" for name, value in values.items())
    return f"<function={call.name}>\n{lines}</function>"
