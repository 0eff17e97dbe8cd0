"""The content of a message: a text, or a list of typed parts, in every dialect that is read here."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

_TEXT = frozenset({"text", "input_text", "output_text", "summary_text"})
_REASONING = frozenset({"thinking", "redacted_thinking", "reasoning"})
_CALLS = frozenset(
    {"tool_use", "server_tool_use", "tool_call", "function_call", "custom_tool_call", "mcp_tool_use", "mcp_call"}
)
_RESULTS = frozenset({"tool_result", "function_call_output", "custom_tool_call_output", "mcp_tool_result"})
# Beside the content of a message: what calls a tool, what thinks, what is no text.
_CALL_FIELDS = ("tool_calls", "function_call")
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_MEDIA_FIELDS = ("images", "image", "image_url", "audio", "videos", "video", "file")


class Content(NamedTuple):
    """What a message says. ``calls``: does it call a tool; ``other`` names the kinds of part that are not text."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: bool = False
    other: frozenset[str] = frozenset()


def read_content(content: Any) -> Content:
    """A text, a part, a list of parts, or nothing. A part of unknown type is named in ``other``, never dropped unseen."""
    if content is None:
        return Content()
    if isinstance(content, str):
        return Content(content)
    if not isinstance(content, list):
        content = [content]
    read = [_part(part) for part in content]
    return Content(
        "".join(part.text for part in read),
        "".join(part.reasoning for part in read),
        "".join(part.refusal for part in read),
        any(part.calls for part in read),
        frozenset().union(*(part.other for part in read)),
    )


def _part(part: Any) -> Content:
    if isinstance(part, str):
        return Content(part)
    if not isinstance(part, Mapping):
        return Content(other=frozenset({type(part).__name__}))
    kind = str(part.get("type") or ("text" if isinstance(part.get("text"), str) else "?"))
    if kind in _TEXT:
        text = part.get("text")
        beside = {name for name in _MEDIA_FIELDS if part.get(name)}
        return Content(text, other=frozenset(beside)) if isinstance(text, str) else Content(other=frozenset({kind}))
    if kind == "refusal":
        return Content(refusal=str(part.get("refusal") or ""))
    if kind in _REASONING or kind.startswith("reasoning."):
        said = next((part[name] for name in ("thinking", "text", "content", "summary", "data") if part.get(name)), "")
        return Content(reasoning=said if isinstance(said, str) else read_content(said).text or "(not shown)")
    if kind in _CALLS:
        return Content(calls=True)
    return Content(other=frozenset({"tool_result" if kind in _RESULTS else kind[:80]}))


def read_message(message: Mapping[str, Any]) -> Content:
    """A message whole: its content, and what stands beside it."""
    read = read_content(message.get("content"))
    thought = next((message[name] for name in _REASONING_FIELDS if message.get(name)), "")
    refusal = message.get("refusal")
    return Content(
        read.text,
        read.reasoning or (thought if isinstance(thought, str) else _thought(thought)),
        read.refusal or (refusal if isinstance(refusal, str) else ""),
        read.calls or any(message.get(name) for name in _CALL_FIELDS),
        read.other | {name for name in _MEDIA_FIELDS if message.get(name)},
    )


def _thought(parts: Any) -> str:
    """What was thought, where it stands in parts beside the content; some of them are encrypted."""
    read = read_content(parts)
    return read.text or read.reasoning or "(not shown)" * bool(parts)


def decoded(raw: bytes | str) -> Any:
    """JSON as others write it: half of a surrogate pair in a text does not cost the rest. Raises ValueError, RecursionError."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return json.loads(raw)


def clean_text(text: str) -> str:
    """Text that can be encoded: half a surrogate pair is no character."""
    return text.encode("utf-8", "replace").decode()
