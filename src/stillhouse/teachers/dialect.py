"""How a provider's requests are written, and by which reader its answers are read. No I/O, and no HTTP library, which takes a
while to import.
"""

import re
from typing import Any, Protocol

from stillhouse.conversations.answers import Reader
from stillhouse.conversations.content import decoded
from stillhouse.conversations.troubles import reason_in
from stillhouse.nouns import Ask, Teacher

# Fields of a request that no answer needs: a server that knows them not can be asked without.
OPTIONAL = ("temperature", "seed")
# The names that servers give the most tokens of an answer, in the order in which they are tried.
LIMITS = ("max_tokens", "max_completion_tokens")


class Dialect(Protocol):
    """How one provider's requests are written and its answers read. No I/O."""

    path: str
    idempotency_header: str

    @property
    def reader(self) -> Reader:
        """What reads an answer's JSON."""

    def headers(self, key: str) -> dict[str, str]:
        """Headers of every request."""

    def body(self, teacher: Teacher, ask: Ask) -> dict[str, Any]:
        """The JSON of a request: what the ask needs, in fields that the teacher takes."""


def optional_fields(teacher: Teacher, ask: Ask) -> dict[str, Any]:
    """The fields of a request that say how to sample, but for those that the teacher rejects."""
    seed = (ask.parameters.seed + ask.sample) & 0x7FFFFFFF
    fields = {"temperature": ask.parameters.temperature, "seed": seed}
    return {name: value for name, value in fields.items() if name not in teacher.rejects}


def error_message(text: str) -> str:
    """What an error's body says, in any dialect."""
    try:
        reason = reason_in(decoded(text))
    except (ValueError, RecursionError):
        reason = ""
    return reason or " ".join(text[:2000].split()) or "an empty answer"


def rejected_field(reason: str, fields: tuple[str, ...]) -> str:
    """Which of some fields an error's message names; empty where it names none.

    The one that is named first: some go on to name the one that should be used instead.
    """
    found = [(match.start(), name) for name in fields if (match := re.search(rf"(?<![a-z_]){name}(?![a-z_])", reason))]
    return min(found)[1] if found else ""
