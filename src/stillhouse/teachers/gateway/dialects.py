"""The paths that the gateway serves, and what stands in their requests, answers and streams. No I/O."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from stillhouse.nouns import TeacherKind, Usage
from stillhouse.teachers.anthropic import AnthropicDialect, prompt_tokens
from stillhouse.teachers.http import Dialect, Read, read_answer
from stillhouse.teachers.openai import OpenAIDialect


class Request(msgspec.Struct):
    """What the gateway must know of a request; the rest passes through as it is."""

    model: str = ""
    stream: bool = False
    n: int | None = None
    best_of: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    background: bool | None = None
    prompt: Any = None


class Refusal(NamedTuple):
    """What a client is told instead of an answer."""

    status: int
    kind: str
    message: str


class Endpoint(NamedTuple):
    """One path. ``upstream`` counts from the teacher's base URL; ``billed`` false is free at every provider."""

    kind: TeacherKind
    upstream: str
    answers: Dialect | None
    limit: str = ""
    billed: bool = True


class _ResponsesDialect(OpenAIDialect):
    """OpenAI's responses: the answer is a list of items."""

    def read(self, answer: Any) -> Read:
        """Text, finish and usage."""
        parts = [part for item in answer["output"] if item.get("type") == "message" for part in item["content"]]
        text = "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")
        usage = answer.get("usage") or {}
        reason = (answer.get("incomplete_details") or {}).get("reason", "")
        finish = {"max_output_tokens": "length", "content_filter": "filtered", "": "stop"}.get(reason, reason)
        return Read(text, finish, Usage(int(usage.get("input_tokens", -1)), int(usage.get("output_tokens", -1))))


class _CompletionsDialect(OpenAIDialect):
    """OpenAI's old completions: text in, text out."""

    def read(self, answer: Any) -> Read:
        """Text, finish and usage."""
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        tokens = Usage(int(usage.get("prompt_tokens", -1)), int(usage.get("completion_tokens", -1)))
        return Read(choice["text"], str(choice.get("finish_reason") or "stop"), tokens)


class _EmbeddingsDialect(OpenAIDialect):
    """OpenAI's embeddings: numbers, billed by the prompt."""

    def read(self, answer: Any) -> Read:
        """No text; what was billed."""
        return Read("", "embedding", Usage(int(answer["usage"]["prompt_tokens"]), 0))


_OPENAI, _ANTHROPIC = TeacherKind.OPENAI, TeacherKind.ANTHROPIC
ENDPOINTS = {
    "/v1/chat/completions": Endpoint(_OPENAI, "/chat/completions", OpenAIDialect(), "max_completion_tokens"),
    "/v1/completions": Endpoint(_OPENAI, "/completions", _CompletionsDialect(), "max_tokens"),
    "/v1/responses": Endpoint(_OPENAI, "/responses", _ResponsesDialect(), "max_output_tokens"),
    "/v1/embeddings": Endpoint(_OPENAI, "/embeddings", _EmbeddingsDialect()),
    "/v1/messages": Endpoint(_ANTHROPIC, "/v1/messages", AnthropicDialect(), "max_tokens"),
    "/v1/messages/count_tokens": Endpoint(_ANTHROPIC, "/v1/messages/count_tokens", None, billed=False),
}
MODELS = "/v1/models"
_OPENAI_TYPES: dict[int, str] = {
    400: "invalid_request_error", 401: "authentication_error", 402: "insufficient_quota", 403: "permission_error",
    404: "not_found_error", 413: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip


def answers_of(request: Request) -> int:
    """How many answers a request asks for."""
    prompts = request.prompt if isinstance(request.prompt, list) else []
    several = len(prompts) if prompts and not isinstance(prompts[0], int) else 1
    return max(1, request.n or 1, request.best_of or 1) * max(1, several)


def limit_of(request: Request, endpoint: Endpoint) -> int | None:
    """The most tokens of one answer; 0 where answers are not made of tokens, None where the request sets no limit."""
    if not endpoint.limit:
        return 0
    given = getattr(request, endpoint.limit)
    if given is None and endpoint.limit == "max_completion_tokens":
        given = request.max_tokens
    return given if given is None or given >= 0 else None


def error_body(kind: TeacherKind, refusal: Refusal) -> bytes:
    """A refusal in the client's own dialect. ``kind`` names the rule."""
    if kind is _ANTHROPIC:
        types: dict[int, str] = {**_OPENAI_TYPES, 402: "billing_error", 413: "request_too_large"}
        error = {"type": types.get(refusal.status, "api_error"), "message": f"{refusal.kind}: {refusal.message}"}
        return msgspec.json.encode({"type": "error", "error": error})
    described: dict[str, str | None] = {
        "message": refusal.message,
        "type": _OPENAI_TYPES.get(refusal.status, "api_error"),
        "param": None,
        "code": refusal.kind,
    }
    return msgspec.json.encode({"error": described})


def models_body(kind: TeacherKind, names: list[str]) -> bytes:
    """The list of models, as each dialect has it."""
    if kind is _ANTHROPIC:
        data: list[dict[str, str]] = [
            {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"} for name in names
        ]
        ends: dict[str, str | None] = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return msgspec.json.encode({"data": data, "has_more": False, **ends})
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "stillhouse"} for name in names]
    return msgspec.json.encode({"object": "list", "data": listed})


class StreamReader:
    """Reads an event stream as it passes: its text, how it finished, what it counted. Holds the text and one event."""

    # An event that is longer is not looked at; it passes all the same.
    _LONGEST_EVENT = 1 << 20

    def __init__(self, endpoint: Endpoint) -> None:
        reader: Callable[[Any], None] = self._openai if endpoint.upstream != "/responses" else self._responses
        self._read = self._anthropic if endpoint.kind is _ANTHROPIC else reader
        self._rest = b""
        self._skipping = False
        self._text: list[str] = []
        self.finish = ""
        self.usage = Usage()
        self.ended = False

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "".join(self._text)

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._LONGEST_EVENT:
            self._rest, self._skipping = b"", True
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line.startswith(b"data:"):
                self._event(line[5:].strip())

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.ended = True
            return
        try:
            self._read(msgspec.json.decode(data))
        except (msgspec.MsgspecError, KeyError, TypeError, IndexError, AttributeError, ValueError):
            return  # not for us to judge: it passes as it is

    def _openai(self, event: Any) -> None:
        usage = event.get("usage")
        if usage:
            read = read_answer(OpenAIDialect(), msgspec.json.encode({"choices": [{"message": {}}], "usage": usage}))
            self.usage = read.usage
        for choice in event["choices"]:
            text = (choice.get("delta") or {}).get("content") or choice.get("text")
            if isinstance(text, str) and not choice.get("index"):
                self._text.append(text)
            if choice.get("finish_reason"):
                self.finish = {"content_filter": "filtered"}.get(choice["finish_reason"], choice["finish_reason"])

    def _responses(self, event: Any) -> None:
        if event["type"] == "response.output_text.delta":
            self._text.append(str(event["delta"]))
        elif event["type"] in ("response.completed", "response.incomplete", "response.failed"):
            read = read_answer(_ResponsesDialect(), msgspec.json.encode(event["response"]))
            self.finish, self.usage, self.ended = read.finish, read.usage, True

    def _anthropic(self, event: Any) -> None:
        match event["type"]:
            case "message_start":
                usage = event["message"].get("usage") or {}
                self.usage = Usage(prompt_tokens(usage), int(usage.get("output_tokens", -1)))
            case "content_block_delta" if event["delta"].get("type") == "text_delta":
                self._text.append(str(event["delta"]["text"]))
            case "message_delta":
                reason = event["delta"].get("stop_reason") or ""
                self.finish = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}.get(reason, reason)
                counted = event.get("usage") or {}
                if "output_tokens" in counted:
                    self.usage = Usage(self.usage.prompt_tokens, int(counted["output_tokens"]))
            case "message_stop":
                self.ended = True
