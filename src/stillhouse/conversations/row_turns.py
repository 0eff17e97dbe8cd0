"""What of a conversation a row holds: where it ends, its words, and whether it is text alone. Pure.

A row ends before the first turn that is denied: what follows was said because of it. Passed over are answers that failed or were
stopped half-way, and those whose calls have no results, as clients do when they ask again. Other answers that are no whole ones
stay where more follows, with their finish, and end the row where nothing does. A row that goes on from another one (a fork)
shares its first turns with it; those count once, there.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_plain, raw_digest
from stillhouse.conversations.finishes import STOP, TOOL_CALLS, FinishKind, finish_label, incomplete
from stillhouse.conversations.record import (
    Call,
    Conversation,
    Reasoning,
    Refusal,
    Result,
    Role,
    Text,
    Turn,
    is_plain,
    said_digest,
    text_of,
)
from stillhouse.conversations.usage import count
from stillhouse.nouns import Message, Usage

NO_RESULT = "a call of a tool has no result"


class RowTurns(NamedTuple):
    """The turns of a row, and why it does not hold all of its conversation ("" where it does)."""

    conversation: Conversation
    ends: str


def row_turns(
    conversation: Conversation, keep: Collection[str] = (), denied: Callable[[Turn], str] = lambda turn: ""
) -> RowTurns:
    """What a row holds of a conversation; ``keep`` are kinds of incomplete answers that are kept on purpose, ``denied`` says why
    a turn is, "" where it is not.
    """
    whole, why = _without_failed(conversation, keep)
    turns, ends = whole.turns, ""
    for place, turn in enumerate(turns):
        ends = denied(turn)
        if ends:
            turns = turns[:place]
            break
    answers = [place for place, turn in enumerate(turns) if turn.role is Role.ASSISTANT]
    while answers and (kind := incomplete_answer(turns[answers[-1]])) is not None and kind not in keep:
        turns, ends = turns[: answers.pop()], ends or f"the answer is {kind}"
    if ends:
        turns = turns[: answers[-1] + 1] if answers else ()
    why = ends or why
    return RowTurns(msgspec.structs.replace(whole, turns=turns), why) if why else RowTurns(conversation, "")


def _without_failed(conversation: Conversation, keep: Collection[str]) -> tuple[Conversation, str]:
    """A conversation without answers that failed and what came of their calls, and why the first of them was passed over."""
    kept: list[Turn] = []
    fork, first, is_passed = conversation.fork, "", False
    for place, turn in enumerate(conversation.turns):
        why = _why_passed(turn, conversation.turns[place + 1 : place + 2], keep)
        is_passed = bool(why) or (is_passed and turn.role is Role.TOOL)
        if is_passed:
            first = first or why
            fork -= place < conversation.fork
        else:
            kept.append(turn)
    return (msgspec.structs.replace(conversation, turns=tuple(kept), fork=fork), first) if first else (conversation, "")


def _why_passed(turn: Turn, following: Sequence[Turn], keep: Collection[str]) -> str:
    """Why an answer is passed over; "" where it is not. At the end of a conversation, nobody has called its tools yet."""
    if turn.role is not Role.ASSISTANT:
        return ""
    if incomplete_answer(turn) is FinishKind.FAILED and FinishKind.FAILED not in keep:
        return f"the answer is {FinishKind.FAILED}"
    calls = [part.id for part in turn.parts if isinstance(part, Call)]
    if not calls or not following:
        return ""
    results = following[0].parts if following[0].role is Role.TOOL else ()
    answered = {part.call for part in results if isinstance(part, Result)}
    lacks = len(results) < len(calls) or ("" not in answered and not answered.issuperset(filter(None, calls)))
    return NO_RESULT if lacks else ""


def incomplete_answer(turn: Turn) -> FinishKind | None:
    """Why an answer is no whole one; None where it is. One that calls tools need say nothing."""
    label = finish_label(turn.finish)
    if _calls(turn) and label in (STOP, TOOL_CALLS):
        return None
    return incomplete(text_of(turn), label)


def _calls(turn: Turn) -> bool:
    return any(isinstance(part, Call) for part in turn.parts)


class TextRow(NamedTuple):
    """A conversation of text alone, as rows have always held it: all before its answer, the answer, what was thought for it."""

    messages: tuple[Message, ...]
    text: str
    reasoning: str


def as_text_row(conversation: Conversation) -> TextRow | None:
    """The row of a conversation of text alone; None where it says more than such a row does."""
    *before, last = conversation.turns
    thoughts = [part for part in last.parts if isinstance(part, Reasoning)]
    if thoughts and last.parts[: len(thoughts)] == tuple(Reasoning(thought.text) for thought in thoughts):
        last = msgspec.structs.replace(last, parts=last.parts[len(thoughts) :])
    plain = msgspec.structs.replace(conversation, turns=(*before, last))
    if last.role is not Role.ASSISTANT or not before or not is_plain(plain) or conversation.fork:
        return None
    return TextRow(messages_of(before), text_of(last), "".join(thought.text for thought in thoughts))


def messages_of(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """Who says what in words: calls are left out, and what came of them stands as text."""
    return tuple(Message(str(turn.role), spoken(turn)) for turn in turns)


def spoken(turn: Turn) -> str:
    """What a turn says in words, results of tools among them."""
    inside = [one for part in turn.parts for one in (part.parts if isinstance(part, Result) else (part,))]
    return "".join(one.text for one in inside if isinstance(one, Text | Refusal))


def words_of(turn: Turn) -> str:
    """All words of a turn: what it says, thinks, calls and was given."""
    words = [spoken(turn)]
    words += [part.text or part.summary for part in turn.parts if isinstance(part, Reasoning)]
    words += [f"{part.name} {part.arguments}" for part in turn.parts if isinstance(part, Call)]
    return "\n".join(filter(None, words))


def said_bytes(conversation: Conversation) -> bytes:
    """32 bytes that are equal for conversations in which the same is said and called, whatever was thought."""
    return raw_digest(digest_plain(["said", *(said_digest(turn) for turn in conversation.turns)]))


def last_answer(conversation: Conversation) -> int:
    """The place of the last answer; -1 where nobody answers."""
    answers = [place for place, turn in enumerate(conversation.turns) if turn.role is Role.ASSISTANT]
    return answers[-1] if answers else -1


def tokens_by_stamps(conversation: Conversation) -> dict[int, int]:
    """What was counted of a conversation's own answers, by their stamp sets; nothing where they have one set."""
    found: dict[int, int] = {}
    for turn in conversation.turns[conversation.fork :]:
        if turn.role is Role.ASSISTANT:
            found[turn.stamps] = found.get(turn.stamps, 0) + max(0, turn.usage.completion_tokens if turn.usage else 0)
    return found if len(found) > 1 else {}


def own_usage(conversation: Conversation) -> Usage:
    """What was counted of a conversation's own answers, those that it shares with another one left out; -1 where one was not."""
    own = [turn for turn in conversation.turns[conversation.fork :] if turn.role is Role.ASSISTANT]
    counted = [turn.usage or Usage() for turn in own]
    said = [usage.completion_tokens for usage in counted]
    return Usage(counted[-1].prompt_tokens if counted else -1, count(sum(said)) if said and min(said) >= 0 else -1)
