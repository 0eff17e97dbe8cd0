"""Bodies and events that are errors, in any dialect, whatever the status that they came with. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from stillhouse.conversations.content import clean_text

# What a body that is no answer is taken for: a bad gateway, which is worth another try and may have been billed.
BAD_GATEWAY = 502
_LONGEST_REASON = 320
# Kinds of error by the words of Anthropic's and OpenAI's APIs, where the body names no number.
_STATUS_OF = {
    "overloaded_error": 529, "rate_limit_error": 429, "rate_limit_exceeded": 429, "rate_limit": 429, "api_error": 500,
    "server_error": 500, "timeout_error": 504, "invalid_request_error": 400, "authentication_error": 401,
    "permission_error": 403, "not_found_error": 404, "billing_error": 402, "insufficient_quota": 402,
}  # fmt: skip
_NUMBERS = ("code", "status", "status_code", "statusCode")
_TYPES = ("error", "response.error")
# What says something in an answer or in an event of one: a body with none of these that has a word of an error is one.
_SAYING = ("choices", "content", "output", "data", "type", "delta", "message_id", "usage")
_SENTENCES = ("message", "detail", "msg", "error_message", "errors")
_BARE = (*_SENTENCES, "statusCode")
# A mere message can be news of a queue.
_SURE = ("detail", "errors", "error_message", "statusCode")


class Trouble(NamedTuple):
    """A body that is an error, whatever the status it came with. ``status`` is the one that it means."""

    reason: str
    status: int


def trouble_named(body: Mapping[str, Any]) -> Trouble | None:
    """The error that a part of an answer says that it is; None where it says nothing of one."""
    named = body.get("error") or body.get("type") in _TYPES or body.get("object") == "error"
    return _trouble(body) if named else None


def trouble_of(body: Mapping[str, Any]) -> Trouble | None:
    """The error that a body or an event is, by its own word or since it says nothing else; None where it is none."""
    said = any(body.get(name) for name in _SURE) or body.get("success") is False or _status(body) > 0
    bare = said and any(body.get(name) for name in _BARE) and not any(name in body for name in _SAYING)
    return _trouble(body) if bare else trouble_named(body)


def trouble_in(body: Any) -> Trouble | None:
    """The error that a whole body is; None where it may be an answer."""
    if isinstance(body, list) and body and isinstance(body[0], Mapping):  # Gemini's
        return trouble_of(body[0])
    return trouble_of(body) if isinstance(body, Mapping) else None


def reason_in(body: Any) -> str:
    """What a body says that came with the status of an error; empty where it says nothing that is known."""
    if isinstance(body, list) and body:
        body = body[0]
    return (
        _trouble(body).reason if isinstance(body, Mapping) and any(body.get(name) for name in ("error", *_BARE)) else ""
    )


def _trouble(body: Mapping[str, Any]) -> Trouble:
    error = body.get("error")
    inner = error if isinstance(error, Mapping) else body
    title = [error] if error and not isinstance(error, Mapping) else []
    # A sentence beside a title says more than the title.
    message = next((inner[name] for name in _SENTENCES if inner.get(name)), "")
    words = [*title, message] if message else title or [inner.get("type") or "an error without a message"]
    reason = ": ".join(word if isinstance(word, str) else _text(word) for word in words)
    field = inner.get("param")
    if isinstance(field, str) and field and field not in reason:
        reason = f"{reason} (param: {field})"
    return Trouble(clean_text(reason)[:_LONGEST_REASON], _status(inner) or _status(body) or BAD_GATEWAY)


def _text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode("utf-8", "replace")


def _status(error: Mapping[str, Any]) -> int:
    """The status that an error names, by number or by word; 0 where it names none."""
    for name in _NUMBERS:
        value = error.get(name)
        is_text = isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit()
        number = int(value) if is_text else value  # type: ignore[arg-type]
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    words = (str(error.get(name) or "") for name in ("type", "code", "status"))
    return next((_STATUS_OF[word] for word in words if word in _STATUS_OF), 0)
