"""What a teacher must do for the collection loop. Synchronous; whoever needs an event loop hides it."""

from collections.abc import Callable, Sequence, Set
from typing import NamedTuple, Protocol

import msgspec

from stillhouse.nouns import Ask, Usage

# Statuses by which a teacher says that it did no work: 529 is Anthropic's "overloaded". All others may have been billed,
# a gateway's time-out after the model had run among them.
FREE = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 425, 429, 503, 529})
# A request that is refused for what it holds: asking again gets the same.
REJECTED = frozenset({400, 422})

# Called with the asks that are about to be sent, before they are: it writes them down, and may raise BudgetReached.
Admit = Callable[[Sequence[Ask]], None]


class Reply(msgspec.Struct, frozen=True):
    """An answer: ``raw`` as it came, ``text`` and ``finish`` as they were read from it.

    ``finish`` is a label of ``conversations.finishes``.
    """

    ask: Ask
    text: str
    finish: str
    usage: Usage
    seconds: float
    raw: str


class Failure(msgspec.Struct, frozen=True):
    """A call that brought no answer.

    ``charged`` is false only where the teacher surely did not bill it. ``again``: it is not the last word on the ask, which
    is being tried once more, under a new admission.
    """

    ask: Ask
    reason: str
    status: int = 0
    charged: bool = True
    again: bool = False


# Called with each reply or failure the moment it is there, by whatever thread received it: it writes it down.
Deliver = Callable[[Reply | Failure], None]
# Called after each reply or final failure was delivered: what is to be asked because of it. May take a while (it may run
# code), so it is called where nothing waits for it.
More = Callable[[Reply | Failure], Sequence[Ask]]


def nothing_more(item: Reply | Failure) -> Sequence[Ask]:
    """Nothing follows from an answer."""
    return ()


class Load(NamedTuple):
    """How busy a client is: calls in flight, asks that wait, calls at a time that it allows itself at present."""

    in_flight: int = 0
    waiting: int = 0
    limit: int = 0


class NullTeacher:
    """Where everything is in the log already: it has nobody to ask, and needs no key."""

    def answer(
        self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver, more: More = nothing_more
    ) -> None:
        """Nothing is wanted."""
        assert not wanted

    def load(self) -> Load:
        """Nothing is under way."""
        return Load()

    def close(self) -> None:
        """Nothing is held."""


class TeacherClient(Protocol):
    """One teacher, ready to be asked."""

    def answer(
        self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver, more: More = nothing_more
    ) -> None:
        """Answer the asks whose key is ``wanted``, in any order, and whatever ``more`` asks for after that.

        ``asks`` are all of the run, each key once, so that one that plans ahead can plan the same every time. Every ask is
        passed to ``admit`` before it is sent, and then delivered as exactly one Reply or final Failure, unless something is
        raised or it is interrupted. Raises TeacherUnreachable, TeacherRejected or ModelUnusable where going on is pointless,
        and whatever ``admit``, ``deliver`` and ``more`` raise.
        """

    def load(self) -> Load:
        """How busy it is, to be shown."""

    def close(self) -> None:
        """Close connections and free memory."""
