"""The paths that the gateway serves, and what stands in their requests, answers and streams. No I/O."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from stillhouse.nouns import TeacherKind, Usage
from stillhouse.teachers.anthropic import AnthropicDialect, prompt_tokens
from stillhouse.teachers.dialect import Dialect, Read, read_answer
from stillhouse.teachers.openai import OpenAIDialect


class Request(NamedTuple):
    """What the gateway must know of a request; the rest passes through as it is. ``fields`` are its top level, unread."""

    model: str
    stream: bool
    answers: int
    limits: dict[str, int]
    fields: dict[str, msgspec.Raw]


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
        reason = str((answer.get("incomplete_details") or {}).get("reason") or "")
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


# By these a provider would choose another model, or another provider, than the one that was decided on.
REROUTING = frozenset({"models", "route", "provider", "preset", "fallbacks"})
# A call whose answer would not pass through here.
_BACKGROUND = "background"
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MANY_PROMPTS = 1 << 20
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE = b" \t\r\n"


def read_request(body: bytes) -> Request:
    """What a request says. Raises ValueError where it is none, or where two parsers could read two things in it.

    A name that stands twice, or once in capitals, is refused: what was decided must be what is done.
    """
    fields = _FIELDS.decode(body)
    _check_names(body, fields)
    limits = {name: _whole(fields[name], name) for name in _LIMITS if _given(fields, name)}
    counts = [_whole(fields[name], name) for name in ("n", "best_of") if _given(fields, name)]
    return Request(
        model=_read(fields, "model", str, ""),
        stream=_read(fields, "stream", bool, False) if _given(fields, "stream") else False,
        answers=max([1, *counts]) * _prompts(fields),
        limits=limits,
        fields=fields,
    )


def limit_of(request: Request, endpoint: Endpoint) -> int | None:
    """The most tokens of one answer; 0 where answers are not made of tokens, None where the request sets no limit.

    Where several limits are given, the largest: a server may know any one of them.
    """
    if not endpoint.limit:
        return 0
    known = {endpoint.limit} | ({"max_tokens"} if endpoint.limit == "max_completion_tokens" else set())
    return max(request.limits.values()) if known & request.limits.keys() else None


def _given(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) != b"null"


def _read(fields: dict[str, msgspec.Raw], name: str, kind: type, otherwise: Any) -> Any:
    return msgspec.json.decode(fields[name], type=kind) if name in fields else otherwise


def _whole(raw: msgspec.Raw, name: str) -> int:
    value: int = msgspec.json.decode(raw, type=int)
    if value < 0:
        raise ValueError(f"{name} is negative")
    return value


def _prompts(fields: dict[str, msgspec.Raw]) -> int:
    """How many prompts an old completion holds: several where it is a list of texts, or of lists of tokens."""
    raw = bytes(fields.get("prompt", b""))
    if not raw.startswith(b"["):
        return 1
    if len(raw) > _MANY_PROMPTS:
        raise ValueError("a list of prompts may have 1 MiB")
    items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    return len(items) if items and bytes(items[0])[:1] in (b'"', b"[") else 1


def _check_names(body: bytes, fields: dict[str, msgspec.Raw]) -> None:
    """Walk the top level: each name once, in small letters, and each value the one that was read."""
    seen: set[str] = set()
    at = _skip(body, _skip(body, 0) + 1)
    while body[at : at + 1] == b'"':
        end = at + 1
        while body[end : end + 1] != b'"':
            end += 2 if body[end : end + 1] == b"\\" else 1
        name = msgspec.json.decode(body[at : end + 1], type=str)
        value = bytes(fields[name])
        at = _skip(body, _skip(body, end + 1) + 1)
        if name.lower() in seen or name != name.lower() or body[at : at + len(value)] != value:
            raise ValueError(f"{name[:80]!r} stands twice, or in capitals")
        seen.add(name.lower())
        at = _skip(body, at + len(value))
        at = _skip(body, at + 1) if body[at : at + 1] == b"," else at


def _skip(body: bytes, at: int) -> int:
    while body[at : at + 1] and body[at : at + 1] in _SPACE:
        at += 1
    return at


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
    def whole(self) -> bool:
        """Did the stream come to its end, by its own words?"""
        return self.ended or bool(self.finish)

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
        except (msgspec.MsgspecError, KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError):
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
                reason = str(choice["finish_reason"])
                self.finish = {"content_filter": "filtered"}.get(reason, reason)

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
                reason = str(event["delta"].get("stop_reason") or "")
                self.finish = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}.get(reason, reason)
                counted = event.get("usage") or {}
                if "output_tokens" in counted:
                    self.usage = Usage(self.usage.prompt_tokens, int(counted["output_tokens"]))
            case "message_stop":
                self.ended = True
