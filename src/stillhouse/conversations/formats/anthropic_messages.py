"""Anthropic's messages: ``system``, ``messages`` of typed blocks, and ``tools`` with an ``input_schema``.

Source: Anthropic, "Messages" and "Tool use". Results of tools stand in the user's next message there; here they are turns.
"""

import itertools
from collections.abc import Iterable, Mapping
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
    string,
)
from stillhouse.conversations.record import (
    FUNCTION,
    Call,
    Conversation,
    Part,
    Reasoning,
    Reference,
    Result,
    Role,
    Text,
    Tool,
    Turn,
    Unknown,
)

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.NAMES, Detail.RESULT_NAMES,
    Detail.LAYOUT, Detail.OUTCOME, Detail.LINEAGE, Detail.IDS, Detail.MEDIA_TYPES, Detail.REFUSALS, Detail.DEVELOPER,
})  # fmt: skip
# What says nothing of what was said: how it was counted, found or named.
_BESIDE = frozenset({
    "role", "content", "id", "type", "model", "usage", "stop_reason", "stop_sequence", "stop_details", "container",
    "context_management", "cache_control", "timestamp", "index", "name", "diagnostics",
})  # fmt: skip
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}


def read(given: Any) -> list[Conversation]:
    """The conversation of a request's body."""
    body = mapping(given)
    messages = items(body.get("messages"))
    if not messages:
        raise CannotRead("there are no messages")
    system = [Turn(Role.SYSTEM, tuple(read_blocks(body["system"])))] if body.get("system") else []
    turns = [turn for message in messages for turn in read_message(message)]
    return [made([*system, *turns], map(read_tool, items(body.get("tools"))))]


def write(conversation: Conversation) -> dict[str, Any]:
    """A body with ``system``, ``messages`` and ``tools``."""
    turns, body = list(conversation.turns), dict[str, Any]()
    if turns and turns[0].role in (Role.SYSTEM, Role.DEVELOPER):
        body["system"] = write_blocks(turns.pop(0).parts)
    body["messages"] = [
        {"role": _role_of(turn.role), "content": write_blocks(turn.parts)} for turn in turns
    ]  # fmt: skip
    return body | ({"tools": list(map(write_tool, conversation.tools))} if conversation.tools else {})


FORMAT = Format("anthropic", read, write, LEAVES_OUT)


def read_message(given: Any) -> list[Turn]:
    """A message as turns: the results in it, and what is said beside them, in their order."""
    message = mapping(given)
    role = _ROLES.get(string(message.get("role")))
    if role is None:
        raise CannotRead("a message has a role that is not known")
    parts = read_blocks(message.get("content"))
    parts += [
        Unknown(name, as_json(value)) for name, value in message.items()
        if name not in _BESIDE and value not in (None, "", [], {})
    ]  # fmt: skip
    if role is not Role.USER:
        return [Turn(role, tuple(parts))]
    runs = itertools.groupby(parts, lambda part: isinstance(part, Result))
    return [Turn(Role.TOOL if results else role, tuple(run)) for results, run in runs]


def read_blocks(content: Any) -> list[Part]:
    """The parts of a content: a text or a list of blocks."""
    if isinstance(content, str):
        return [Text(content)]
    return [_read_block(block) for block in items(content)]


def _read_block(given: Any) -> Part:
    if isinstance(given, str):
        return Text(given)
    block = {name: value for name, value in mapping(given).items() if name != "cache_control" and value is not None}
    kind = string(block.pop("type", "")) or "?"
    fields = set(block) - {"caller"}
    if kind == "text" and fields <= {"text", "citations"} and not block.get("citations"):
        return Text(string(block.get("text")))
    if kind == "thinking" and fields <= {"thinking", "signature"}:
        return Reasoning(string(block.get("thinking")), signature=string(block.get("signature")))
    if kind == "redacted_thinking" and fields == {"data"}:
        return Reasoning(encrypted=string(block["data"]))
    if kind == "tool_use" and fields <= {"id", "name", "input"}:
        arguments = block.get("input", {})
        sent = arguments if isinstance(arguments, str) else as_json(arguments)
        return Call(string(block.get("name")), sent, string(block.get("id")))
    if kind == "tool_result" and fields <= {"tool_use_id", "content", "is_error"}:
        inside = tuple(read_blocks(block.get("content") or []))
        if all(isinstance(part, Text | Reference | Unknown) for part in inside):
            return Result(inside, string(block.get("tool_use_id")), is_error=bool(block.get("is_error")))  # type: ignore[arg-type]
    if kind in ("image", "document") and fields == {"source"} and isinstance(block["source"], Mapping):
        return _read_source("image" if kind == "image" else "file", block["source"]) or Unknown(kind, as_json(given))
    return Unknown(kind, as_json(given))


def _read_source(kind: str, source: Mapping[str, Any]) -> Reference | None:
    if source.get("type") == "base64" and set(source) == {"type", "media_type", "data"}:
        return Reference(kind, string(source["media_type"]), data=string(source["data"]))
    if source.get("type") == "url" and set(source) == {"type", "url"}:
        return Reference(kind, url=string(source["url"]))
    return None


def write_blocks(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Parts as blocks. Raises CannotWrite."""
    return list(map(_write_block, parts))


def _write_block(part: Part) -> dict[str, Any]:
    if isinstance(part, Reasoning):
        if part.summary or part.id or (part.encrypted and (part.text or part.signature)):
            raise CannotWrite("summaries, ids and several forms of reasoning")
        if part.encrypted:
            return {"type": "redacted_thinking", "data": part.encrypted}
        return {"type": "thinking", "thinking": part.text} | ({"signature": part.signature} if part.signature else {})
    if isinstance(part, Call):
        if part.kind != FUNCTION:
            raise CannotWrite(f"calls of type {part.kind}")
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": as_object(part.arguments)}
    if isinstance(part, Result):
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": part.call, "content": write_blocks(part.parts)}
        return result | ({"is_error": True} if part.is_error else {})
    if isinstance(part, Reference) and part.kind in ("image", "file") and not part.digest and not part.name:
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
        if not part.data:
            source = {"type": "url", "url": part.url}
        return {"type": "image" if part.kind == "image" else "document", "source": source}
    if isinstance(part, Unknown | Reference):
        raise CannotWrite("parts of other types than text, images and files")
    return {"type": "text", "text": part.text}


def _role_of(role: Role) -> str:
    if role is Role.TOOL:
        return "user"
    return "system" if role is Role.DEVELOPER else str(role)


def read_tool(given: Any) -> Tool:
    """A definition of a tool."""
    tool = dict(mapping(given))
    kind = string(tool.pop("type", "")) or "custom"
    name, description = string(tool.pop("name", "")), string(tool.pop("description", ""))
    schema = tool.pop("input_schema", None)
    extra = {field: value for field, value in tool.items() if value is not None and field != "cache_control"}
    return Tool(
        name, description, as_json(schema) if schema is not None else "", FUNCTION if kind == "custom" else kind,
        as_json(extra) if extra else "",
    )  # fmt: skip


def write_tool(tool: Tool) -> dict[str, Any]:
    """A definition of a tool."""
    said: dict[str, Any] = {"name": tool.name} if tool.kind == FUNCTION else {"type": tool.kind, "name": tool.name}
    said |= {"description": tool.description} if tool.description else {}
    said |= {"input_schema": items(f"[{tool.parameters}]")[0]} if tool.parameters else {}
    return said | (items(f"[{tool.extra}]")[0] if tool.extra else {})
