"""The dialect of Anthropic's messages."""

import math
from typing import Any

import msgspec

from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.dialect import Read

_VERSION = "2023-06-01"
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "filtered"}


class AnthropicDialect:
    """How a request is written and an answer read."""

    path = "/v1/messages"
    default_base_url = "https://api.anthropic.com"
    idempotency_header = ""  # none is documented

    def headers(self, key: str) -> dict[str, str]:
        """Authorisation and the version of the dialect."""
        return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The request for one answer; the system prompt is a field of its own here."""
        system = "\n\n".join(message.content for message in ask.messages if message.role == "system")
        body: dict[str, Any] = {
            "model": teacher.model,
            "messages": [msgspec.structs.asdict(message) for message in ask.messages if message.role != "system"],
            "max_tokens": ask.parameters.max_tokens,
            "temperature": ask.parameters.temperature,
            **ask.parameters.more,
        }
        return {**body, "system": system} if system else body

    def read(self, answer: Any) -> Read:
        """Text, finish and usage of a decoded answer. Raises KeyError, TypeError where it is malformed."""
        text = "".join(part["text"] for part in answer["content"] if part["type"] == "text")
        usage = answer.get("usage") or {}
        finish = str(answer.get("stop_reason") or "stop")
        tokens = Usage(prompt_tokens(usage), int(usage.get("output_tokens", -1)))
        return Read(text, _FINISH.get(finish, finish), tokens)


def prompt_tokens(usage: Any) -> int:
    """What a prompt is billed as, in tokens of its full price: reading it into a cache costs 1.25 or 2 times as much, from
    there a tenth (Anthropic, "Prompt caching"); all of it rounded up.
    """
    if "input_tokens" not in usage:
        return -1
    written = usage.get("cache_creation") or {}
    an_hour = int(written.get("ephemeral_1h_input_tokens") or 0)
    minutes = int(usage.get("cache_creation_input_tokens") or 0) - an_hour
    read = int(usage.get("cache_read_input_tokens") or 0)
    return int(usage["input_tokens"]) + 2 * an_hour + math.ceil(max(0, minutes) * 1.25) + math.ceil(read / 10)
