"""From a row, in whatever shape, to a conversation, its answer, and what it says of where it is from. Pure.

Read: OpenAI chat (``messages`` whose last is the assistant's), raw API responses with the question beside them (OpenRouter's
and OpenAI's chat completions and responses, Anthropic's messages), curator's responses, distilabel's ``instruction`` and
``generation``, ShareGPT's ``conversations``, Alpaca with its system text and history, and plain pairs of columns. A row that is
none of these is left out, with the reason; so is one that says what a row here cannot hold: calls of tools and what came of
them, reasoning before the last turn, pictures, parts of unknown kinds.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stillhouse.conversations.answers import (
    Answer,
    Reader,
    read_chat,
    read_completion,
    read_messages,
    read_response,
)
from stillhouse.conversations.content import Content, read_message
from stillhouse.conversations.finishes import ERROR, REFUSAL, TOOL_CALLS, finish_label
from stillhouse.conversations.troubles import Trouble
from stillhouse.nouns import Message, Usage

_PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("question", "response"), ("query", "response"), ("input", "output"), ("problem", "solution"),
)  # fmt: skip
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
_SPEAKERS = ("system", "developer", "user", "assistant")
_TOOL_ROLES = frozenset({"tool", "function", "function_call", "tool_call", "observation", "ipython", "tool_response"})
# What a row can say beside its conversation that a row here cannot hold.
_CONTEXTS = ("input", "context", "contexts", "passage", "document", "documents")
_MEDIA_COLUMNS = ("images", "image", "videos", "video", "audios", "audio")
_REASONING_COLUMNS = ("reasoning", "reasoning_content", "thinking", "reasoning_trace", "chain_of_thought")


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
    reasoning: str = ""


class Skipped(NamedTuple):
    """A row that says nothing that could be learned from, and why."""

    reason: str


class _CannotHold(Exception):
    """The row says what a row here cannot hold; the text names it."""


def read_row(row: Mapping[str, Any]) -> Said | Skipped:
    """What a row says."""
    for reader in _READERS:
        try:
            said = reader(row)
            if said is not None:
                said = _with_columns(said, row)
        except _CannotHold as failure:
            return Skipped(f"a row cannot hold {failure} yet")
        except RecursionError:
            return Skipped("nested too deeply")
        except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError):
            continue
        if said is not None:
            return _checked(said)
    return Skipped("of no known shape")


def _checked(said: Said) -> Said | Skipped:
    if not said.text:
        return Skipped("the answer is empty")
    if not said.messages:
        return Skipped("there is no question")
    try:
        for text in (said.text, said.reasoning, *(message.content for message in said.messages)):
            text.encode()
    except UnicodeEncodeError:
        return Skipped("its text holds half of a surrogate pair")
    return said


def _with_columns(said: Said, row: Mapping[str, Any]) -> Said:
    """A row with what its columns say beside the conversation."""
    if _definitions(row.get("tools")) or _definitions(row.get("functions")):
        raise _CannotHold("definitions of tools")
    if row.get("tool_calls") or row.get("function_call"):
        raise _CannotHold("calls of tools and their results")
    if any(row.get(name) is not None and row.get(name) not in ("", [], {}) for name in _MEDIA_COLUMNS):
        raise _CannotHold("images, audio or video")
    reasoning = next((row[name] for name in _REASONING_COLUMNS if row.get(name)), "")
    if reasoning and not isinstance(reasoning, str):
        raise _CannotHold("reasoning of an unknown form")
    return said._replace(reasoning=said.reasoning or reasoning)


def _definitions(tools: Any) -> bool:
    """Does a column define tools? Many hold them as JSON text."""
    return bool(tools) and not (isinstance(tools, str) and tools.strip() in ("", "[]", "{}", "null", "None"))


def read_request(body: Mapping[str, Any]) -> tuple[Message, ...] | Skipped:
    """The conversation of a request in OpenAI's or Anthropic's dialect. What is not text alone is left out: a dataset of
    texts would say something else.
    """
    asked = body.get("messages") or body.get("input") or body.get("prompt")
    before = [{"role": "system", "content": body[name]} for name in ("system", "instructions") if body.get(name)]
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        return Skipped("no conversation")
    if body.get("previous_response_id") or body.get("conversation"):
        return Skipped("what was said before stands with the provider")
    try:
        return _messages([*before, *asked])
    except _CannotHold as failure:
        return Skipped(f"a row cannot hold {failure} yet")
    except (KeyError, TypeError, AttributeError, ValueError):
        return Skipped("no conversation")


def _raw_response(row: Mapping[str, Any]) -> Said | None:
    """An API's own answer, kept with its question."""
    response = row.get("raw_response") if isinstance(row.get("raw_response"), dict) else row.get("response")
    if not isinstance(response, dict) or not (response.keys() & {"choices", "content", "output"}):
        return None
    request = row.get("request") or row.get("raw_request") or {}
    asked = row.get("messages") or request.get("messages") or row.get("question") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", str(asked or "")),)
    if messages[0].content:
        messages = (*(_system(row, messages) or _system(request, messages)), *messages)
    if _definitions(request.get("tools")):
        raise _CannotHold("definitions of tools")
    if len(response.get("choices") or ()) > 1:
        raise _CannotHold("several answers to one question")
    answer = _answer_of(response)
    # OpenRouter names the provider that it chose; nobody else's responses have that field.
    through = str(row.get("api_provider") or row.get("via") or ("openrouter" if response.get("provider") else ""))
    return Said(
        messages if messages[0].content else (),
        answer.text,
        "raw API responses",
        answer.finish,
        str(response.get("model") or row.get("api_model") or row.get("model") or ""),
        through.lower(),
        str(response.get("provider") or ""),
        _day(row.get("timestamp") or response.get("created")),
        answer.usage,
        str(row.get("question_id") or row.get("id") or response.get("id") or ""),
        answer.reasoning,
    )


def _curator(row: Mapping[str, Any]) -> Said | None:
    """A line of curator's responses_N.jsonl."""
    request = row.get("generic_request")
    if not isinstance(request, dict):
        return None
    if _definitions(request.get("tools")) or _definitions(request.get("functions")):
        raise _CannotHold("definitions of tools")
    message = row.get("response_message")
    finish, usage, provider, model = finish_label(row.get("finish_reason")), Usage(), "", str(request["model"])
    reasoning = ""
    # Newer versions keep the whole answer there; structured output is an object of the user's own.
    is_answer = isinstance(message, dict) and message.get("object") == "chat.completion" and "choices" in message
    raw = message if is_answer else row.get("raw_response")
    text = message if isinstance(message, str) else ""
    if isinstance(message, dict) and not is_answer:
        text = json.dumps(message, ensure_ascii=False)
    if isinstance(raw, dict) and "choices" in raw:
        said = _answer_of(raw)
        finish, usage, reasoning = said.finish, said.usage, said.reasoning
        text, provider = text or said.text, str(raw.get("provider") or "")
        model = model if is_answer else str(raw.get("model") or model)
    day = _day(row.get("created_at"))
    number = str(request.get("original_row_idx", ""))
    via = "openrouter" if provider else ""
    return Said(
        _messages(request["messages"]), text, "curator", finish, model, via, provider, day, usage, number, reasoning
    )


def _distilabel(row: Mapping[str, Any]) -> Said | None:
    """A row of distilabel's text generation, or of its tasks that keep a conversation."""
    if "generation" not in row or not ("instruction" in row or "messages" in row or "prompt" in row):
        return None
    asked = row.get("messages") or row.get("instruction") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", _with_context(str(asked), row)),)
    messages = (*_system(row, messages), *messages)
    metadata = row.get("distilabel_metadata") or {}
    statistics = next((v for k, v in metadata.items() if k.startswith("statistics_") and isinstance(v, dict)), {})
    usage = Usage(_tokens(statistics.get("input_tokens")), _tokens(statistics.get("output_tokens")))
    said = read_message({"content": row["generation"]})
    return Said(
        messages,
        _text("assistant", said, holds_reasoning=True),
        "distilabel",
        model=str(row.get("model_name") or ""),
        usage=usage,
        reasoning=said.reasoning,
    )


def _chat(row: Mapping[str, Any]) -> Said | None:
    """OpenAI's chat format: the last message is the answer."""
    if not isinstance(row.get("messages"), list):
        return None
    metadata = row.get("metadata")
    told = metadata if isinstance(metadata, dict) else {}
    said = _conversation(row["messages"], "chat", {**told, **row})
    return said._replace(messages=(*_system(row, said.messages), *said.messages))


def _share_gpt(row: Mapping[str, Any]) -> Said | None:
    turns = row.get("conversations") or row.get("conversation")
    if not isinstance(turns, list) or not turns:
        return None
    before = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return _conversation([*before, *turns], "ShareGPT", row)


def _conversation(turns: list[Any], shape: str, told: Mapping[str, Any]) -> Said:
    said = _told(told)
    asked = _messages(turns[:-1])
    role, read = _read_turn(turns[-1])
    if role != "assistant":
        return Said((*asked, Message(role, _text(role, read))), "", shape)
    if read.refusal and not read.text:
        said["finish"] = REFUSAL
    return Said(asked, _text(role, read, holds_reasoning=True), shape, **said, reasoning=read.reasoning)


def _pair(row: Mapping[str, Any]) -> Said | None:
    for question, answer in _PAIRS:
        if isinstance(row.get(question), str) and isinstance(row.get(answer), str):
            asked = _with_context(row[question], row) if "input" not in (question, answer) else row[question]
            before = _before(row)
            return Said((*before, Message("user", asked)) if asked else (), row[answer], "columns", **_told(row))
    return None


def _before(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What was said before an Alpaca row's question: its system text, and its history of questions and answers."""
    said = [*_system(row, ())]
    history = row.get("history") or row.get("chat_history") or ()
    if not isinstance(history, list | tuple):
        raise _CannotHold("a history of an unknown form")
    for turn in history:
        if isinstance(turn, Mapping) and "role" in turn:
            said += _messages([turn])
            continue
        if not isinstance(turn, list | tuple) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise _CannotHold("a history of an unknown form")
        said += [Message("user", turn[0]), Message("assistant", turn[1])]
    return tuple(said)


def _system(row: Mapping[str, Any], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The system text that stands beside a conversation, unless the conversation has one itself."""
    given = next((row[name] for name in ("system", "system_prompt", "instructions") if row.get(name)), "")
    if isinstance(given, list):
        given = _text("system", read_message({"content": given}))
    if given and not isinstance(given, str):
        raise _CannotHold("a system text of an unknown form")
    if not given or any(message.role in ("system", "developer") for message in messages):
        return ()
    return (Message("system", given),)


def _with_context(asked: str, row: Mapping[str, Any]) -> str:
    """An instruction with what it is about (Alpaca's input, Dolly's context): without it, nobody could answer it."""
    about = next((row[name] for name in _CONTEXTS if row.get(name)), "")
    if about and not isinstance(about, str):
        raise _CannotHold("a context of an unknown form")
    return f"{asked}\n\n{about}" if about and about != asked else asked


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
        "finish": finish_label(row.get("finish_reason") or row.get("stop_reason")),
    }


def _answer_of(response: Mapping[str, Any]) -> Answer:
    """What an API's answer says, by the reader that reads it when it is collected."""
    reader: Reader = read_messages if "content" in response else read_response
    if "choices" in response:
        first = response["choices"][0] if response["choices"] else {}
        reader = read_completion if "text" in first and "message" not in first else read_chat
    read = reader(response)
    if isinstance(read, Trouble):
        return Answer("", ERROR, Usage())
    if read.finish == TOOL_CALLS:
        raise _CannotHold("calls of tools and their results")
    return read


def _messages(given: list[Any]) -> tuple[Message, ...]:
    return tuple(Message(role, _text(role, read)) for role, read in map(_read_turn, given))


def _read_turn(turn: Mapping[str, Any]) -> tuple[str, Content]:
    """A turn by OpenAI's names, or by ShareGPT's: who speaks, and what is said."""
    named = str(turn.get("from") or turn.get("role") or turn.get("type") or "")
    role = _ROLES.get(named, named)
    if role in _TOOL_ROLES or turn.get("tool_call_id"):
        raise _CannotHold("calls of tools and their results")
    if "value" in turn:
        turn = {**turn, "content": turn["value"]}
    elif "content" not in turn and isinstance(turn.get("text"), str):
        turn = {**turn, "content": turn["text"]}
    if role not in _SPEAKERS:
        if "call" in role or role == "reasoning":
            raise _CannotHold("calls of tools" if "call" in role else "reasoning")
        raise _CannotHold(f"the role {role[:40]!r}")
    return role, read_message(turn)


def _text(role: str, read: Content, *, holds_reasoning: bool = False) -> str:
    """The text of a message, where text is all that it is; a row holds the reasoning of its answer, and of no other turn."""
    if read.calls or "tool_result" in read.other:
        raise _CannotHold("calls of tools and their results")
    if read.reasoning and not holds_reasoning:
        raise _CannotHold("reasoning before its last turn")
    if read.other:
        raise _CannotHold(f"content of type {', '.join(sorted(read.other))[:80]}")
    return read.text or (read.refusal if role == "assistant" else "")


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
