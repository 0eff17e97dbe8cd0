"""How a provider's requests are written and its answers read. No I/O, and no HTTP library, which takes a while
to import.
"""

from typing import Any, NamedTuple, Protocol

import msgspec

from stillhouse.nouns import Ask, Teacher, Usage

_MOST_TOKENS = 2**40  # more is not a count of tokens


class Read(NamedTuple):
    """What a dialect reads from an answer."""

    text: str
    finish: str
    usage: Usage


class Dialect(Protocol):
    """How one provider's requests are written and its answers read. No I/O."""

    path: str
    default_base_url: str
    idempotency_header: str

    def headers(self, key: str) -> dict[str, str]:
        """Headers of every request."""

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The JSON of a request."""

    def read(self, answer: Any) -> Read:
        """What an answer's JSON says; raises KeyError, TypeError or IndexError where it is malformed."""


def read_answer(dialect: Dialect, raw: bytes | str) -> Read:
    """What an answer says; one that cannot be read is an answer all the same, and was paid for."""
    try:
        read = dialect.read(msgspec.json.decode(raw))
        if isinstance(read.text, str):
            usage = Usage(_count(read.usage.prompt_tokens), _count(read.usage.completion_tokens))
            text = read.text.encode("utf-8", "replace").decode()  # half a surrogate is no text
            return Read(text, str(read.finish), usage)
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError):
        pass
    return Read("", "malformed", Usage())


def _count(tokens: int) -> int:
    """A teacher's count, where it can be one."""
    return tokens if 0 <= tokens <= _MOST_TOKENS else -1


def error_message(text: str) -> str:
    """What an error's body says, in any dialect."""
    try:
        error = msgspec.json.decode(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, KeyError, TypeError, RecursionError):
        return " ".join(text[:2000].split()) or "an empty answer"
