"""What a teacher must do for the collection loop. Synchronous; whoever needs an event loop hides it."""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Protocol

import msgspec

from stillhouse.nouns import Ask, Usage

# Called with the asks that are about to be sent, before they are: it writes them down, and may raise BudgetReached.
Admit = Callable[[Sequence[Ask]], None]


class Reply(msgspec.Struct, frozen=True):
    """An answer: ``raw`` as it came, ``text`` and ``finish`` as they were read from it.

    ``finish``: ``stop`` | ``length`` | ``filtered`` | ``malformed`` | what else the teacher said.
    """

    ask: Ask
    text: str
    finish: str
    usage: Usage
    seconds: float
    raw: str


class Failure(msgspec.Struct, frozen=True):
    """A call that brought no answer. ``charged`` is false only where the teacher surely did not bill it."""

    ask: Ask
    reason: str
    status: int = 0
    charged: bool = True


class TeacherClient(Protocol):
    """One teacher, ready to be asked."""

    def answers(self, asks: Sequence[Ask], wanted: Set[str], admit: Admit) -> Iterator[Reply | Failure]:
        """Answers for the asks whose key is ``wanted``, in any order, each as soon as it is there.

        ``asks`` are all of the run, so that one that plans ahead can plan the same every time. Every ask is passed to
        ``admit`` before it is sent, and ends in exactly one Reply or Failure, unless something is raised. Raises
        TeacherUnreachable, TeacherRejected or ModelUnusable where going on is pointless.
        """

    def close(self) -> None:
        """Let go of connections and memory."""
