"""What a request asks a model, in OpenAI's or Anthropic's dialect. Pure."""

from collections.abc import Mapping
from typing import Any

from stillhouse.conversations.content import decoded, read_message
from stillhouse.conversations.text_marks import turns_mark


def asked_turns(body: Mapping[str, Any]) -> list[Any]:
    """The turns of a request, its system text first; none where it asks nothing that can be read."""
    asked = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        return []
    return [{"role": "system", "content": body[name]} for name in ("system", "instructions") if body.get(name)] + asked


def request_mark(body: str) -> str:
    """The mark of what a request asks, by its texts alone; "" where nothing can be read."""
    try:
        read = decoded(body)
    except (ValueError, RecursionError):
        return ""
    turns = [turn for turn in asked_turns(read) if isinstance(turn, Mapping)] if isinstance(read, Mapping) else []
    if not turns:
        return ""
    return turns_mark((str(turn.get("role") or "user"), read_message(turn).text) for turn in turns)
