"""OpenAI's responses: a list of items (``input`` and ``output``), ``instructions``, and flat ``tools``.

Source: OpenAI, "Responses". What a model says in one answer are several items there; here they are one turn. History that lies
at the server (``previous_response_id``) is not in it.
"""

from collections.abc import Iterable
from typing import Any

from stillhouse.conversations.formats.format import (
    CannotRead,
    CannotWrite,
    Detail,
    Format,
    as_json,
    items,
    made,
    mapping,
    string,
)
from stillhouse.conversations.formats.openai_chat import read_part, read_tool, read_url, write_url
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
)

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.NAMES, Detail.RESULT_NAMES,
    Detail.ERRORS, Detail.OUTCOME, Detail.LINEAGE, Detail.IDS, Detail.MEDIA_TYPES, Detail.NEIGHBOURS,
})  # fmt: skip
_ROLES = {str(role): role for role in (Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT)}
_SAID = frozenset({"type", "text", "annotations", "logprobs"})
# The field in which each kind of call has what it sends, and each kind of result what it gives back.
_CALLS = {"function_call": "arguments", "custom_tool_call": "input", "local_shell_call": "action"}
_KINDS = {"function_call": FUNCTION, "custom_tool_call": "custom", "local_shell_call": "local_shell"}
_OUTPUTS = frozenset(f"{kind}_output" for kind in _CALLS)


def read(given: Any) -> list[Conversation]:
    """The conversation of a request's body, with its ``output`` where that stands beside."""
    body = mapping(given)
    asked = body.get("input")
    asked = [{"role": "user", "content": asked}] if isinstance(asked, str) else items(asked)
    every = asked + items(body.get("output"))
    if not every:
        raise CannotRead("there are no items")
    system = [Turn(Role.SYSTEM, (Text(string(body["instructions"])),))] if body.get("instructions") else []
    return [made([*system, *read_items(every)], map(read_tool, items(body.get("tools"))))]


def write(conversation: Conversation) -> dict[str, Any]:
    """A body with ``instructions``, ``input`` and ``tools``."""
    turns, body = list(conversation.turns), dict[str, Any]()
    if turns and turns[0].role is Role.SYSTEM and len(turns[0].parts) == 1 and isinstance(turns[0].parts[0], Text):
        body["instructions"] = turns.pop(0).parts[0].text  # type: ignore[union-attr]
    body["input"] = write_items(turns)
    return body | ({"tools": list(map(_write_tool, conversation.tools))} if conversation.tools else {})


FORMAT = Format("responses", read, write, LEAVES_OUT)


def read_items(given: Iterable[Any]) -> list[Turn]:
    """Items as turns: all that a model says until somebody else does is one turn."""
    turns: list[Turn] = []
    for one in given:
        turn = read_item(one)
        if turns and turns[-1].role is turn.role is Role.ASSISTANT:
            turns[-1] = Turn(Role.ASSISTANT, turns[-1].parts + turn.parts)
        else:
            turns.append(turn)
    return turns


def read_item(given: Any) -> Turn:
    """One item as (a part of) a turn."""
    item = mapping(given)
    kind = string(item.get("type")) or "message"
    if kind == "message":
        role = _ROLES.get(string(item.get("role")))
        if role is None:
            raise CannotRead("an item has a role that is not known")
        content = item.get("content")
        return Turn(role, tuple([Text(content)] if isinstance(content, str) else map(_read_part, items(content))))
    if kind == "reasoning":
        return Turn(Role.ASSISTANT, (_read_reasoning(item),))
    if kind in _CALLS:
        sent = item.get(_CALLS[kind])
        arguments = sent if isinstance(sent, str) else as_json(sent)
        call = Call(string(item.get("name")), arguments, string(item.get("call_id") or item.get("id")), _KINDS[kind])
        return Turn(Role.ASSISTANT, (call,))
    if kind in _OUTPUTS:
        output = item.get("output")
        inside = [Text(output)] if isinstance(output, str) else [_read_part(part) for part in items(output)]
        parts = tuple(part for part in inside if isinstance(part, Text | Reference | Unknown))
        return Turn(Role.TOOL, (Result(parts, string(item.get("call_id"))),))
    return Turn(Role.ASSISTANT, (Unknown(kind, as_json(given)),))


def _read_part(given: Any) -> Part:
    part = mapping(given)
    kind = string(part.get("type"))
    if kind in ("input_text", "output_text", "text"):
        if set(part) <= _SAID and not part.get("annotations"):
            return Text(string(part.get("text")))
        return Unknown(kind, as_json(given))
    if (
        kind == "input_image"
        and isinstance(part.get("image_url"), str)
        and set(part) <= {"type", "image_url", "detail"}
    ):
        return read_url("image", part["image_url"])
    if (
        kind == "input_file"
        and isinstance(part.get("file_data"), str)
        and set(part) <= {"type", "file_data", "filename"}
    ):
        file = read_url("file", part["file_data"])
        return Reference(file.kind, file.media_type, file.url, "", file.data, string(part.get("filename")))
    return read_part(given) if kind == "refusal" else Unknown(kind or "?", as_json(given))


def _read_reasoning(item: Any) -> Part:
    text = "".join(string(mapping(one).get("text")) for one in items(item.get("content")))
    summary = "".join(string(mapping(one).get("text")) for one in items(item.get("summary")))
    return Reasoning(text, summary, encrypted=string(item.get("encrypted_content")), id=string(item.get("id")))


def write_items(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Turns as items. Raises CannotWrite."""
    writer = ItemWriter()
    return [item for turn in turns for item in writer.write(turn)]


class ItemWriter:
    """Writes turns as items, one after the other: what a result is called depends on the call before it."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def write(self, turn: Turn) -> list[dict[str, Any]]:
        """The items of a turn. Raises CannotWrite."""
        found: list[dict[str, Any]] = []
        said: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Text | Refusal | Reference) and turn.role is not Role.TOOL:
                said.append(part)
                continue
            found += _message(turn.role, said)
            said = []
            found.append(_write_item(part, self._kinds))
        return found + _message(turn.role, said)


def _message(role: Role, parts: list[Part]) -> list[dict[str, Any]]:
    if not parts:
        return []
    return [{"type": "message", "role": str(role), "content": [_write_part(part, role) for part in parts]}]


def _write_part(part: Part, role: Role) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "output_text" if role is Role.ASSISTANT else "input_text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if isinstance(part, Reference) and part.kind == "image":
        return {"type": "input_image", "image_url": write_url(part)}
    if isinstance(part, Reference) and part.kind == "file":
        named = {"filename": part.name} if part.name else {}
        return {
            "type": "input_file",
            "file_data": write_url(Reference("file", part.media_type, part.url, part.digest, part.data)),
        } | named
    raise CannotWrite("parts of other types than text, images and files")


def _write_item(part: Part, kinds: dict[str, str]) -> dict[str, Any]:
    if isinstance(part, Reasoning):
        if part.signature:
            raise CannotWrite("signatures of reasoning")
        item: dict[str, Any] = {"type": "reasoning", "id": part.id, "summary": []}
        item |= {"summary": [{"type": "summary_text", "text": part.summary}]} if part.summary else {}
        item |= {"content": [{"type": "reasoning_text", "text": part.text}]} if part.text else {}
        return item | ({"encrypted_content": part.encrypted} if part.encrypted else {})
    if isinstance(part, Call):
        kind = next((kind for kind, called in _KINDS.items() if called == part.kind), "")
        if not kind or (part.kind == "local_shell" and part.name):
            raise CannotWrite(f"calls of type {part.kind}")
        kinds[part.id] = kind
        sent = items(f"[{part.arguments}]")[0] if part.kind == "local_shell" else part.arguments
        named = {} if part.kind == "local_shell" else {"name": part.name}
        return {"type": kind, "call_id": part.id, **named, _CALLS[kind]: sent}
    if isinstance(part, Result):
        kind = kinds.get(part.call, "function_call")
        texts = [_write_part(one, Role.TOOL) for one in part.parts]
        output = part.parts[0].text if len(part.parts) == 1 and isinstance(part.parts[0], Text) else texts
        return {"type": f"{kind}_output", "call_id": part.call, "output": output if texts else ""}
    raise CannotWrite("parts of types that are not known")


def _write_tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"type": tool.kind, "name": tool.name}
    said |= {"description": tool.description} if tool.description else {}
    said |= {"parameters": items(f"[{tool.parameters}]")[0]} if tool.parameters else {}
    return said | (items(f"[{tool.extra}]")[0] if tool.extra else {})
