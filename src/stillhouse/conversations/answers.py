"""Whole answers of four APIs: what they say, how they ended, what they counted; or that they are errors. Pure.

A provider can answer 200 and mean an error (OpenRouter, Azure, vLLM, many proxies). That is a failure, with the status that
the body names, and no answer; so is a body without any choice.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from stillhouse.conversations.content import Content, clean_text, decoded, read_content, read_message
from stillhouse.conversations.finishes import EMBEDDING, ERROR, MALFORMED, REFUSAL, STOP, TOOL_CALLS, finish_label
from stillhouse.conversations.usage import anthropic_usage, count, openai_usage
from stillhouse.nouns import Usage

# What a body that is no answer is taken for: a bad gateway, which is worth another try and may have been billed.
_BAD_GATEWAY = 502
_LONGEST_REASON = 320
# Kinds of error by the words of Anthropic's and OpenAI's APIs, where the body names no number.
_STATUS_OF = {
    "overloaded_error": 529, "rate_limit_error": 429, "rate_limit_exceeded": 429, "rate_limit": 429, "api_error": 500,
    "server_error": 500, "timeout_error": 504, "invalid_request_error": 400, "authentication_error": 401,
    "permission_error": 403, "not_found_error": 404, "billing_error": 402, "insufficient_quota": 402,
}  # fmt: skip


class Answer(NamedTuple):
    """What an answer says. ``reasoning`` is beside the text, never in it; ``finish`` is a label of ``finishes``."""

    text: str
    finish: str
    usage: Usage
    reasoning: str = ""


class Trouble(NamedTuple):
    """A body that is an error, whatever the status it came with. ``status`` is the one that it means."""

    reason: str
    status: int


Read = Answer | Trouble
_MALFORMED = Answer("", MALFORMED, Usage())
Reader = Callable[[Mapping[str, Any]], Read]


def read_answer(reader: Reader, raw: bytes | str) -> Read:
    """What the bytes of an answer say, by the reader of its API. What no reader understands is an answer all the same, of no
    text: it was paid for, and asking again would pay again.
    """
    try:
        body = decoded(raw)
        return reader(body) if isinstance(body, Mapping) else _MALFORMED
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError):
        return _MALFORMED


def read_chat(body: Mapping[str, Any]) -> Read:
    """OpenAI's chat completions; the first choice."""
    choice = _first_choice(body)
    if isinstance(choice, Trouble):
        return choice
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return _MALFORMED
    return finished(read_message(message), choice.get("finish_reason"), openai_usage(body.get("usage")))


def read_completion(body: Mapping[str, Any]) -> Read:
    """OpenAI's old completions: text in, text out."""
    choice = _first_choice(body)
    if isinstance(choice, Trouble):
        return choice
    return finished(read_content(choice["text"]), choice.get("finish_reason"), openai_usage(body.get("usage")))


def read_embedding(body: Mapping[str, Any]) -> Read:
    """OpenAI's embeddings: numbers, billed by the prompt."""
    trouble = trouble_of(body)
    if trouble is not None:
        return trouble
    prompt = openai_usage(body.get("usage")).prompt_tokens
    return Answer("", EMBEDDING, Usage(prompt, 0 if prompt >= 0 else -1))


def read_messages(body: Mapping[str, Any]) -> Read:
    """Anthropic's messages."""
    trouble = trouble_of(body)
    if trouble is not None:
        return trouble
    if "content" not in body:
        return _MALFORMED
    return finished(read_content(body["content"]), body.get("stop_reason"), anthropic_usage(body.get("usage")))


def read_response(body: Mapping[str, Any]) -> Read:
    """OpenAI's responses: a list of items. One that failed after it had begun is an answer that ended in an error."""
    usage, items = openai_usage(body.get("usage")), body.get("output")
    read = _items(items if isinstance(items, list) else [])
    if body.get("error") and not (read.text or read.calls or count((body.get("usage") or {}).get("output_tokens")) > 0):
        return trouble_of(body) or Trouble("the answer failed", _BAD_GATEWAY)
    if not isinstance(items, list):
        return _MALFORMED
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    status = str(body.get("status") or "completed")
    return finished(read, reason or ("length" if status == "incomplete" else status), usage)


def _items(items: list[Any]) -> Content:
    """The messages of a response as one content; whatever else it did is a call."""
    parts: list[Any] = []
    for item in items:
        if not isinstance(item, Mapping):
            continue
        kind = str(item.get("type") or "message")
        if kind == "message":
            content = item.get("content")
            parts += content if isinstance(content, list) else [content or ""]
        else:
            parts.append(item if kind == "reasoning" else {"type": "tool_use"})
    return read_content(parts)


def finished(read: Content, said: Any, usage: Usage) -> Answer:
    """An answer by its content and by what its API calls its end.

    An end that fits the content better than a plain stop is named: a refusal, a call of a tool.
    """
    label = finish_label(said)
    if label == STOP and read.refusal and not read.text:
        label = REFUSAL
    if label in (STOP, REFUSAL) and read.calls:
        label = TOOL_CALLS
    return Answer(clean_text(read.text), label, usage, clean_text(read.reasoning))


def trouble_of(body: Mapping[str, Any]) -> Trouble | None:
    """The error that a body is, in any dialect; None where it is none."""
    error = body.get("error")
    if not error and body.get("type") != "error" and body.get("object") != "error":
        return None
    error = error or body
    if not isinstance(error, Mapping):
        return Trouble(clean_text(str(error))[:_LONGEST_REASON], _BAD_GATEWAY)
    message = error.get("message") or error.get("detail") or error.get("type") or "an error without a message"
    if not isinstance(message, str):
        message = msgspec.json.encode(message, enc_hook=str).decode("utf-8", "replace")
    return Trouble(clean_text(message)[:_LONGEST_REASON], _status(error))


def _status(error: Mapping[str, Any]) -> int:
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        number = int(value) if isinstance(value, str) and value.isdigit() else value
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    named = (str(error.get(name) or "") for name in ("type", "code", "status"))
    return next((_STATUS_OF[name] for name in named if name in _STATUS_OF), _BAD_GATEWAY)


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any] | Trouble:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        # Some put an error beside what was said until then.
        if (trouble := trouble_of(choices[0]) or trouble_of(body)) is not None:
            message = choices[0].get("message")
            said = read_message(message) if isinstance(message, Mapping) else Content()
            if not (said.text or said.calls):
                return trouble
            return {**choices[0], "finish_reason": ERROR}
        return choices[0]
    if choices is None and "choices" not in body and trouble_of(body) is None:
        raise KeyError("choices")
    return trouble_of(body) or Trouble("the answer has no choices", _BAD_GATEWAY)
