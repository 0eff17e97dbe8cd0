"""From a row, in whatever shape, to a conversation, its answer, and what it says of where it is from. Pure.

Read: OpenAI chat (``messages`` whose last is the assistant's), raw API responses with the question beside them (OpenRouter's
and OpenAI's chat completions, Anthropic's messages), curator's responses, distilabel's ``instruction`` and ``generation``,
ShareGPT's ``conversations``, and plain pairs of columns. A row that is none of these is skipped, with the reason.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stillhouse.nouns import Message, Usage

_PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("question", "response"), ("query", "response"), ("input", "output"), ("problem", "solution"),
)  # fmt: skip
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


class Said(NamedTuple):
    """A conversation and its answer. What a row does not say is empty; ``via`` is the service that it names, ``provider`` the
    one that this service named.
    """

    messages: tuple[Message, ...]
    text: str
    shape: str
    finish: str = "stop"
    model: str = ""
    via: str = ""
    provider: str = ""
    day: str = ""
    usage: Usage = Usage()
    id: str = ""


class Skipped(NamedTuple):
    """A row that says nothing that could be learned from, and why."""

    reason: str


def read_row(row: Mapping[str, Any]) -> Said | Skipped:
    """What a row says."""
    for reader in _READERS:
        try:
            said = reader(row)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError):
            continue
        if said is not None:
            if not said.text:
                return Skipped("the answer is empty")
            return said if said.messages else Skipped("there is no question")
    return Skipped("of no known shape")


def read_request(body: Mapping[str, Any]) -> tuple[Message, ...] | Skipped:
    """The conversation of a request in OpenAI's or Anthropic's dialect. What is not text alone is skipped: a dataset of
    texts would say something else.
    """
    asked = body.get("messages") or body.get("input") or body.get("prompt")
    before = [Message("system", _content(body[name])) for name in ("system", "instructions") if body.get(name)]
    if isinstance(asked, str):
        return (*before, Message("user", asked))
    if not isinstance(asked, list) or not all(isinstance(message, dict) for message in asked):
        return Skipped("no conversation")
    parts = [part for message in asked for part in _parts(message.get("content"))]
    if any(part.get("type") not in ("text", "input_text", "output_text") for part in parts):
        return Skipped("not text alone")
    if any(message.get("tool_calls") or message.get("role") not in _SPEAKERS for message in asked):
        return Skipped("calls of tools")
    return (*before, *_messages(asked))


_SPEAKERS = ("system", "developer", "user", "assistant")


def _parts(content: Any) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _raw_response(row: Mapping[str, Any]) -> Said | None:
    """An API's own answer, kept with its question."""
    response = row.get("raw_response") if isinstance(row.get("raw_response"), dict) else row.get("response")
    if not isinstance(response, dict) or not ("choices" in response or "content" in response):
        return None
    request = row.get("request") or row.get("raw_request") or {}
    asked = row.get("messages") or request.get("messages") or row.get("question") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", str(asked or "")),)
    text, finish, usage = _answer_of(response)
    # OpenRouter names the provider that it chose; nobody else's responses have that field.
    through = str(row.get("api_provider") or row.get("via") or ("openrouter" if response.get("provider") else ""))
    return Said(
        messages if messages[0].content else (),
        text,
        "raw API responses",
        finish,
        str(response.get("model") or row.get("api_model") or row.get("model") or ""),
        through.lower(),
        str(response.get("provider") or ""),
        _day(row.get("timestamp") or response.get("created")),
        usage,
        str(row.get("question_id") or row.get("id") or response.get("id") or ""),
    )


def _curator(row: Mapping[str, Any]) -> Said | None:
    """A line of curator's responses_N.jsonl."""
    request = row.get("generic_request")
    if not isinstance(request, dict):
        return None
    message = row.get("response_message")
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False) if message else ""
    finish, usage, provider, model = str(row.get("finish_reason") or "stop"), Usage(), "", str(request["model"])
    raw = row.get("raw_response")
    if isinstance(raw, dict) and "choices" in raw:
        said, finish, usage = _answer_of(raw)
        text, provider, model = text or said, str(raw.get("provider") or ""), str(raw.get("model") or model)
    day = _day(row.get("created_at"))
    number = str(request.get("original_row_idx", ""))
    via = "openrouter" if provider else ""
    return Said(_messages(request["messages"]), text, "curator", finish, model, via, provider, day, usage, number)


def _distilabel(row: Mapping[str, Any]) -> Said | None:
    """A row of distilabel's text generation, or of its tasks that keep a conversation."""
    if "generation" not in row or not ("instruction" in row or "messages" in row or "prompt" in row):
        return None
    asked = row.get("messages") or row.get("instruction") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", str(asked)),)
    if row.get("system_prompt"):
        messages = (Message("system", str(row["system_prompt"])), *messages)
    metadata = row.get("distilabel_metadata") or {}
    statistics = next((v for k, v in metadata.items() if k.startswith("statistics_") and isinstance(v, dict)), {})
    usage = Usage(_tokens(statistics.get("input_tokens")), _tokens(statistics.get("output_tokens")))
    said = row["generation"]
    return Said(
        messages,
        said if isinstance(said, str) else "",
        "distilabel",
        model=str(row.get("model_name") or ""),
        usage=usage,
    )


def _chat(row: Mapping[str, Any]) -> Said | None:
    """OpenAI's chat format: the last message is the answer."""
    if not isinstance(row.get("messages"), list):
        return None
    *asked, answer = _messages(row["messages"])
    if answer.role != "assistant":
        return Said(tuple(asked), "", "chat")
    metadata = row.get("metadata")
    told = metadata if isinstance(metadata, dict) else {}
    return Said(tuple(asked), answer.content, "chat", **_told({**told, **row}))


def _share_gpt(row: Mapping[str, Any]) -> Said | None:
    turns = row.get("conversations") or row.get("conversation")
    if not isinstance(turns, list) or not turns:
        return None
    *asked, answer = [_turn(turn) for turn in turns]
    return Said(tuple(asked), answer.content if answer.role == "assistant" else "", "ShareGPT", **_told(row))


def _turn(turn: Mapping[str, Any]) -> Message:
    """A turn by ShareGPT's names, or by OpenAI's."""
    role = str(turn.get("from") or turn["role"])
    return Message(_ROLES.get(role, role), str(turn.get("value") or turn["content"]))


def _pair(row: Mapping[str, Any]) -> Said | None:
    for question, answer in _PAIRS:
        if isinstance(row.get(question), str) and isinstance(row.get(answer), str):
            asked = (
                f"{row[question]}\n\n{row['input']}"
                if question == "instruction" and row.get("input")
                else row[question]
            )
            return Said((Message("user", asked),) if asked else (), row[answer], "columns", **_told(row))
    return None


_READERS: tuple[Callable[[Mapping[str, Any]], Said | None], ...] = (
    _curator, _raw_response, _distilabel, _chat, _share_gpt, _pair,
)  # fmt: skip


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What plain rows say of their origin, under the names that are usual."""
    model = next(
        (row[name] for name in ("model", "model_name", "generator", "teacher", "source_model") if row.get(name)), ""
    )
    return {
        "model": str(model) if isinstance(model, str) else "",
        "via": str(row.get("api_provider") or row.get("via") or "").lower(),
        "provider": str(row.get("provider") or ""),
        "day": _day(row.get("timestamp") or row.get("created_at") or row.get("date")),
        "id": str(row.get("id") or row.get("uuid") or ""),
        "finish": str(row.get("finish_reason") or "stop"),
    }


def _answer_of(response: Mapping[str, Any]) -> tuple[str, str, Usage]:
    usage = response.get("usage") or {}
    if "choices" in response:
        choice = response["choices"][0]
        message = choice.get("message") or {}
        tokens = Usage(_tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens")))
        return message.get("content") or choice.get("text") or "", str(choice.get("finish_reason") or "stop"), tokens
    text = "".join(part.get("text", "") for part in response["content"] if part.get("type") == "text")
    tokens = Usage(_tokens(usage.get("input_tokens")), _tokens(usage.get("output_tokens")))
    return text, str(response.get("stop_reason") or "stop"), tokens


def _messages(given: list[Any]) -> tuple[Message, ...]:
    return tuple(Message(str(message["role"]), _content(message.get("content"))) for message in given)


def _content(content: Any) -> str:
    """Text, or the text of its parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _tokens(count: Any) -> int:
    if isinstance(count, list):
        count = sum(count)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**40 else -1


def _day(moment: Any) -> str:
    """The UTC day of a timestamp in ISO 8601 or in Unix seconds; empty where it is neither."""
    if isinstance(moment, int | float) and 0 < moment < 2**33:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    text = moment.isoformat() if isinstance(moment, datetime) else str(moment or "")
    try:
        given = datetime.fromisoformat(text)
        return (given.astimezone(UTC) if given.tzinfo else given).date().isoformat()
    except (ValueError, OverflowError):
        return ""
