"""From a row, in whatever shape, to a conversation, its answer, and what it says of where it is from. Pure.

Read: OpenAI chat (``messages`` whose last is the assistant's), raw API responses with the question beside them (OpenRouter's
and OpenAI's chat completions and responses, Anthropic's messages), curator's responses, distilabel's ``instruction`` and
``generation``, ShareGPT's ``conversations``, Alpaca with its system text and history, and plain pairs of columns. A row that is
none of these is left out, with the reason; so is one that says what a row here cannot hold: calls of tools and what came of
them, reasoning before the last turn, pictures, parts of unknown kinds.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stillhouse.conversations.answers import Answer, Reader, read_chat, read_completion, read_messages, read_response
from stillhouse.conversations.content import Content, read_message
from stillhouse.conversations.finishes import ERROR, REFUSAL, TOOL_CALLS, finish_label
from stillhouse.conversations.record import Conversation, Outcome
from stillhouse.conversations.troubles import Trouble
from stillhouse.datasets.corpora.columns import (
    ABOUT,
    SYSTEM,
    CannotHold,
    check_media,
    check_tools,
    history_of,
    reasoning_of,
    say_nothing_beside,
    with_about,
)
from stillhouse.datasets.corpora.named_models import named_model
from stillhouse.nouns import Message, Usage

_PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("question", "response"), ("query", "response"), ("input", "output"), ("problem", "solution"),
)  # fmt: skip
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
_SPEAKERS = ("system", "developer", "user", "assistant")
_ROLE_AND_CONTENT = _QUESTION_AND_ANSWER = 2
# Columns by which a row is none of a plain chat.
_OTHER_READERS = frozenset(
    {"generic_request", "raw_response", "response", "answer", "completion", "output", "generation", "metadata"}
)
_TOOL_ROLES = frozenset({"tool", "function", "function_call", "tool_call", "observation", "ipython", "tool_response"})
# By which turns name what is said in them.
_SAYINGS = ("value", "content", "text", "val", "message", "utterance", "parts")
# Longer text is not looked at as the JSON of a response.
_LONGEST_RESPONSE = 10_000_000


UNKNOWN_SHAPE = "of no known shape"


class ParsedRow(NamedTuple):
    """A conversation and its answer. What a row does not say is empty; ``via`` is the service that it names, ``provider`` the
    one that this service named.

    Where it says more than text, ``conversation`` is all of it, of which ``messages`` and ``text`` are the words; ``speakers``
    are the model and the day of each answer in it, and ``columns`` those of the row that it was read from.
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
    conversation: Conversation | None = None
    speakers: tuple[tuple[str, str], ...] = ()
    columns: frozenset[str] = frozenset()
    outcome: Outcome | None = None


class Skipped(NamedTuple):
    """A row that says nothing that could be learned from, and why."""

    reason: str


def _plain_chat(row: Mapping[str, Any]) -> ParsedRow | None:
    """A chat of plain turns beside columns that say nothing else, as most rows of most files are; the readers below would say
    the same of it. None for any other row.
    """
    turns = row.get("messages")
    if type(turns) is not list or len(turns) < _QUESTION_AND_ANSWER or not _is_plain(tuple(row)):
        return None
    said = []
    for turn in turns:
        if type(turn) is not dict or len(turn) != _ROLE_AND_CONTENT:
            return None
        role, text = turn.get("role"), turn.get("content")
        if type(text) is not str or not text or role not in _SPEAKERS:
            return None
        said.append(Message(role, text))
    last = said.pop()
    if last.role != "assistant":
        return None
    return ParsedRow(tuple(said), last.content, "chat", **told_of(row))


@functools.lru_cache(maxsize=4096)
def _is_plain(names: tuple[Any, ...]) -> bool:
    """Is a row with these columns read by the reader of chats, and by nothing else?"""
    return _OTHER_READERS.isdisjoint(names) and say_nothing_beside(names)


def read_row(row: Mapping[str, Any]) -> ParsedRow | Skipped:
    """What a row says."""
    with contextlib.suppress(
        KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError, RecursionError
    ):
        plain = _plain_chat(row)
        if plain is not None:
            return _checked(plain._replace(model=named_model(plain.model, row)))
    for reader in _READERS:
        try:
            said = reader(row)
            if said is not None:
                said = _with_columns(said, row)
        except CannotHold as failure:
            return Skipped(f"a row cannot hold {failure} yet")
        except RecursionError:
            return Skipped("nested too deeply")
        except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError):
            continue
        if said is not None:
            return _checked(said)
    return Skipped(UNKNOWN_SHAPE)


def _checked(said: ParsedRow) -> ParsedRow | Skipped:
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


def _with_columns(said: ParsedRow, row: Mapping[str, Any]) -> ParsedRow:
    """A row with what its columns say beside the conversation."""
    if say_nothing_beside(tuple(row)):
        return said._replace(model=named_model(said.model, row))
    check_tools(row)
    check_media(row)
    messages = with_about(said.messages, row) if said.messages else ()
    before = (*_system(row, messages), *_history(row)) if messages else ()
    known = {message.content for message in messages}
    is_chat = sum(message.role == "user" for message in messages) > 1
    if is_chat and any(message.content in known for message in before if message.role == "user"):
        before = _system(row, messages)  # the conversation has it already
    if messages and messages[0].role in ("system", "developer"):
        messages = (messages[0], *before, *messages[1:])
    else:
        messages = (*before, *messages)
    return said._replace(
        messages=messages, reasoning=said.reasoning or reasoning_of(row), model=named_model(said.model, row)
    )


def _raw_response(row: Mapping[str, Any]) -> ParsedRow | None:
    """An API's own answer, kept with its question."""
    named = (response_of(row.get(name)) for name in ("raw_response", "response", "answer", "completion", "output"))
    response = next((found for found in named if found is not None), None)
    if response is None:
        return None
    request = row.get("request") or row.get("raw_request") or {}
    asked = row.get("messages") or request.get("messages") or row.get("question") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", str(asked or "")),)
    if messages[0].content:
        messages = (*(() if _system(row, messages) else _system(request, messages)), *messages)
    if len(response.get("choices") or ()) > 1:
        raise CannotHold("several answers to one question")
    answer = _answer_of(response)
    # OpenRouter names the provider that it chose; nobody else's responses have that field.
    through = str(row.get("api_provider") or row.get("via") or ("openrouter" if response.get("provider") else ""))
    return ParsedRow(
        messages if messages[0].content else (),
        answer.text,
        "raw API responses",
        answer.finish,
        str(response.get("model") or row.get("api_model") or row.get("model") or ""),
        through.lower(),
        str(response.get("provider") or ""),
        day_of(row.get("timestamp") or response.get("created")),
        answer.usage,
        str(row.get("question_id") or row.get("id") or response.get("id") or ""),
        answer.reasoning,
    )


def _curator(row: Mapping[str, Any]) -> ParsedRow | None:
    """A line of curator's responses_N.jsonl."""
    request = row.get("generic_request")
    if not isinstance(request, dict):
        return None
    check_tools(request)
    message = row.get("response_message")
    finish, usage, provider, model = finish_label(row.get("finish_reason")), Usage(), "", str(request["model"])
    reasoning = ""
    # Newer versions keep the whole answer there; structured output is an object of the user's own.
    is_answer = response_of(message) is not None
    raw = response_of(message) or response_of(row.get("raw_response"))
    text = message if isinstance(message, str) and not is_answer else ""
    if isinstance(message, dict) and not is_answer:
        text = json.dumps(message, ensure_ascii=False)
    if raw is not None:
        said = _answer_of(raw)
        finish, usage, reasoning = said.finish, said.usage, said.reasoning
        text, provider = text or said.text, str(raw.get("provider") or "")
        model = model if is_answer else str(raw.get("model") or model)
    day = day_of(row.get("created_at"))
    number = str(request.get("original_row_idx", ""))
    via = "openrouter" if provider else ""
    return ParsedRow(
        _messages(request["messages"]), text, "curator", finish, model, via, provider, day, usage, number, reasoning
    )


def _distilabel(row: Mapping[str, Any]) -> ParsedRow | None:
    """A row of distilabel's text generation, or of its tasks that keep a conversation."""
    if "generation" not in row or not ("instruction" in row or "messages" in row or "prompt" in row):
        return None
    asked = row.get("messages") or row.get("instruction") or row.get("prompt")
    messages = _messages(asked) if isinstance(asked, list) else (Message("user", str(asked)),)
    messages = with_about(messages, row, ("input", *ABOUT))
    if isinstance(row["generation"], list) and sum(isinstance(part, str) for part in row["generation"]) > 1:
        raise CannotHold("several answers to one question")
    metadata = row.get("distilabel_metadata") or {}
    statistics = next((v for k, v in metadata.items() if k.startswith("statistics_") and isinstance(v, dict)), {})
    usage = Usage(_tokens(statistics.get("input_tokens")), _tokens(statistics.get("output_tokens")))
    said = read_message({"content": row["generation"]})
    return ParsedRow(
        messages,
        _text("assistant", said, holds_reasoning=True),
        "distilabel",
        model=str(row.get("model_name") or ""),
        usage=usage,
        reasoning=said.reasoning,
    )


def _chat(row: Mapping[str, Any]) -> ParsedRow | None:
    """OpenAI's chat format: the last message is the answer."""
    if not isinstance(row.get("messages"), list):
        return None
    metadata = row.get("metadata")
    told = metadata if isinstance(metadata, dict) else {}
    return _conversation(row["messages"], "chat", {**told, **row})


def _share_gpt(row: Mapping[str, Any]) -> ParsedRow | None:
    turns = row.get("conversations") or row.get("conversation")
    if not isinstance(turns, list) or not turns:
        return None
    return _conversation(turns, "ShareGPT", row)


def _conversation(turns: list[Any], shape: str, told: Mapping[str, Any]) -> ParsedRow:
    said = told_of(told)
    asked = _messages(turns[:-1])
    role, read = _read_turn(turns[-1])
    if role != "assistant":
        return ParsedRow((*asked, Message(role, _text(role, read))), "", shape)
    if read.refusal and not read.text:
        said["finish"] = REFUSAL
    return ParsedRow(asked, _text(role, read, holds_reasoning=True), shape, **said, reasoning=read.reasoning)


def _pair(row: Mapping[str, Any]) -> ParsedRow | None:
    for question, answer in _PAIRS:
        if isinstance(row.get(question), str) and isinstance(row.get(answer), str):
            asked = (Message("user", row[question]),) if row[question] else ()
            names = ABOUT if "input" in (question, answer) else ("input", *ABOUT)
            return ParsedRow(with_about(asked, row, names), row[answer], "columns", **told_of(row))
    return None


def _history(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """What was said before a row's question, in turns or in pairs of a question and its answer."""
    said: list[Message] = []
    for turn in history_of(row):
        if isinstance(turn, Mapping) and ("role" in turn or "from" in turn):
            said += _messages([turn])
            continue
        if not isinstance(turn, list | tuple) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise CannotHold("a history of an unknown form")
        said += [Message("user", turn[0]), Message("assistant", turn[1])]
    return tuple(said)


def _system(row: Mapping[str, Any], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The system text that stands beside a conversation, unless the conversation has one itself."""
    given = next((row[name] for name in SYSTEM if row.get(name)), "")
    if isinstance(given, list):
        given = _text("system", read_message({"content": given}))
    if given and not isinstance(given, str):
        raise CannotHold("a system text of an unknown form")
    if not given or any(message.role in ("system", "developer") for message in messages):
        return ()
    return (Message("system", given),)


def response_of(value: Any) -> Mapping[str, Any] | None:
    """An API's own answer, as a value or as JSON text; None for anything else."""
    is_text = isinstance(value, str)
    if is_text and value.lstrip()[:1] == "{" and len(value) < _LONGEST_RESPONSE:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    lists = {name for name in ("choices", "content", "output") if isinstance(value.get(name), list)}
    if not is_text:
        return value if lists else None
    is_message = "content" in lists and ("role" in value or value.get("type") == "message")
    return (
        value if "choices" in lists or is_message or ("output" in lists and value.get("object") == "response") else None
    )


_READERS: tuple[Callable[[Mapping[str, Any]], ParsedRow | None], ...] = (
    _curator, _raw_response, _distilabel, _chat, _share_gpt, _pair,
)  # fmt: skip


def told_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What plain rows say of their origin, under the names that are usual."""
    model = next(
        (row[name] for name in ("model", "model_name", "generator", "teacher", "source_model") if row.get(name)), ""
    )
    return {
        "model": str(model) if isinstance(model, str) else "",
        "via": str(row.get("api_provider") or row.get("via") or "").lower(),
        "provider": str(row.get("provider") or ""),
        "day": day_of(row.get("timestamp") or row.get("created_at") or row.get("date")),
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
        raise CannotHold("calls of tools and their results")
    return read


def _messages(given: list[Any]) -> tuple[Message, ...]:
    said = tuple(Message(role, _text(role, read)) for role, read in map(_read_turn, given))
    if any(not message.content and message.role not in ("system", "developer") for message in said):
        raise CannotHold("a turn without text")
    return tuple(message for message in said if message.content)


def _read_turn(turn: Mapping[str, Any]) -> tuple[str, Content]:
    """A turn by OpenAI's names, or by ShareGPT's: who speaks, and what is said."""
    if len(turn) == _ROLE_AND_CONTENT and turn.get("role") in _SPEAKERS and isinstance(turn.get("content"), str):
        return turn["role"], Content(turn["content"])  # as most turns are
    named = str(turn.get("from") or turn.get("role") or turn.get("type") or "")
    role = _ROLES.get(named, named)
    if role in _TOOL_ROLES or turn.get("tool_call_id"):
        raise CannotHold("calls of tools and their results")
    check_media(turn)
    turn = {**turn, "content": next((turn[name] for name in _SAYINGS if turn.get(name)), None)}
    if role not in _SPEAKERS:
        if "call" in role or role == "reasoning":
            raise CannotHold("calls of tools" if "call" in role else "reasoning")
        raise CannotHold(f"the role {role[:40]!r}")
    return role, read_message(turn)


def _text(role: str, read: Content, *, holds_reasoning: bool = False) -> str:
    """The text of a message, where text is all that it is; a row holds the reasoning of its answer, and of no other turn."""
    if read.calls or "tool_result" in read.other:
        raise CannotHold("calls of tools and their results")
    if read.reasoning and not holds_reasoning:
        raise CannotHold("reasoning before its last turn")
    if read.other:
        raise CannotHold(f"content of type {', '.join(sorted(read.other))[:80]}")
    return read.text or (read.refusal if role == "assistant" else "")


def _tokens(count: Any) -> int:
    if isinstance(count, list):
        count = sum(count)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**40 else -1


def day_of(moment: Any) -> str:
    """The UTC day of a timestamp in ISO 8601 or in Unix seconds; empty where it is neither."""
    if isinstance(moment, int | float) and 0 < moment < 2**33:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    text = moment.isoformat() if isinstance(moment, datetime) else str(moment or "")
    try:
        given = datetime.fromisoformat(text)
        return (given.astimezone(UTC) if given.tzinfo else given).date().isoformat()
    except (ValueError, OverflowError):
        return ""
