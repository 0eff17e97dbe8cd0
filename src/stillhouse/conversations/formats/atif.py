"""ATIF, the Agent Trajectory Interchange Format: ``steps`` of a system, a user and an agent, each agent's step with its calls and
what they gave back.

Source: Harbor, "ATIF" 1.8; the package ``atif`` checks what is written here in the tests. A document is one conversation; agents
that it started (``subagent_trajectories``) are others, with it as their parent.
"""

from collections.abc import Mapping, Sequence
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
    Outcome,
    Part,
    Reasoning,
    Reference,
    Refusal,
    Result,
    Role,
    Text,
    Turn,
    Unknown,
)
from stillhouse.conversations.usage import count
from stillhouse.nouns import Usage

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.NAMES, Detail.RESULT_NAMES, Detail.ORDER, Detail.PIECES, Detail.DEVELOPER, Detail.LAYOUT,
    Detail.REFUSALS,
})  # fmt: skip
VERSION = "ATIF-v1.8"
_SOURCES = {"system": Role.SYSTEM, "user": Role.USER, "agent": Role.ASSISTANT}
_OURS = "stillhouse"
_MEDIA = {
    "image": frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
    "audio": frozenset(
        {"audio/wav", "audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/flac", "audio/webm", "audio/aiff"}
    ),
}


def read(given: Any) -> list[Conversation]:
    """The conversation of a document, and those of the agents that it started."""
    document = mapping(given)
    if not string(document.get("schema_version")).startswith("ATIF"):
        raise CannotRead("it names no version of ATIF")
    agent = mapping(document.get("agent"))
    model = string(agent.get("model_name"))
    ours = mapping(_extra(document))
    turns = [turn for step in items(document.get("steps")) for turn in _read_step(mapping(step), model)]
    outcome = mapping(ours["outcome"]) if "outcome" in ours else None
    id = string(document.get("trajectory_id") or document.get("session_id"))
    whole = made(
        turns, map(read_tool, items(agent.get("tool_definitions"))),
        Outcome(outcome.get("passed"), outcome.get("reward"), string(outcome.get("why"))) if outcome is not None else None,
        id, string(ours.get("parent")), int(ours.get("fork", 0)),
    )  # fmt: skip
    below = [one for each in items(document.get("subagent_trajectories")) for one in read(each)]
    return [whole, *(Conversation(b.turns, b.tools, b.outcome, b.id, b.parent or id, b.fork) for b in below)]


def write(conversation: Conversation) -> dict[str, Any]:
    """A document. Raises CannotWrite."""
    steps: list[dict[str, Any]] = []
    turns = list(conversation.turns)
    for place, turn in enumerate(turns):
        if turn.role is Role.TOOL:
            if not place or turns[place - 1].role is not Role.ASSISTANT:
                raise CannotWrite("results without the answer that asked for them")
            steps[-1]["observation"] = {"results": [_write_result(part, turns[place - 1]) for part in turn.parts]}
            if turn.time:
                steps[-1].setdefault("extra", {}).setdefault(_OURS, {})["results_time"] = turn.time
        else:
            steps.append({"step_id": len(steps) + 1, **_write_turn(turn)})
    agent: dict[str, Any] = {"name": "unknown", "version": "unknown"}
    agent |= {"tool_definitions": [write_tool(tool) for tool in conversation.tools]} if conversation.tools else {}
    document: dict[str, Any] = {"schema_version": VERSION, "agent": agent, "steps": steps}
    document |= {"trajectory_id": conversation.id} if conversation.id else {}
    ours: dict[str, Any] = {"parent": conversation.parent} if conversation.parent else {}
    ours |= {"fork": conversation.fork} if conversation.fork else {}
    if conversation.outcome is not None:
        ours["outcome"] = {"passed": conversation.outcome.passed, "reward": conversation.outcome.reward,
                           "why": conversation.outcome.why}  # fmt: skip
    return document | ({"extra": {_OURS: ours}} if ours else {})


FORMAT = Format("atif", read, write, LEAVES_OUT)


def _extra(given: Mapping[str, Any]) -> Any:
    extra = given.get("extra")
    return extra.get(_OURS, {}) if isinstance(extra, Mapping) else {}


def _read_step(step: Mapping[str, Any], model: str) -> list[Turn]:
    role = _SOURCES.get(string(step.get("source")))
    if role is None:
        raise CannotRead("a step has a source that is not known")
    ours, time = mapping(_extra(step)), string(step.get("timestamp"))
    if role is Role.ASSISTANT and step.get(
        "is_copied_context"
    ):  # of another trajectory: it must not be learned from this one
        return [Turn(role, (Unknown("copied context", as_json(dict(step))),), time=time)]
    parts: list[Part] = [Reasoning(string(step["reasoning_content"]))] if step.get("reasoning_content") else []
    if ours.get("thoughts"):
        parts = [Reasoning(**mapping(one)) for one in items(ours["thoughts"])]
    parts += _read_content(step.get("message"))
    parts += [_read_call(mapping(call)) for call in items(step.get("tool_calls"))]
    named = string(step.get("model_name")) or (model if role is Role.ASSISTANT else "")
    turns = [Turn(role, tuple(parts), 0, string(ours.get("finish")), _read_usage(step.get("metrics")), time, named)]
    results = items(mapping(step.get("observation") or {}).get("results"))
    if results:
        turns.append(Turn(Role.TOOL, tuple(map(_read_result, results)), time=string(ours.get("results_time"))))
    return turns


def _read_content(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    found: list[Part] = []
    for one in items(content):
        part = mapping(one)
        source = part.get("source")
        if part.get("type") == "text":
            found.append(Text(string(part.get("text"))))
        elif isinstance(source, Mapping) and set(source) <= {"media_type", "path"}:
            found.append(
                Reference(string(part.get("type")), string(source.get("media_type")), string(source.get("path")))
            )
        else:
            found.append(Unknown(string(part.get("type")) or "?", as_json(one)))
    return found


def _read_call(call: Mapping[str, Any]) -> Call:
    ours = mapping(_extra(call))
    sent = ours["arguments"] if "arguments" in ours else as_json(call.get("arguments") or {})
    return Call(
        string(call.get("function_name")),
        string(sent),
        string(call.get("tool_call_id")),
        string(ours.get("kind")) or FUNCTION,
    )


def _read_result(given: Any) -> Part:
    result = mapping(given)
    if result.get("subagent_trajectory_ref"):
        return Unknown("subagent_trajectory_ref", as_json(given))
    inside = tuple(p for p in _read_content(result.get("content")) if isinstance(p, Text | Reference | Unknown))
    ours = mapping(_extra(result))
    return Result(inside, string(result.get("source_call_id")), is_error=bool(ours.get("is_error")))


def _read_usage(metrics: Any) -> Usage | None:
    if not isinstance(metrics, Mapping):
        return None
    return Usage(*(count(metrics.get(name)) for name in ("prompt_tokens", "completion_tokens")))


def _write_turn(turn: Turn) -> dict[str, Any]:
    sources = {Role.USER: "user", Role.ASSISTANT: "agent"}
    source = sources.get(turn.role, "system")
    thoughts: list[Reasoning] = pieced([part for part in turn.parts if isinstance(part, Reasoning)])
    calls = [part for part in turn.parts if isinstance(part, Call)]
    if (thoughts or calls or turn.usage or turn.model) and source != "agent":
        raise CannotWrite("calls, reasoning, counts and models of others than the agent")
    ours: dict[str, Any] = {"finish": turn.finish} if turn.finish else {}
    if any(thought != Reasoning(thought.text) for thought in thoughts):
        ours["thoughts"] = [
            {name: said for name in thought.__struct_fields__ if (said := getattr(thought, name))}
            for thought in thoughts
        ]
    step: dict[str, Any] = {
        "source": source,
        "message": _write_content([p for p in turn.parts if not isinstance(p, Reasoning | Call)]),
    }
    step |= {"timestamp": turn.time} if turn.time else {}
    step |= {"model_name": turn.model} if turn.model else {}
    step |= (
        {"reasoning_content": "".join(thought.text for thought in thoughts)}
        if any(one.text for one in thoughts)
        else {}
    )
    step |= {"tool_calls": list(map(_write_call, calls))} if calls else {}
    if turn.usage is not None:
        counts = {"prompt_tokens": turn.usage.prompt_tokens, "completion_tokens": turn.usage.completion_tokens}
        step["metrics"] = {name: count for name, count in counts.items() if count >= 0}
    return step | ({"extra": {_OURS: ours}} if ours else {})


def _write_content(parts: Sequence[Part]) -> Any:
    if all(isinstance(part, Text | Refusal) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text | Refusal))
    written: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text | Refusal):
            written.append({"type": "text", "text": part.text})
        elif (
            isinstance(part, Reference)
            and part == Reference(part.kind, part.media_type, part.url)
            and part.url
            and (part.media_type in _MEDIA.get(part.kind, ()))
        ):
            written.append({"type": part.kind, "source": {"media_type": part.media_type, "path": part.url}})
        else:
            raise CannotWrite("parts of other types than text, and images and sounds by their path")
    return written


def _write_call(call: Call) -> dict[str, Any]:
    written: dict[str, Any] = {"tool_call_id": call.id, "function_name": call.name}
    try:
        if call.kind == FUNCTION:
            return {**written, "arguments": as_object(call.arguments)}
    except CannotWrite:
        pass  # what is no object is kept as it was sent
    return {**written, "arguments": {}, "extra": {_OURS: {"arguments": call.arguments, "kind": call.kind}}}


def _write_result(part: Part, answer: Turn) -> dict[str, Any]:
    if not isinstance(part, Result):
        raise CannotWrite("a tool's turn that is no result")
    asked = {one.id for one in answer.parts if isinstance(one, Call)}
    if part.call and part.call not in asked:
        raise CannotWrite("results of calls that the answer before has not made")
    written: dict[str, Any] = {"source_call_id": part.call} if part.call else {}
    written["content"] = _write_content(part.parts)
    return written | ({"extra": {_OURS: {"is_error": True}}} if part.is_error else {})
