"""Claude Code's session files: JSON lines, a tree by ``uuid`` and ``parentUuid``.

One answer is spread over several lines (one a block, with one ``message.id``); what each tool gave back is a line of its own;
attachments are lines, too, with the text that the model saw (``rendered``); where that is not in the file, what they hold stands
in its place as a reminder. The line that was written last ends the main conversation; other ends are forks of it, and side chains
are the conversations of sub-agents. Written and read as of 2.1.332.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from stillhouse.conversations.finishes import finish_label
from stillhouse.conversations.formats import anthropic_messages
from stillhouse.conversations.formats.format import (
    CannotRead,
    CannotWrite,
    Detail,
    Format,
    as_json,
    entries_of,
    items,
    made,
    mapping,
    string,
    with_broken,
)
from stillhouse.conversations.record import (
    Call,
    Conversation,
    Result,
    Role,
    Text,
    Tool,
    Turn,
    Unknown,
    in_turns,
    prefix_digests,
)
from stillhouse.conversations.usage import anthropic_usage

LEAVES_OUT = anthropic_messages.LEAVES_OUT - {Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.IDS}
_TURNS = ("user", "assistant", "attachment", "system")
# It is the system text and the tools, which are read apart.
_SILENT = frozenset({"prompt_snapshot"})
# What stands in an attachment that is no text.
_FILES = ('"base64"', '"type":"image"', '"type":"pdf"', '"type":"document"')


def read(given: Any) -> list[Conversation]:
    """The conversations of a file's entries: the main one first. Raises CannotRead."""
    entries, broken = entries_of(given)
    said = _linked(entries)
    if not any(isinstance(one.get("message"), Mapping) for one in said.values()):
        raise CannotRead("it has no entries of a session")
    session = next((string(one["sessionId"]) for one in entries if one.get("sessionId")), "")
    results = _results(said.values())
    found: list[Conversation] = []
    for path in _paths(said):
        conversation = _conversation(path, results)
        if conversation is not None:
            found.append(_placed(conversation, found, session, string(path[-1]["uuid"])))
    if not found:
        raise CannotRead("nothing is said in it")
    return [with_broken(found[0], broken), *found[1:]]


def _linked(entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The entries that say something, by name; each has the nearest one before it as its parent, whatever stands between."""
    every = {string(one.get("uuid")): one for one in entries if one.get("uuid")}
    found: dict[str, Mapping[str, Any]] = {}
    for uuid, one in every.items():
        if one.get("type") in _TURNS:
            parent, seen = _parent(one), {uuid}
            while parent in every and every[parent].get("type") not in _TURNS and parent not in seen:
                seen.add(parent)
                parent = _parent(every[parent])
            found[uuid] = {**one, "parentUuid": parent} if parent != _parent(one) else one
    return found


def _paths(said: Mapping[str, Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The entries of each conversation, in order. Where no entry has a parent here, all of them follow each other."""
    if not any(_parent(one) in said for one in said.values()):
        return [list(said.values())]
    return [_path(leaf, said) for leaf in _leaves(said)]


def _leaves(said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where conversations end: the main one's end first. A result is no end where its call's answer went on without it."""
    parents = _answered(said)
    leaves = [uuid for uuid, one in said.items() if uuid not in parents and one.get("type") in ("user", "assistant")]
    ends = [uuid for uuid in leaves if not (_is_result(said[uuid]) and _goes_on(said[uuid], said))] or leaves
    main = [uuid for uuid in ends if not said[uuid].get("isSidechain")]
    ordered = [uuid for uuid in ends if uuid not in main[-1:]]
    return main[-1:] + ordered


def _answered(said: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What is said by users and models that a user or a model has gone on from; the client's notes between and after do not."""
    found: set[str] = set()
    for one in said.values():
        if one.get("type") not in ("user", "assistant"):
            continue
        parent = _parent(one)
        while parent in said and parent not in found:
            found.add(parent)
            if said[parent].get("type") in ("user", "assistant"):
                break
            parent = _parent(said[parent])
    return found


def _parent(entry: Mapping[str, Any]) -> str:
    return string(entry.get("parentUuid"))


def _is_result(entry: Mapping[str, Any]) -> bool:
    content = entry.get("message", {}).get("content") if isinstance(entry.get("message"), Mapping) else None
    return isinstance(content, list) and any(
        isinstance(one, Mapping) and one.get("type") == "tool_result" for one in content
    )


def _goes_on(entry: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]]) -> bool:
    """Has the answer, one of whose calls this is the result of, another entry after it?"""
    return any(other is not entry and _parent(other) == _parent(entry) for other in said.values())


def _path(leaf: str, said: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    path: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while leaf in said:
        if leaf in seen:
            raise CannotRead("its entries are each other's parents")
        seen.add(leaf)
        path.append(said[leaf])
        leaf = _parent(said[leaf])
    return path[::-1]


def _results(entries: Any) -> dict[str, list[tuple[str, Result]]]:
    """Every result by the id of its call, with the entry that it stands in."""
    found: dict[str, list[tuple[str, Result]]] = {}
    for entry in entries:
        if _is_result(entry):
            for part in anthropic_messages.read_blocks(entry["message"]["content"]):
                if isinstance(part, Result):
                    found.setdefault(part.call, []).append((string(entry["uuid"]), part))
    return found


def _conversation(
    path: Sequence[Mapping[str, Any]], results: Mapping[str, list[tuple[str, Result]]]
) -> Conversation | None:
    turns: list[Turn] = []
    tools: tuple[Tool, ...] = ()
    system: Turn | None = None
    here = {string(entry["uuid"]) for entry in path}
    answered: set[str] = set()
    for entry in path:
        attached = entry.get("attachment")
        if isinstance(attached, Mapping) and attached.get("type") == "prompt_snapshot":
            texts = [Text(text) for text in items(attached.get("systemPrompt")) if isinstance(text, str)]
            system = Turn(Role.SYSTEM, tuple(texts)) if texts else system
            defined = [mapping(mapping(one).get("schema", one)) for one in items(attached.get("tools"))]
            tools = tuple(map(anthropic_messages.read_tool, defined)) or tools
        for turn in _entry(entry):
            if turn.role is Role.TOOL:
                # A path goes through one of the results of an answer's calls: the others stand beside it.
                parts = [part for part in turn.parts if isinstance(part, Result) and part.call not in answered]
                turns += [msgspec.structs.replace(turn, parts=tuple(parts))] if parts else []
                answered |= {part.call for part in parts}
                continue
            if _is_same_answer(turns, turn):
                before = turns.pop()
                turns.append(msgspec.structs.replace(turn, parts=before.parts + turn.parts, time=before.time))
            else:
                _beside(turns, results, here, answered)
                turns.append(turn)
    _beside(turns, results, here, answered)
    said = _in_order(in_turns(msgspec.structs.replace(turn, key="") for turn in turns))
    try:
        return made([*([system] if system else []), *said], tools)
    except CannotRead:
        return None


def _is_same_answer(turns: Sequence[Turn], turn: Turn) -> bool:
    return bool(turns) and turn.role is turns[-1].role is Role.ASSISTANT and turn.key == turns[-1].key != ""


def _in_order(turns: Sequence[Turn]) -> list[Turn]:
    """Turns, with results in the order of their calls."""
    found: list[Turn] = []
    for turn in turns:
        if turn.role is not Role.TOOL or not found:
            found.append(turn)
            continue
        calls = [part.id for part in found[-1].parts if isinstance(part, Call)]
        place = {id: number for number, id in enumerate(calls)}
        parts = sorted(turn.parts, key=lambda part: place.get(part.call, len(place)) if isinstance(part, Result) else 0)
        found.append(msgspec.structs.replace(turn, parts=tuple(parts)))
    return found


def _beside(
    turns: list[Turn], results: Mapping[str, list[tuple[str, Result]]], here: set[str], answered: set[str]
) -> None:
    """Add the results of the last answer's calls that stand in no entry of the path."""
    last = next((turn for turn in reversed(turns) if turn.role is not Role.TOOL), None)
    if last is None or last.role is not Role.ASSISTANT:
        return
    for part in last.parts:
        if isinstance(part, Call) and part.id not in answered and part.id in results:
            uuid, result = results[part.id][0]
            if uuid not in here:
                turns.append(Turn(Role.TOOL, (result,)))
                answered.add(part.id)


def _entry(entry: Mapping[str, Any]) -> Iterator[Turn]:
    """What an entry says, as turns; an assistant's has the message's id as its key until the lines of one are joined."""
    time = string(entry.get("timestamp"))
    if entry.get("type") == "attachment":
        yield from _attachment(entry, time)
        return
    if "message" not in entry:
        return
    message = entry["message"]
    if not isinstance(message, Mapping) or message.get("content") is None:
        yield Turn(Role.USER, (Unknown("message without content", as_json(message)),), time=time)
        return
    for turn in anthropic_messages.read_message(message):
        if turn.role is Role.ASSISTANT:
            stop = message.get("stop_reason")
            finish = "error" if entry.get("isApiErrorMessage") else finish_label(stop) if stop else ""
            usage = anthropic_usage(message["usage"]) if isinstance(message.get("usage"), Mapping) else None
            yield msgspec.structs.replace(
                turn,
                finish=finish,
                usage=usage,
                time=time,
                model=string(message.get("model")),
                key=string(message.get("id")),
            )
        else:
            yield msgspec.structs.replace(turn, time=time)


def _attachment(entry: Mapping[str, Any], time: str) -> Iterator[Turn]:
    kind = string(mapping(entry.get("attachment") or {}).get("type"))
    if kind in _SILENT:
        return
    role = Role.SYSTEM if entry.get("renderedRole") == "system" else Role.USER
    rendered = items(entry.get("rendered"))
    if not rendered and "rendered" not in entry:
        attached = mapping(entry.get("attachment") or {})
        said = as_json(attached)
        is_text = not any(sign in said for sign in _FILES)
        part = Text(_reminder(attached)) if is_text else Unknown(f"attachment {kind}"[:80], said)
        yield Turn(role, (part,), time=time)
    for one in rendered:
        yield Turn(role, tuple(anthropic_messages.read_blocks(mapping(one).get("content"))), time=time)


def _reminder(attached: Mapping[str, Any]) -> str:
    """What an attachment tells the model, where the file has not the words in which it was told."""
    told = attached.get("content")
    if not isinstance(told, str):
        lines = attached.get("addedLines")
        plain = isinstance(lines, list) and all(isinstance(line, str) for line in lines)
        told = "\n".join(lines) if isinstance(lines, list) and plain else as_json(dict(attached))
    return f"<system-reminder>\n{told}\n</system-reminder>"


def _placed(conversation: Conversation, before: Sequence[Conversation], session: str, leaf: str) -> Conversation:
    """A conversation with its name, and what it shares with the main one."""
    if not before:
        return msgspec.structs.replace(conversation, id=session)
    pairs = zip(prefix_digests(before[0].turns), prefix_digests(conversation.turns), strict=False)
    shared = sum(1 for one, other in pairs if one == other)
    return msgspec.structs.replace(conversation, id=f"{session}/{leaf}", parent=session, fork=shared)


def write(conversation: Conversation) -> list[dict[str, Any]]:
    """Entries of a session. Raises CannotWrite."""
    entries: list[dict[str, Any]] = []
    turns = list(conversation.turns)
    system = turns.pop(0) if turns and turns[0].role in (Role.SYSTEM, Role.DEVELOPER) else None
    if system is not None or conversation.tools:
        texts = system.parts if system is not None else ()
        if not all(isinstance(part, Text) for part in texts):
            raise CannotWrite("a system text that is more than text")
        tools = [{"name": tool.name, "schema": anthropic_messages.write_tool(tool)} for tool in conversation.tools]
        snapshot = {
            "type": "prompt_snapshot",
            "systemPrompt": [part.text for part in texts if isinstance(part, Text)],
            "tools": tools,
        }
        _add(entries, conversation, {"type": "attachment", "attachment": snapshot})
    for number, turn in enumerate(turns):
        time = {"timestamp": turn.time} if turn.time else {}
        blocks = anthropic_messages.write_blocks(turn.parts)
        if turn.role is Role.ASSISTANT:
            message: dict[str, Any] = {
                "id": f"msg_{number}",
                "type": "message",
                "role": "assistant",
                "model": turn.model,
            }
            message |= {"stop_reason": turn.finish} if turn.finish else {}
            if turn.usage is not None:
                message["usage"] = {
                    "input_tokens": turn.usage.prompt_tokens,
                    "output_tokens": turn.usage.completion_tokens,
                }
            for block in [[one] for one in blocks] or [[]]:
                _add(entries, conversation, {"type": "assistant", "message": {**message, "content": block}, **time})
        elif turn.role in (Role.USER, Role.TOOL):
            _add(entries, conversation, {"type": "user", "message": {"role": "user", "content": blocks}, **time})
        else:
            rendered = {"rendered": [{"content": blocks}], "renderedRole": "system"}
            _add(entries, conversation, {"type": "attachment", "attachment": {"type": "text"}, **rendered, **time})
    return entries


def _add(entries: list[dict[str, Any]], conversation: Conversation, said: dict[str, Any]) -> None:
    before = entries[-1]["uuid"] if entries else None
    tree = {"uuid": f"entry-{len(entries)}", "parentUuid": before, "isSidechain": False, "sessionId": conversation.id}
    entries.append(tree | said)


FORMAT = Format("claude-code", read, write, LEAVES_OUT)
