"""Sessions of the pi coding agent: JSON lines, linear in its first versions, later a tree by ``id`` and ``parentId``.

A compaction goes on from a summary and the entries that it kept (``firstKeptEntryId``).
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import msgspec

from stillhouse.conversations.finishes import finish_label
from stillhouse.conversations.formats.format import (
    CannotRead,
    CannotWrite,
    Detail,
    Format,
    as_json,
    as_object,
    entries_of,
    items,
    made,
    mapping,
    string,
    with_broken,
)
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
    Turn,
    Unknown,
    prefix_digests,
)
from stillhouse.conversations.usage import count
from stillhouse.nouns import Usage

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.NAMES, Detail.LAYOUT, Detail.TOOLS, Detail.OUTCOME, Detail.LINEAGE, Detail.REFUSALS,
    Detail.MEDIA_TYPES,
})  # fmt: skip
_NO_TURNS = frozenset({"session", "model_change", "thinking_level_change", "label", "session_info", "custom"})
_ROLES = {
    "custom": Role.USER,
    "hookMessage": Role.USER,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.DEVELOPER,
}


def read(given: Any) -> list[Conversation]:
    """The conversations of a file's entries: the one that was written last first. Raises CannotRead."""
    entries, broken = entries_of(given)
    if not entries or not any(one.get("type") == "session" for one in entries):
        raise CannotRead("it has no entries of a session")
    header = next(one for one in entries if one.get("type") == "session")
    session, before = string(header.get("id")), string(header.get("parentSession"))
    tree = {string(one["id"]): one for one in entries if one.get("id") and one.get("type") != "session"}
    paths = _paths(tree) if tree else [[one for one in entries if one.get("type") != "session"]]
    found: list[Conversation] = []
    for path in paths:
        turns = [turn for entry in _kept(path) for turn in _turns(entry)]
        conversation = made(turns)
        if not found:
            whole = with_broken(conversation, broken)
            found.append(msgspec.structs.replace(whole, id=session, parent=PurePath(before).stem))
            continue
        pairs = zip(prefix_digests(found[0].turns), prefix_digests(conversation.turns), strict=False)
        shared = sum(1 for one, other in pairs if one == other)
        found.append(
            msgspec.structs.replace(conversation, id=f"{session}/{path[-1]['id']}", parent=session, fork=shared)
        )
    return found


def _paths(tree: Mapping[str, Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    parents = {string(one.get("parentId")) for one in tree.values()}
    paths = []
    for leaf in [id for id in tree if id not in parents][::-1]:
        path, at, seen = list[Mapping[str, Any]](), leaf, set[str]()
        while at in tree:
            if at in seen:
                raise CannotRead("its entries are each other's parents")
            seen.add(at)
            path.append(tree[at])
            at = string(tree[at].get("parentId"))
        paths.append(path[::-1])
    if not paths:
        raise CannotRead("its entries are each other's parents")
    return paths


def _kept(path: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the model was told at the end of a path: the last compaction, what it kept, and what came after."""
    last = next((place for place in range(len(path) - 1, -1, -1) if path[place].get("type") == "compaction"), None)
    if last is None:
        return list(path)
    first, number = path[last].get("firstKeptEntryId"), path[last].get("firstKeptEntryIndex")
    start = next((place for place, entry in enumerate(path[:last]) if first and entry.get("id") == first), last)
    if not first and isinstance(number, int):  # the first versions counted entries, with that of the session
        start = max(0, number - 1)
    return [path[last], *(entry for entry in path[start:last] if entry.get("type") != "compaction"), *path[last + 1 :]]


def _turns(entry: Mapping[str, Any]) -> list[Turn]:
    kind, time = string(entry.get("type")), string(entry.get("timestamp"))
    if kind in _NO_TURNS:
        return []
    if kind in ("compaction", "branch_summary"):
        return [Turn(Role.USER, (Text(string(entry.get("summary"))),), time=time)]
    if kind not in ("message", "custom_message"):
        return [Turn(Role.USER, (Unknown(kind, as_json(dict(entry))),), time=time)]
    message = mapping(entry.get("message", entry))
    content = message.get("content")
    parts = [Text(content)] if isinstance(content, str) else [_part(mapping(one)) for one in items(content)]
    role = string(message.get("role")) or "user"
    if role == "toolResult":
        inside = tuple(part for part in parts if isinstance(part, Text | Reference | Unknown))
        named = string(message.get("toolCallId")), string(message.get("toolName"))
        return [Turn(Role.TOOL, (Result(inside, *named, bool(message.get("isError"))),), time=time)]
    if role == "bashExecution":  # the user's own command, which the model is told of, if it is not kept out
        said = f"$ {string(message.get('command'))}\n{string(message.get('output'))}"
        return [] if message.get("excludeFromContext") else [Turn(Role.USER, (Text(said),), time=time)]
    if role in ("branchSummary", "compactionSummary"):
        return [Turn(Role.USER, (Text(string(message.get("summary"))),), time=time)]
    if role not in _ROLES:
        return [Turn(Role.USER, (Unknown(role, as_json(dict(message))),), time=time)]
    stop, counts = message.get("stopReason"), message.get("usage")
    usage = None
    if isinstance(counts, Mapping):
        prompt = [count(counts.get(name) or 0) for name in ("input", "cacheRead", "cacheWrite")]
        usage = Usage(count(sum(prompt)) if min(prompt) >= 0 else -1, count(counts.get("output") or 0))
    finish = finish_label(_STOPS.get(str(stop), stop)) if stop else ""
    return [Turn(_ROLES[role], tuple(parts), 0, finish, usage, time, string(message.get("model")))]


_STOPS = {"toolUse": "tool_use", "aborted": "cancelled"}


def _part(part: Mapping[str, Any]) -> Part:
    kind = string(part.get("type"))
    if kind == "text" and set(part) <= {"type", "text", "textSignature"}:
        return Text(string(part.get("text")))
    if kind == "thinking" and set(part) <= {"type", "thinking", "thinkingSignature", "redacted"}:
        said, signature = string(part.get("thinking")), string(part.get("thinkingSignature"))
        return Reasoning(encrypted=signature) if part.get("redacted") else Reasoning(said, signature=signature)
    if kind == "toolCall" and set(part) <= {"type", "id", "name", "arguments", "partialJson", "thoughtSignature"}:
        return Call(string(part.get("name")), as_json(part.get("arguments") or {}), string(part.get("id")))
    if kind == "image" and set(part) <= {"type", "data", "mimeType"}:
        return Reference("image", string(part.get("mimeType")), data=string(part.get("data")))
    return Unknown(kind or "?", as_json(dict(part)))


def write(conversation: Conversation) -> list[dict[str, Any]]:
    """Entries of a session. Raises CannotWrite."""
    entries: list[dict[str, Any]] = [{"type": "session", "id": conversation.id}]
    for turn in conversation.turns:
        for message in _messages(turn):
            before = entries[-1]["id"] if len(entries) > 1 else None
            time = {"timestamp": turn.time} if turn.time else {}
            entries.append(
                {"type": "message", "id": f"{len(entries):08x}", "parentId": before, **time, "message": message}
            )
    return entries


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if turn.role is Role.TOOL:
        return [_result(part) for part in turn.parts]
    message: dict[str, Any] = {"role": str(turn.role), "content": [_write_part(part) for part in turn.parts]}
    message |= {"model": turn.model} if turn.model else {}
    message |= {"stopReason": turn.finish} if turn.finish else {}
    if turn.usage is not None:
        if min(turn.usage.prompt_tokens, turn.usage.completion_tokens) < 0:
            raise CannotWrite("counts of tokens that are not known")
        message["usage"] = {"input": turn.usage.prompt_tokens, "output": turn.usage.completion_tokens}
    return [message]


def _result(part: Part) -> dict[str, Any]:
    if not isinstance(part, Result):
        raise CannotWrite("a tool's turn that is no result")
    said = {"toolCallId": part.call, "toolName": part.name, "content": [_write_part(one) for one in part.parts]}
    return {"role": "toolResult", **said, "isError": part.is_error}


def _write_part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text | Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Reasoning) and part.encrypted and part == Reasoning(encrypted=part.encrypted):
        return {"type": "thinking", "thinking": "", "thinkingSignature": part.encrypted, "redacted": True}
    if isinstance(part, Reasoning) and part == Reasoning(part.text, signature=part.signature):
        return {"type": "thinking", "thinking": part.text} | (
            {"thinkingSignature": part.signature} if part.signature else {}
        )
    if isinstance(part, Call) and part.kind == FUNCTION:
        return {"type": "toolCall", "id": part.id, "name": part.name, "arguments": as_object(part.arguments)}
    if isinstance(part, Reference) and part.kind == "image" and part.data and not part.name:
        return {"type": "image", "data": part.data, "mimeType": part.media_type}
    raise CannotWrite("parts of other types than text, reasoning, calls and images")


FORMAT = Format("pi", read, write, LEAVES_OUT)
