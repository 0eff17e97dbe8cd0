"""The marks of a row of a corpus: by which its texts are found again in a home. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from stillhouse.conversations.text_marks import code_mark, marks_before_2026_12, text_mark, turns_mark
from stillhouse.nouns import Message

# Of a long session the first answers are known by all that was said before them, later ones by what was said last: all of them
# would take the square of its length.
_MOST_HISTORIES = 16


class Row(Protocol):
    """What is to be known of a row of a corpus."""

    @property
    def messages(self) -> Sequence[Message]:
        """What was asked."""

    @property
    def text(self) -> str:
        """What was answered."""


class Marks(NamedTuple):
    """A row's marks: of its question, and of its answer ("" where that is too short)."""

    question: str
    answer: str


def marks_before(messages: Iterable[Message], text: str) -> Marks:
    """The marks of a row as they were made until November 2026."""
    return Marks(*marks_before_2026_12(((message.role, message.content) for message in messages), text))


def marks_of(messages: Iterable[Message], text: str) -> Marks:
    """The marks by which a row is found again."""
    return Marks(turns_mark((message.role, message.content) for message in messages), text_mark(text))


class MarkedRow(NamedTuple):
    """All marks of a row, each made once: its own; of every answer in it with what that answers (all that was said before, or the
    question alone); of every text; of the earlier answers in what was asked; of its code ("" where there is too little).
    """

    own: Marks
    answers: dict[Marks, tuple[Sequence[Message], str]]
    texts: frozenset[str]
    earlier: frozenset[str]
    code: str


def mark_row(row: Row) -> MarkedRow:
    """The marks of a row."""
    turns = [*row.messages, Message("assistant", row.text)]
    marks = [text_mark(turn.content) for turn in turns]
    found: dict[Marks, tuple[Sequence[Message], str]] = {}
    question = ""
    last, histories = len(turns) - 1, 0
    for place, turn in enumerate(turns):
        if turn.role != "assistant" or not (marks[place] or place == last):
            continue
        starts = [0] if histories < _MOST_HISTORIES or place == last else []
        starts += [place - 1] if place > 1 and turns[place - 1].role in ("user", "tool") else []
        for start in starts:
            asked = turns_mark((message.role, message.content) for message in turns[start:place])
            question = asked if start == 0 else question
            histories += start == 0
            if marks[place]:
                found.setdefault(Marks(asked, marks[place]), (turns[start:place], turn.content))
    reasoning = str(getattr(row, "reasoning", ""))
    return MarkedRow(
        Marks(question, marks[-1]),
        found,
        frozenset((*marks, text_mark(reasoning) if reasoning else "")) - {""},
        frozenset(mark for turn, mark in zip(row.messages, marks, strict=False) if turn.role == "assistant") - {""},
        code_mark(row.text),
    )


def answers_in(row: Row) -> dict[Marks, tuple[Sequence[Message], str]]:
    """A row's answer, and every earlier one in it, by their marks: with all that was said before, and with its question alone."""
    return mark_row(row).answers
