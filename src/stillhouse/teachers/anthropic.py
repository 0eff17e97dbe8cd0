"""The dialect of Anthropic's messages."""

from typing import Any

import msgspec

from stillhouse.conversations.answers import Reader, read_messages
from stillhouse.nouns import Ask, Teacher
from stillhouse.teachers.dialect import optional_fields

_VERSION = "2023-06-01"


class AnthropicDialect:
    """How a request is written and an answer read."""

    path = "/v1/messages"
    idempotency_header = ""  # none is documented

    @property
    def reader(self) -> Reader:
        """Messages."""
        return read_messages

    def headers(self, key: str) -> dict[str, str]:
        """Authorisation and the version of the dialect."""
        return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The request for one answer; the system prompt is a field of its own here, and there is no seed."""
        system = "\n\n".join(message.content for message in ask.messages if message.role == "system")
        sampling = optional_fields(teacher, ask)
        sampling.pop("seed", None)
        body: dict[str, Any] = {
            "model": teacher.model,
            "messages": [msgspec.structs.asdict(message) for message in ask.messages if message.role != "system"],
            "max_tokens": ask.parameters.max_tokens,
            **sampling,
            **ask.parameters.more,
        }
        return {**body, "system": system} if system else body
