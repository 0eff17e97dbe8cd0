"""Texts, messages and conversations without the secrets in them (``secrets_in_text`` says which). Pure.

Looked at is every text that somebody can read: what is said, thought, called, given back and defined. Not looked at are what a
provider alone can read (signatures, encrypted reasoning) and files by their bytes.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from stillhouse.conversations.record import (
    Call,
    Conversation,
    Part,
    Reasoning,
    Refusal,
    Result,
    Text,
    Tool,
    Turn,
    Unknown,
)
from stillhouse.conversations.secrets_in_text import redact
from stillhouse.nouns import Message


class Secrets(StrEnum):
    """What is done with secrets: nothing; their kind stands in their place; or the row that holds one is left out."""

    KEEP = "keep"
    REDACT = "redact"
    DROP = "drop"


class Redaction:
    """Takes the secrets out of what it is given; ``kinds`` are those of all that it has taken."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def text(self, text: str) -> str:
        """A text with the kind of each secret in its place."""
        without, kinds = redact(text)
        self.kinds += kinds
        return without

    def messages(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Messages."""
        return tuple(Message(message.role, self.text(message.content)) for message in messages)

    def conversation(self, said: Conversation) -> Conversation:
        """A conversation with its tools and its outcome."""
        outcome = said.outcome and msgspec.structs.replace(said.outcome, why=self.text(said.outcome.why))
        return msgspec.structs.replace(
            said, turns=tuple(map(self._turn, said.turns)), tools=tuple(map(self._tool, said.tools)), outcome=outcome,
            id=self.text(said.id), parent=self.text(said.parent),
        )  # fmt: skip

    def _turn(self, turn: Turn) -> Turn:
        return msgspec.structs.replace(turn, parts=tuple(map(self._part, turn.parts)), name=self.text(turn.name))

    def _tool(self, tool: Tool) -> Tool:
        texts = {name: self.text(getattr(tool, name)) for name in ("name", "description", "parameters", "extra")}
        return msgspec.structs.replace(tool, **texts)

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text | Refusal):
            return msgspec.structs.replace(part, text=self.text(part.text))
        if isinstance(part, Reasoning):
            return msgspec.structs.replace(part, text=self.text(part.text), summary=self.text(part.summary))
        if isinstance(part, Call):
            texts = {name: self.text(getattr(part, name)) for name in ("name", "arguments", "id")}
            return msgspec.structs.replace(part, **texts)
        if isinstance(part, Result):
            inside = tuple(map(self._part, part.parts))
            return msgspec.structs.replace(part, parts=inside, call=self.text(part.call), name=self.text(part.name))
        if isinstance(part, Unknown):
            return msgspec.structs.replace(part, raw=self.text(part.raw))
        return msgspec.structs.replace(part, url=self.text(part.url))
