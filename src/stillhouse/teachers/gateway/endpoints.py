"""The paths that the gateway serves, and what stands in their requests. No I/O."""

import math
from typing import Any, Literal, NamedTuple

import msgspec

from stillhouse.conversations.answers import (
    Reader,
    read_chat,
    read_completion,
    read_embedding,
    read_messages,
    read_response,
)
from stillhouse.nouns import TeacherKind


class GatewayRequest(NamedTuple):
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
    """One path. ``upstream`` counts from the teacher's base URL; ``reader`` None: nothing is answered.

    ``limit`` is the field that bounds an answer's tokens; ``billed`` false is free at every provider.
    """

    kind: TeacherKind
    upstream: str
    reader: Reader | None
    limit: str = ""
    billed: bool = True


_OPENAI, _ANTHROPIC = TeacherKind.OPENAI, TeacherKind.ANTHROPIC
ENDPOINTS = {
    "/v1/chat/completions": Endpoint(_OPENAI, "/chat/completions", read_chat, "max_completion_tokens"),
    "/v1/completions": Endpoint(_OPENAI, "/completions", read_completion, "max_tokens"),
    "/v1/responses": Endpoint(_OPENAI, "/responses", read_response, "max_output_tokens"),
    "/v1/embeddings": Endpoint(_OPENAI, "/embeddings", read_embedding),
    "/v1/messages": Endpoint(_ANTHROPIC, "/v1/messages", read_messages, "max_tokens"),
    "/v1/messages/count_tokens": Endpoint(_ANTHROPIC, "/v1/messages/count_tokens", None, billed=False),
}
MODELS = "/v1/models"
OUTCOMES = "/v1/outcomes"
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


def read_request(body: bytes) -> GatewayRequest:
    """What a request says. Raises ValueError where it is none, or where two parsers could read two things in it.

    A name that stands twice, or once in capitals, is refused: what was decided must be what is done.
    """
    fields = _FIELDS.decode(body)
    _check_names(body, fields)
    limits = {name: _whole(fields[name], name) for name in _LIMITS if _given(fields, name)}
    counts = [_whole(fields[name], name) for name in ("n", "best_of") if _given(fields, name)]
    return GatewayRequest(
        model=_read(fields, "model", str, ""),
        stream=_read(fields, "stream", bool, False) if _given(fields, "stream") else False,
        answers=max([1, *counts]) * _prompts(fields),
        limits=limits,
        fields=fields,
    )


class SaidOutcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client says of the session that one of its calls belongs to."""

    call: str
    outcome: Literal["passed", "failed", ""] = ""
    reward: float | None = None
    why: str = ""


def read_outcome(body: bytes) -> SaidOutcome:
    """An outcome. Raises ValueError for what is none, or says nothing."""
    said = msgspec.json.decode(body, type=SaidOutcome)
    if not said.call or not (said.outcome or said.reward is not None):
        raise ValueError("it needs a call, and an outcome or a reward")
    if said.reward is not None and not math.isfinite(said.reward):
        raise ValueError("a reward is a number")
    return said


def limit_of(request: GatewayRequest, endpoint: Endpoint) -> int | None:
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
