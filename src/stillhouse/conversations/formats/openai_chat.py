"""OpenAI's chat: ``messages`` and ``tools``, as requests, fine-tuning files and datasets have them (arguments as text or objects,
``tools`` as a list or its JSON). Source: OpenAI, "Chat completions" and "Fine-tuning"; reasoning beside it as vLLM, DeepSeek and
OpenRouter send it.
"""

from collections.abc import Iterable, Mapping
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
    pieced,
    string,
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
    Tool,
    Turn,
    Unknown,
)

LEAVES_OUT = frozenset({
    Detail.STAMPS, Detail.KEYS, Detail.FINISH, Detail.USAGE, Detail.TIME, Detail.MODEL, Detail.ERRORS, Detail.ORDER,
    Detail.OUTCOME, Detail.LINEAGE, Detail.IDS, Detail.MEDIA_TYPES, Detail.PIECES,
})  # fmt: skip
_ROLES = {**{str(role): role for role in Role}, "function": Role.TOOL, "human": Role.USER, "model": Role.ASSISTANT}
_TEXT = frozenset({"text", "input_text", "output_text"})
_SAID = frozenset({"role", "content", "tool_calls", "function_call", "tool_call_id", "name", "refusal", "reasoning_content",
                   "reasoning", "reasoning_details", "thinking_blocks"})  # fmt: skip
# What says nothing of what was said: how it was billed, cut, counted or found.
_BESIDE = frozenset({"cache_control", "id", "index", "timestamp", "prefix", "provider_specific_fields", "extra", "logprobs",
                     "type", "status", "token_ids"})  # fmt: skip


def read(given: Any) -> list[Conversation]:
    """The conversation of a row."""
    row = mapping(given)
    messages = items(row.get("messages"))
    if not messages:
        raise CannotRead("there are no messages")
    tools = [*items(row.get("tools")), *({"type": FUNCTION, FUNCTION: one} for one in items(row.get("functions")))]
    return [made(map(read_message, messages), map(read_tool, tools))]


def write(conversation: Conversation) -> dict[str, Any]:
    """A row with ``messages``, and ``tools`` where there are any."""
    row: dict[str, Any] = {"messages": [message for turn in conversation.turns for message in write_turn(turn)]}
    return row | ({"tools": [write_tool(tool) for tool in conversation.tools]} if conversation.tools else {})


FORMAT = Format("openai", read, write, LEAVES_OUT)


def read_message(given: Any) -> Turn:
    """A message as a turn."""
    message = mapping(given)
    role = _ROLES.get(string(message.get("role")))
    if role is None:
        raise CannotRead("a message has a role that is not known")
    parts = [*_reasoning(message), *read_content(message.get("content"))]
    if message.get("refusal"):
        parts.append(Refusal(string(message["refusal"])))
    parts += [read_call(call) for call in items(message.get("tool_calls"))]
    if message.get("function_call"):
        parts.append(_read_function(mapping(message["function_call"]), ""))
    parts += [
        Unknown(name, as_json(value)) for name, value in message.items()
        if name not in _SAID and name not in _BESIDE and not _says_nothing(name, value)
    ]  # fmt: skip
    name = string(message.get("name"))
    if role is not Role.TOOL:
        return Turn(role, tuple(parts), name=name)
    inside = tuple(part for part in parts if isinstance(part, Text | Reference | Unknown))
    if len(inside) < len(parts):
        raise CannotRead("a tool's message holds more than a result")
    return Turn(role, (Result(inside, string(message.get("tool_call_id")), name),))


def _says_nothing(name: str, value: Any) -> bool:
    """Is a field empty, or what it is where nobody sets it? A weight of 0 says that a turn is not to be learned."""
    if name == "weight":
        return value is None or value == 1
    return value is None or value is False or value in ("", [], {})


def read_content(content: Any) -> list[Part]:
    """The parts of a content: a text, a part, or a list of parts."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    return [read_part(part) for part in (content if isinstance(content, list) else [content])]


def read_part(given: Any) -> Part:
    """One typed part."""
    if isinstance(given, str):
        return Text(given)
    part = mapping(given)
    kind = string(part.get("type")) or ("text" if isinstance(part.get("text"), str) else "?")
    if kind in _TEXT and isinstance(part.get("text"), str):
        return Text(part["text"])
    if kind == "refusal":
        return Refusal(string(part.get("refusal")))
    if kind == "thinking" and isinstance(part.get("thinking"), list):  # as Mistral has it
        return Reasoning("".join(string(mapping(one).get("text")) for one in part["thinking"]))
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str) and set(part) <= {"type", "image_url", "cache_control"}:
            return read_url("image", url)
    return Unknown(kind, as_json(given))


def read_url(kind: str, url: str) -> Reference:
    """What a URL refers to; the bytes of a ``data:`` URL are taken out of it."""
    head, comma, data = url.partition(";base64,")
    return (
        Reference(kind, head.removeprefix("data:"), data=data)
        if comma and head.startswith("data:")
        else Reference(kind, url=url)
    )


def write_url(part: Reference) -> str:
    """The URL of a reference. Raises CannotWrite for an object that is elsewhere."""
    if part.digest or part.name:
        raise CannotWrite("a file that is stored beside")
    return f"data:{part.media_type};base64,{part.data}" if part.data else part.url


def read_call(given: Any) -> Call:
    """A call of a tool."""
    call = mapping(given)
    kind = string(call.get("type")) or FUNCTION
    id = string(call.get("id"))
    if kind == FUNCTION and isinstance(call.get(FUNCTION), Mapping):
        return _read_function(call[FUNCTION], id)
    if kind == FUNCTION and isinstance(call.get("name"), str):  # flat, as some datasets have it
        return _read_function(call, id)
    if kind == "custom" and isinstance(call.get("custom"), Mapping):
        return Call(string(call["custom"].get("name")), string(call["custom"].get("input")), id, kind)
    raise CannotRead("a call of a tool is of an unknown type")


def _read_function(function: Mapping[str, Any], id: str) -> Call:
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):
        # Tables fill in every column that any row has.
        arguments = as_json({name: value for name, value in arguments.items() if value is not None})
    return Call(string(function.get("name")), string(arguments), id)


def _reasoning(message: Mapping[str, Any]) -> list[Part]:
    details = message.get("reasoning_details")
    if details:
        return [_thought(mapping(one)) for one in items(details)]
    blocks = [mapping(one) for one in items(message.get("thinking_blocks"))]
    if blocks:  # LiteLLM's form, which has signatures; it repeats the text beside
        return [
            Reasoning(
                string(one.get("thinking")), signature=string(one.get("signature")), encrypted=string(one.get("data"))
            )
            for one in blocks
        ]
    said = message.get("reasoning_content") or message.get("reasoning")
    return [Reasoning(string(said))] if said else []


def _thought(given: Mapping[str, Any]) -> Part:
    """A detail of reasoning, as OpenRouter sends them."""
    forms = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": "data"}
    field = forms.get(string(given.get("type")))
    if field is None or set(given) - {"type", field, "signature", "id", "format", "index"}:
        return Unknown(string(given.get("type")) or "reasoning", as_json(dict(given)))
    said = string(given.get(field))
    more = {"signature": string(given.get("signature")), "id": string(given.get("id"))}
    return Reasoning(**{"encrypted" if field == "data" else field: said}, **more)


def read_tool(given: Any) -> Tool:
    """A definition of a tool: nested under its kind, or flat."""
    tool = mapping(given)
    kind = string(tool.get("type")) or FUNCTION
    inner = tool.get(kind)
    said = (
        dict(inner) if isinstance(inner, Mapping) else {name: value for name, value in tool.items() if name != "type"}
    )
    name, description = string(said.pop("name", "")), string(said.pop("description", ""))
    parameters = said.pop("parameters", None)
    if isinstance(parameters, str):
        parameters = mapping(items(f"[{parameters}]")[0]) if parameters.strip() else None
    extra = {name: value for name, value in said.items() if value is not None}
    return Tool(
        name, description, as_json(parameters) if parameters is not None else "", kind, as_json(extra) if extra else ""
    )


def write_tool(tool: Tool) -> dict[str, Any]:
    """A definition, nested under its kind."""
    said: dict[str, Any] = {"name": tool.name}
    said |= {"description": tool.description} if tool.description else {}
    said |= {"parameters": items(f"[{tool.parameters}]")[0]} if tool.parameters else {}
    said |= items(f"[{tool.extra}]")[0] if tool.extra else {}
    return {"type": tool.kind, tool.kind: said}


def write_turn(turn: Turn) -> list[dict[str, Any]]:
    """A turn as messages: results are messages of their own."""
    if turn.role is Role.TOOL:
        return [_write_result(part) for part in turn.parts]
    message: dict[str, Any] = {"role": str(turn.role)} | ({"name": turn.name} if turn.name else {})
    said = [part for part in turn.parts if isinstance(part, Text | Reference | Unknown)]
    message["content"] = write_content(said) if said else None if turn.role is Role.ASSISTANT else ""
    message |= _write_reasoning([part for part in turn.parts if isinstance(part, Reasoning)])
    refused = "".join(part.text for part in turn.parts if isinstance(part, Refusal))
    message |= {"refusal": refused} if refused else {}
    calls = [write_call(part) for part in turn.parts if isinstance(part, Call)]
    return [message | ({"tool_calls": calls} if calls else {})]


def write_content(parts: Iterable[Part]) -> Any:
    """A text where it is text alone, else a list of parts."""
    written: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            if written and written[-1]["type"] == "text":
                written[-1] = {"type": "text", "text": written[-1]["text"] + part.text}
            else:
                written.append({"type": "text", "text": part.text})
        elif isinstance(part, Reference) and part.kind == "image":
            written.append({"type": "image_url", "image_url": {"url": write_url(part)}})
        else:
            raise CannotWrite("parts of other types than text and images")
    return written[0]["text"] if len(written) == 1 and written[0]["type"] == "text" else written


def write_call(call: Call) -> dict[str, Any]:
    """A call of a tool."""
    if call.kind == FUNCTION:
        return {"id": call.id, "type": FUNCTION, FUNCTION: {"name": call.name, "arguments": call.arguments}}
    if call.kind == "custom":
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    raise CannotWrite(f"calls of type {call.kind}")


def _write_result(part: Part) -> dict[str, Any]:
    if not isinstance(part, Result):
        raise CannotWrite("a tool's turn that is no result")
    message = {"role": "tool", "tool_call_id": part.call, "content": write_content(part.parts) if part.parts else ""}
    return message | ({"name": part.name} if part.name else {})


def _write_reasoning(thoughts: list[Reasoning]) -> dict[str, Any]:
    thoughts = pieced(thoughts)
    if all(thought == Reasoning(thought.text) for thought in thoughts):
        text = "".join(thought.text for thought in thoughts)
        return {"reasoning_content": text} if text else {}
    details = []
    for thought in thoughts:
        forms = {
            "reasoning.text": thought.text,
            "reasoning.summary": thought.summary,
            "reasoning.encrypted": thought.encrypted,
        }
        kinds = [kind for kind, said in forms.items() if said] or ["reasoning.text"]
        if len(kinds) > 1:
            raise CannotWrite("reasoning in several forms at once")
        field = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": "data"}[kinds[0]]
        more = {"signature": thought.signature, "id": thought.id}
        details.append({"type": kinds[0], field: forms[kinds[0]]} | {name: said for name, said in more.items() if said})
    return {"reasoning_details": details}
