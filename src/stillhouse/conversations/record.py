"""A record is a conversation: turns of typed parts, each turn with its own stamps. Pure.

Readers of every format make this value, and nothing that they are given is missing from it: a part that no reader knows is kept
as it came (``Unknown``), and no row is formed of a conversation that has one. Parts stand in the order in which they were said.
Results of tools are turns of their own, those that answer one turn's calls together: that is the form in which histories of
different APIs are the same.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_plain, raw_digest, tagged_digest
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.nouns import Message, Usage

FUNCTION = "function"


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Text(msgspec.Struct, frozen=True, tag="text"):
    """What is said."""

    text: str


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """What is said in place of an answer, where the API says that it is a refusal."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning", omit_defaults=True):
    """What was thought: its text, a summary of it, or what the provider alone can read; with the provider's signature and id."""

    text: str = ""
    summary: str = ""
    signature: str = ""
    encrypted: str = ""
    id: str = ""


class Reference(msgspec.Struct, frozen=True, tag="reference", omit_defaults=True):
    """An image, a sound or a file: where it is (``url``), an object's digest, or its bytes in base64 (``data``)."""

    kind: str
    media_type: str = ""
    url: str = ""
    digest: str = ""
    data: str = ""
    name: str = ""


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """A part of a type that no reader knows: its type, and its JSON as it came."""

    kind: str
    raw: str


class Call(msgspec.Struct, frozen=True, tag="call", omit_defaults=True):
    """A call of a tool. ``arguments`` are the text that was sent, which is JSON for functions, if the model wrote JSON."""

    name: str
    arguments: str
    id: str = ""
    kind: str = FUNCTION


class Result(msgspec.Struct, frozen=True, tag="result", omit_defaults=True):
    """What a tool gave back for a call (``call`` is its id)."""

    parts: tuple[Text | Reference | Unknown, ...] = ()
    call: str = ""
    name: str = ""
    is_error: bool = False


# Parts that say nothing; some formats write them where others leave them out.
_NOTHING = (Text(""), Refusal(""), Reasoning())
Part = Text | Refusal | Reasoning | Reference | Unknown | Call | Result


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one says at a time. ``stamps`` is the id of a stamp set, 0 where none is known; ``key`` names the call of a model that
    it is the answer of.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    stamps: int = 0
    finish: str = ""
    usage: Usage | None = None
    time: str = ""
    model: str = ""
    key: str = ""
    name: str = ""


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that the model may call. ``parameters`` is a JSON schema as text; ``extra`` what its API says besides, as JSON."""

    name: str
    description: str = ""
    parameters: str = ""
    kind: str = FUNCTION
    extra: str = ""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it ended, who says so, and why; ``passed`` is None where nobody judged."""

    passed: bool | None = None
    reward: float | None = None
    why: str = ""


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Turns in order. One that goes on from another has it as ``parent``, and shares its first ``fork`` turns."""

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    outcome: Outcome | None = None
    id: str = ""
    parent: str = ""
    fork: int = 0


_DECODER = msgspec.json.Decoder(Conversation)


def encode(conversation: Conversation) -> bytes:
    """The one byte string of a conversation. Raises ValueError for text that is no text (half of a surrogate pair)."""
    return msgspec.json.encode(conversation, order="sorted")


def decode(data: bytes) -> Conversation:
    """A conversation from its bytes. Raises msgspec.MsgspecError."""
    return _DECODER.decode(data)


def in_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Turns in the one form that every reader makes: without empty texts and turns that say nothing, results together."""
    found: list[Turn] = []
    for turn in turns:
        parts = tuple(_filled(part) for part in turn.parts if part not in _NOTHING)
        if turn.role is Role.TOOL and found and found[-1].role is Role.TOOL:
            found[-1] = msgspec.structs.replace(found[-1], parts=found[-1].parts + parts)
        elif parts or turn.finish:
            found.append(msgspec.structs.replace(turn, parts=parts))
    return tuple(found)


def _filled(part: Part) -> Part:
    if isinstance(part, Result) and any(one in _NOTHING for one in part.parts):
        return msgspec.structs.replace(part, parts=tuple(one for one in part.parts if one not in _NOTHING))
    return part


def text_of(turn: Turn) -> str:
    """What a turn says in words."""
    return "".join(part.text for part in turn.parts if isinstance(part, Text | Refusal))


def is_plain(conversation: Conversation) -> bool:
    """Is it text alone, as single answers are: no tools, and one text a turn?"""
    return not conversation.tools and all(
        len(turn.parts) == 1 and isinstance(turn.parts[0], Text) and not turn.name for turn in conversation.turns
    )


def asked_digest(conversation: Conversation) -> str:
    """The digest of what is asked: for text alone that of its messages, which logs have had from the first version on."""
    if is_plain(conversation):
        return prompt_digest([Message(str(turn.role), text_of(turn)) for turn in conversation.turns])
    return digest_plain(["asked", _tools(conversation), [_content(turn) for turn in conversation.turns]])


def content_digest(conversation: Conversation) -> str:
    """The digest of all that is said and of the tools: without ids, times, counts and stamps, so equal for equal content."""
    return digest_plain(["conversation", _tools(conversation), [_content(turn) for turn in conversation.turns]])


def said_digest(turn: Turn) -> str:
    """The digest of what a turn says as a client repeats it in the next request: without what clients leave out or write anew
    (reasoning, ids, the layout of JSON arguments, how text is cut into parts).
    """
    return digest_plain(_said(turn))


def prefix_digests(turns: Sequence[Turn]) -> list[str]:
    """For each turn a digest of all that was said up to it: equal for histories that are the same so far. Linear."""
    found: list[str] = []
    before = bytes(32)
    for turn in turns:
        before = blake3(before + raw_digest(said_digest(turn))).digest()
        found.append(tagged_digest(before))
    return found


def why_no_row(conversation: Conversation) -> str:
    """Why no row can be formed of a conversation; "" where one can. Names kinds, never words of it."""
    open_calls: list[str] = []
    for turn in conversation.turns:
        if open_calls and turn.role is not Role.TOOL:
            return "a call of a tool has no result"
        if turn.role is Role.TOOL:
            reason = _why_not_results(turn, open_calls)
            open_calls = []
        else:
            calls = [part.id for part in turn.parts if isinstance(part, Call)]
            named = [id for id in calls if id]
            # Some agents count from the start in each turn: results stand right behind their calls, so that is no harm.
            reason = "two calls of tools have one id" if len(set(named)) < len(named) else ""
            open_calls = calls
        reason = reason or _why_not_parts(turn.parts)
        if reason:
            return reason
    return "" if any(turn.role is Role.ASSISTANT for turn in conversation.turns) else "nobody answers in it"


def _why_not_results(turn: Turn, calls: Sequence[str]) -> str:
    answered = [part.call for part in turn.parts if isinstance(part, Result)]
    if len(set(answered) - {""}) < len([id for id in answered if id]):
        return "a call of a tool has two results"
    if len(answered) > len(calls) or not set(answered) - {""} <= set(calls):
        return "a result of a tool has no call"
    return "a call of a tool has no result" if len(answered) < len(calls) else ""


def _why_not_parts(parts: Iterable[Part]) -> str:
    inside = [one for part in parts for one in (part.parts if isinstance(part, Result) else (part,))]
    other = next((one for one in inside if isinstance(one, Unknown | Reference)), None)
    return f"it holds a part of type {other.kind[:40]}" if other is not None else ""


def _tools(conversation: Conversation) -> list[list[str]]:
    return [
        [tool.kind, tool.name, tool.description, _layout(tool.parameters), tool.extra] for tool in conversation.tools
    ]


def _content(turn: Turn) -> list[Any]:
    thought = [["reasoning", p.text, p.summary, p.encrypted] for p in turn.parts if isinstance(p, Reasoning)]
    return [*_said(turn), turn.name, thought]


def _said(turn: Turn) -> list[Any]:
    parts: list[list[Any]] = []
    for part in turn.parts:
        if isinstance(part, Reasoning):
            continue
        made = _part(part)
        if made[0] == "text" and parts and parts[-1][0] == "text":
            parts[-1] = ["text", parts[-1][1] + made[1]]
        else:
            parts.append(made)
    return [str(turn.role), parts]


def _part(part: Part) -> list[Any]:
    if isinstance(part, Text):
        return ["text", part.text]
    if isinstance(part, Call):
        return ["call", part.kind, part.name, _layout(part.arguments)]
    if isinstance(part, Result):
        return ["result", part.is_error, _said(Turn(Role.TOOL, part.parts))[1]]
    if isinstance(part, Reference):
        return ["reference", part.kind, part.url, part.digest, part.data]
    if isinstance(part, Unknown):
        return ["unknown", part.kind, part.raw]
    return ["refusal", part.text]


def _layout(text: str) -> str:
    """JSON without its layout; any other text as it is."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="sorted").decode()
    except (ValueError, RecursionError):
        return text
