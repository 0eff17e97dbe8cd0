"""What the columns of a row say beside its conversation: a system text, what was said before, what it is about, tools, pictures.

Files name them as they like. What is known is taken into the conversation; what a row here cannot hold is named, and the row left
out: a conversation without it would say something else.
"""

import contextlib
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.nouns import Message

SYSTEM = ("system", "system_prompt", "system_message", "sys_prompt", "system_instruction", "instructions")
_HISTORIES = (
    "history",
    "chat_history",
    "conversation_history",
    "message_history",
    "previous_messages",
    "dialogue_history",
)
ABOUT = ("context", "contexts", "passage", "document", "documents")
_REASONING = ("reasoning", "reasoning_content", "thinking", "reasoning_trace", "chain_of_thought")
_MEDIA = re.compile(
    r"(?:input_|prompt_|user_)?(?:images?|imgs?|pictures?|photos?|screenshots?|videos?|audios?|attachments?)"
    r"(?:_(?:paths?|urls?|files?|list|data|bytes|base64|ids?))?|experimental_attachments|multi_modal_data",
    re.IGNORECASE,
)
_TOOLS = re.compile(
    r"(?:available_|all_|input_|openai_)?(?:tools?|functions)(?:_(?:definitions?|schemas?|list|json|specs?|descriptions?))?",
    re.IGNORECASE,
)
# Where the request, or what is known of it, stands in the row as a value of its own.
_NESTED = ("metadata", "request", "raw_request", "generic_request", "extra")


_CALLS = ("tool_calls", "function_call")
_BESIDE = frozenset((*SYSTEM, *_HISTORIES, *ABOUT, *_REASONING, *_NESTED, *_CALLS, "input"))


class CannotHold(Exception):
    """The row says what a row here cannot hold; the text names it."""


@functools.lru_cache(maxsize=4096)
def say_nothing_beside(names: tuple[str, ...]) -> bool:
    """Does none of these columns say anything beside a conversation? Rows of a file have the same ones, so it is told once."""
    return _BESIDE.isdisjoint(names) and not any(_is_media(str(name)) or _is_tools(str(name)) for name in names)


@functools.lru_cache(maxsize=4096)
def _is_media(name: str) -> bool:
    return _MEDIA.fullmatch(name) is not None


@functools.lru_cache(maxsize=4096)
def _is_tools(name: str) -> bool:
    return _TOOLS.fullmatch(name) is not None


def check_media(row: Mapping[str, Any]) -> None:
    """Raises CannotHold for a row, or a turn, with pictures, sound or files beside its text."""
    if any(_is_media(str(name)) and _says(value) for name, value in row.items()):
        raise CannotHold("images, audio or video")


def check_tools(row: Mapping[str, Any]) -> None:
    """Raises CannotHold for a row, or a request, that offers or calls tools."""
    for values in _with_nested(row):
        for name, value in values.items():
            if _is_tools(str(name)) and defines_tools(value):
                raise CannotHold("definitions of tools")
        if any(values.get(name) for name in _CALLS):
            raise CannotHold("calls of tools and their results")


def calls_beside(row: Mapping[str, Any]) -> bool:
    """Does a row name calls of tools in a column of their own?"""
    return any(values.get(name) for values in _with_nested(row) for name in _CALLS)


def tools_beside(row: Mapping[str, Any]) -> Any:
    """The tools that a row, or the request in it, defines in a column of their own; None where it defines none."""
    columns = ((str(name), value) for values in _with_nested(row) for name, value in values.items())
    return next((value for name, value in columns if _is_tools(name) and defines_tools(value)), None)


def _with_nested(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row, *(row[name] for name in _NESTED if isinstance(row.get(name), Mapping))]


def defines_tools(value: Any) -> bool:
    """Does a column define tools? Many hold them as JSON text."""
    if isinstance(value, str):
        return value.strip()[:1] in ("[", "{") and value.strip() not in ("[]", "{}")
    return isinstance(value, list | dict) and bool(value)


def reasoning_of(row: Mapping[str, Any]) -> str:
    """What was thought before the answer. Raises CannotHold."""
    given = next((row[name] for name in _REASONING if row.get(name)), "")
    if given and not isinstance(given, str):
        raise CannotHold("reasoning of an unknown form")
    return str(given)


def history_of(row: Mapping[str, Any]) -> Sequence[Any]:
    """What was said before the question: pairs of a question and its answer, or turns. Raises CannotHold."""
    name = next((name for name in _HISTORIES if _says(row.get(name))), "")
    history = row.get(name) or ()
    if isinstance(history, str) and history.strip()[:1] == "[":
        with contextlib.suppress(ValueError, RecursionError):
            history = json.loads(history)
    if not isinstance(history, list | tuple):
        raise CannotHold("a history of an unknown form")
    return history


def with_about(
    messages: tuple[Message, ...], row: Mapping[str, Any], names: Sequence[str] = ABOUT
) -> tuple[Message, ...]:
    """A conversation whose last question has what it is about (Alpaca's input, Dolly's context) below it: without that, nobody
    could answer it. Nothing is added that some turn has already. Raises CannotHold.
    """
    about = next((row[name] for name in names if _says(row.get(name))), "")
    if about and not isinstance(about, str):
        raise CannotHold("a context of an unknown form")
    last = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), None)
    if not about or last is None or any(about.strip() in message.content for message in messages):
        return messages
    told = Message("user", f"{messages[last].content}\n\n{about}")
    return (*messages[:last], told, *messages[last + 1 :])


def _says(value: Any) -> bool:
    """Does a column hold anything? NaN is how tables write that it does not."""
    empty = isinstance(value, str | list | tuple | dict | bytes) and not value
    return not (value is None or value is False or empty or (isinstance(value, float) and value != value))
