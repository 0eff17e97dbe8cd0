"""The dialect of OpenAI's chat completions, which most servers of open models speak too."""

from typing import Any

import msgspec

from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.dialect import Read

_FINISH = {"stop": "stop", "length": "length", "content_filter": "filtered", "tool_calls": "tool calls"}


class OpenAIDialect:
    """How a request is written and an answer read."""

    path = "/chat/completions"
    default_base_url = "https://api.openai.com/v1"
    idempotency_header = "Idempotency-Key"

    def headers(self, key: str) -> dict[str, str]:
        """Authorisation; none where there is no key (a server on this machine needs none)."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The request for one answer; each sample is a call of its own, so that each can be kept and retried alone."""
        return {
            "model": teacher.model,
            "messages": [msgspec.structs.asdict(message) for message in ask.messages],
            "max_tokens": ask.parameters.max_tokens,
            "temperature": ask.parameters.temperature,
            "seed": (ask.parameters.seed + ask.sample) & 0x7FFFFFFF,
            "n": 1,
            **ask.parameters.more,
        }

    def read(self, answer: Any) -> Read:
        """Text, finish and usage of a decoded answer. Raises KeyError, TypeError, IndexError where it is malformed."""
        choice = answer["choices"][0]
        message, usage = choice["message"], answer.get("usage") or {}
        finish = str(choice.get("finish_reason") or "stop")
        prompt, said = int(usage.get("prompt_tokens", -1)), int(usage.get("completion_tokens", -1))
        # Some servers bill hidden reasoning that stands in the total alone.
        hidden = int(usage.get("total_tokens") or 0) - prompt - said if min(prompt, said) >= 0 else 0
        tokens = Usage(prompt, said + max(0, hidden))
        return Read(message.get("content") or "", _FINISH.get(finish, finish), tokens)
