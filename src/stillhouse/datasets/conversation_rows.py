"""Conversations as candidates of a dataset. Pure."""

from stillhouse.conversations.record import Conversation, text_of
from stillhouse.conversations.row_turns import last_answer, messages_of
from stillhouse.datasets.filter import Candidate
from stillhouse.nouns import Task, Verdict


def conversation_candidate(
    key: str, task: str, said: Conversation, stamps: int, verdict: Verdict, tokens: int
) -> Candidate:
    """A candidate that holds a conversation, in which somebody answers; its question is all before the last answer."""
    place = last_answer(said)
    last = said.turns[place]
    return Candidate(
        key, Task(id=task, messages=messages_of(said.turns[:place])), 0, text_of(last), "", last.finish, stamps, verdict,
        tokens=tokens, conversation=said,
    )  # fmt: skip
