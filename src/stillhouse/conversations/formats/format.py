"""The seam: a format reads what it is given into conversations and writes them, and lists what it cannot say."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeGuard

import msgspec

from stillhouse.conversations.record import (
    FUNCTION,
    Call,
    Conversation,
    Part,
    Reasoning,
    Reference,
    Refusal,
    Result,
    Role,
    Text,
    Tool,
    Turn,
    Unknown,
    in_turns,
)


class Detail(StrEnum):
    """What a format may be unable to say, and leaves out when it writes. What is said itself is never left out."""

    STAMPS = "the stamps of turns"
    KEYS = "which call a turn is the answer of"
    FINISH = "how an answer ended"
    USAGE = "counted tokens"
    TIME = "times"
    MODEL = "which model answered"
    NAMES = "names of speakers"
    CALL_IDS = "ids of calls"
    RESULT_NAMES = "the name of the tool beside its result"
    ERRORS = "whether a result is an error"
    ORDER = "in which order an answer's text, reasoning and calls were said"
    PIECES = "how text is cut into parts"
    MEDIA_TYPES = "of what type a file is that is elsewhere"
    DEVELOPER = "that a system text is the developer's"
    NEIGHBOURS = "that two answers follow each other"
    LAYOUT = "the layout of JSON arguments"
    TOOLS = "definitions of tools"
    TOOL_EXTRAS = "what definitions of tools say beside name, description and parameters"
    THOUGHT_FORMS = "summaries, signatures and encrypted forms of reasoning"
    REFUSALS = "that a text is a refusal"
    OUTCOME = "outcomes"
    IDS = "ids of conversations"
    LINEAGE = "which conversation goes on from which"


ALL = frozenset(Detail)


class CannotRead(Exception):
    """What is given is none of this format; the text says why, and quotes no words of it."""


class CannotWrite(Exception):
    """A conversation says what this format cannot; the text says what."""


class Format(NamedTuple):
    """A format: ``read`` raises CannotRead, ``write`` CannotWrite; ``leaves_out`` is what its writer does not say."""

    name: str
    read: Callable[[Any], Sequence[Conversation]]
    write: Callable[[Conversation], Any]
    leaves_out: frozenset[Detail]


_TURN_FIELDS: dict[Detail, dict[str, Any]] = {
    Detail.STAMPS: {"stamps": 0}, Detail.KEYS: {"key": ""}, Detail.FINISH: {"finish": ""}, Detail.USAGE: {"usage": None},
    Detail.TIME: {"time": ""}, Detail.MODEL: {"model": ""}, Detail.NAMES: {"name": ""},
}  # fmt: skip
_ORDER = {Reasoning: 0, Refusal: 2, Call: 3}


def without(conversation: Conversation, details: frozenset[Detail]) -> Conversation:
    """A conversation without some details: what a format that leaves them out gives back."""
    turns = [_turn(turn, details) for turn in conversation.turns]
    if Detail.NEIGHBOURS in details:
        turns = _joined(turns)
    more: dict[str, Any] = {}
    if Detail.OUTCOME in details:
        more["outcome"] = None
    if Detail.LINEAGE in details:
        more |= {"parent": "", "fork": 0}
    if Detail.IDS in details:
        more["id"] = ""
    if Detail.TOOLS in details:
        more["tools"] = ()
    elif Detail.TOOL_EXTRAS in details:
        more["tools"] = tuple(Tool(tool.name, tool.description, tool.parameters) for tool in conversation.tools)
    return msgspec.structs.replace(conversation, turns=in_turns(turns), **more)


def _turn(turn: Turn, details: frozenset[Detail]) -> Turn:
    changes: dict[str, Any] = {}
    for detail, fields in _TURN_FIELDS.items():
        changes |= fields if detail in details else {}
    parts = [_part(part, details) for part in turn.parts]
    if Detail.ORDER in details and turn.role is Role.ASSISTANT:
        parts.sort(key=lambda part: _ORDER.get(type(part), 1))
    if Detail.PIECES in details:
        parts = pieced(parts)
    if Detail.DEVELOPER in details and turn.role is Role.DEVELOPER:
        changes["role"] = Role.SYSTEM
    return msgspec.structs.replace(turn, parts=tuple(parts), **changes)


def _part(part: Part, details: frozenset[Detail]) -> Part:
    if isinstance(part, Reasoning) and Detail.THOUGHT_FORMS in details:
        return Reasoning(part.text)
    if isinstance(part, Refusal) and Detail.REFUSALS in details:
        return Text(part.text)
    if isinstance(part, Reference) and part.url and Detail.MEDIA_TYPES in details:
        return msgspec.structs.replace(part, media_type="")
    if isinstance(part, Call):
        laid_out = _laid_out(part.arguments) if Detail.LAYOUT in details and part.kind == FUNCTION else part.arguments
        return msgspec.structs.replace(part, id="" if Detail.CALL_IDS in details else part.id, arguments=laid_out)
    if isinstance(part, Result):
        changes: dict[str, Any] = {}
        changes |= {"call": ""} if Detail.CALL_IDS in details else {}
        changes |= {"name": ""} if Detail.RESULT_NAMES in details else {}
        changes |= {"is_error": False} if Detail.ERRORS in details else {}
        inside = [_part(one, details) for one in part.parts]
        changes["parts"] = tuple(pieced(inside) if Detail.PIECES in details else inside)
        return msgspec.structs.replace(part, **changes)
    return part


def pieced(parts: Sequence[Any]) -> list[Any]:
    """Parts with neighbouring texts as one, and neighbouring thoughts that are text alone."""
    found: list[Any] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Text) and isinstance(last, Text):
            found[-1] = Text(last.text + part.text)
        elif isinstance(part, Refusal) and isinstance(last, Refusal):
            found[-1] = Refusal(last.text + part.text)
        elif _is_thought(part) and _is_thought(last):
            found[-1] = Reasoning(last.text + part.text)
        else:
            found.append(part)
    return found


def _is_thought(part: Any) -> TypeGuard[Reasoning]:
    return isinstance(part, Reasoning) and part == Reasoning(part.text)


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Turns with neighbouring answers as one: what is said of the last one's end holds for both."""
    found: list[Turn] = []
    for turn in turns:
        if turn.role is Role.ASSISTANT and found and found[-1].role is Role.ASSISTANT:
            found[-1] = msgspec.structs.replace(turn, parts=found[-1].parts + turn.parts)
        else:
            found.append(turn)
    return found


def made(turns: Iterable[Turn], tools: Iterable[Tool] = (), *more: Any) -> Conversation:
    """The conversation of what was read. Raises CannotRead where nobody says anything in it."""
    said = in_turns(turns)
    if not said:
        raise CannotRead("nothing is said in it")
    return Conversation(said, tuple(tools), *more)


def as_json(value: Any) -> str:
    """The text of a JSON value, in the order in which it came. Raises CannotRead."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as failure:
        raise CannotRead(f"a value is no JSON ({type(failure).__name__})") from failure


def as_object(text: str) -> dict[str, Any]:
    """The JSON object of a text. Raises CannotWrite: some formats hold arguments as objects, and models write what they like."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
        if isinstance(value, dict):
            as_json(value)
            return value
    except (ValueError, RecursionError, CannotRead):
        pass
    raise CannotWrite("arguments of a call that are no JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name twice")
    return made


def _laid_out(text: str) -> str:
    try:
        return as_json(as_object(text))
    except CannotWrite:
        return text


def entries_of(given: Any) -> tuple[list[Mapping[str, Any]], list[Unknown]]:
    """The entries of a session file; those that are no objects cost the others nothing, and stay as they came."""
    every = items(given)
    broken = [Unknown("entry that is no object", as_json(one)) for one in every if not isinstance(one, Mapping)]
    return [one for one in every if isinstance(one, Mapping)], broken


def with_broken(conversation: Conversation, broken: Sequence[Unknown]) -> Conversation:
    """A conversation with what could not be read of its file, so that no row is formed of it in silence."""
    if not broken:
        return conversation
    return msgspec.structs.replace(conversation, turns=(*conversation.turns, Turn(Role.USER, tuple(broken))))


def string(value: Any) -> str:
    """A text, or "" for nothing. Raises CannotRead for anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CannotRead(f"a {type(value).__name__} stands where a text should")
    return value


def items(value: Any) -> list[Any]:
    """A list, also as the JSON text that tables make of one; nothing is an empty one. Raises CannotRead."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            raise CannotRead("a text stands where a list should") from None
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise CannotRead(f"a {type(value).__name__} stands where a list should")
    return list(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """An object. Raises CannotRead for anything else."""
    if not isinstance(value, Mapping):
        raise CannotRead(f"a {type(value).__name__} stands where an object should")
    return value
