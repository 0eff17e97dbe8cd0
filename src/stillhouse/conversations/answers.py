"""Whole answers of four APIs: what they say, how they ended, what they counted; or that they are errors. Pure.

A provider can answer 200 and mean an error (OpenRouter, Azure, vLLM, many proxies). That is a failure, with the status that
the body names, and no answer; so is a body without any choice.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stillhouse.conversations.content import Content, clean_text, decoded, read_content, read_message
from stillhouse.conversations.finishes import (
    EMBEDDING,
    ERROR,
    MALFORMED,
    NOT_TEXT,
    REFUSAL,
    STOP,
    TOOL_CALLS,
    finish_label,
)
from stillhouse.conversations.troubles import BAD_GATEWAY, Trouble, trouble_in, trouble_named, trouble_of
from stillhouse.conversations.usage import anthropic_usage, openai_usage
from stillhouse.nouns import Usage


class Answer(NamedTuple):
    """What an answer says. ``reasoning`` is beside the text, never in it; ``finish`` is a label of ``finishes``."""

    text: str
    finish: str
    usage: Usage
    reasoning: str = ""


Read = Answer | Trouble
_MALFORMED = Answer("", MALFORMED, Usage())
_LOOKED_AT = 1000
Reader = Callable[[Mapping[str, Any]], Read]


def read_answer(reader: Reader, raw: bytes | str) -> Read:
    """What the bytes of an answer say, by the reader of its API. What no reader understands is an answer all the same, of no
    text: it was paid for, and asking again would pay again. A page or an empty body comes
    from a proxy in front of the server, and is an error.
    """
    start = raw[:_LOOKED_AT].strip()
    if not start and len(raw) < _LOOKED_AT:
        return Trouble("an empty body in place of an answer", BAD_GATEWAY)
    if start[:1] in ("<", b"<"):
        return Trouble("a page (HTML or XML) in place of an answer", BAD_GATEWAY)
    try:
        body = decoded(raw)
        return reader(body) if isinstance(body, Mapping) else trouble_in(body) or _MALFORMED
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
    failed = body.get("error") or str(body.get("status")) in ("failed", "cancelled")
    if failed and not began(read, usage):
        return trouble_of(body) or Trouble("the answer failed", BAD_GATEWAY)
    if not isinstance(items, list):
        return trouble_of(body) or _MALFORMED
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    status = str(body.get("status") or "completed")
    return finished(read, reason or ("length" if status == "incomplete" else status), usage)


def began(read: Content, usage: Usage) -> bool:
    """Was anything said or counted before an error came? Then it is an answer that ended in one, and was paid for.

    One token of an answer is what Anthropic counts before the first.
    """
    return bool(read.text or read.calls or read.reasoning or read.refusal) or usage.completion_tokens > 1


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
    if label == STOP and read.other:
        label = NOT_TEXT
    return Answer(clean_text(read.text), label, usage, clean_text(read.reasoning))


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any] | Trouble:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        # Some put an error beside what was said until then.
        if (trouble := trouble_named(choices[0]) or trouble_of(body)) is not None:
            message = choices[0].get("message")
            said = read_message(message) if isinstance(message, Mapping) else Content()
            if not began(said, openai_usage(body.get("usage"))):
                return trouble
            return {**choices[0], "finish_reason": ERROR}
        return choices[0]
    if choices is None and "choices" not in body and trouble_of(body) is None:
        raise KeyError("choices")
    return trouble_of(body) or Trouble("the answer has no choices", BAD_GATEWAY)
