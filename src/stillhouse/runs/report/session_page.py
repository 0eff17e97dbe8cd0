"""A conversation as a page for a reader: one file, nothing loaded from anywhere, every text escaped."""

from collections.abc import Iterator
from typing import NamedTuple

from stillhouse.conversations.record import Call, Conversation, Part, Reasoning, Refusal, Result, Role, Text, Turn
from stillhouse.runs.report.render import template


class ShownPart(NamedTuple):
    """Something that was said, what it is, and how it is headed."""

    kind: str
    heading: str
    text: str


class ShownTurn(NamedTuple):
    """A turn, and what is to be known of it."""

    role: str
    about: tuple[str, ...]
    parts: tuple[ShownPart, ...]


def session_page(name: str, conversation: Conversation, outcome: str, unmatched: int) -> str:
    """The page of a line of a session."""
    turns = [_turn(turn) for turn in conversation.turns]
    return template("session.html").render(session=name, turns=turns, outcome=outcome, unmatched=unmatched)


def _turn(turn: Turn) -> ShownTurn:
    usage = f"{turn.usage.completion_tokens} tokens" if turn.usage and turn.usage.completion_tokens >= 0 else ""
    whose = "" if turn.role is not Role.ASSISTANT or turn.key else "no call here gave it"
    about = filter(None, (turn.model, turn.finish if turn.finish != "stop" else "", usage, turn.time, whose))
    return ShownTurn(str(turn.role), tuple(about), tuple(one for part in turn.parts for one in _part(part)))


def _part(part: Part) -> Iterator[ShownPart]:
    if isinstance(part, Text | Refusal):
        yield ShownPart("text", "refuses" if isinstance(part, Refusal) else "", part.text)
    elif isinstance(part, Reasoning):
        yield ShownPart("thinks", "thinks", part.text or part.summary or "encrypted")
    elif isinstance(part, Call):
        yield ShownPart("call", f"calls {part.name}", part.arguments)
    elif isinstance(part, Result):
        said = "".join(one.text for one in part.parts if isinstance(one, Text))
        yield ShownPart("text", f"{'error' if part.is_error else 'result'} of {part.call or 'a call'}", said)
        yield from (one for inside in part.parts if not isinstance(inside, Text) for one in _part(inside))
    else:
        yield ShownPart("text", part.kind, "")
