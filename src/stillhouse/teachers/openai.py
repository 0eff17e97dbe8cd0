"""The dialect of OpenAI's chat completions, which most servers of open models speak too."""

from typing import Any

import msgspec

from stillhouse.conversations.answers import Reader, read_chat
from stillhouse.nouns import Ask, Teacher
from stillhouse.teachers.dialect import LIMITS, optional_fields


class OpenAIDialect:
    """How a request is written and an answer read."""

    path = "/chat/completions"
    idempotency_header = "Idempotency-Key"

    @property
    def reader(self) -> Reader:
        """Chat completions."""
        return read_chat

    def headers(self, key: str) -> dict[str, str]:
        """Authorisation; none where there is no key (a server on this machine needs none)."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The request for one answer; each sample is a call of its own, so that each can be kept and retried alone."""
        return {
            "model": teacher.model,
            "messages": [msgspec.structs.asdict(message) for message in ask.messages],
            teacher.limit_field or LIMITS[0]: ask.parameters.max_tokens,
            **optional_fields(teacher, ask),
            **ask.parameters.more,
        }
