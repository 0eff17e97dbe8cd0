"""What to ask next, given what came: one rule for plain sampling, "until so many passed" and "exactly so many rows".

Candidates are the samples of each task, sample 0 of every task first. A candidate is asked while there is *room*: its task
has fewer than ``until`` accepted or open ones, and all tasks together fewer than ``rows``. So a rejected candidate is replaced
by exactly one other, and nothing is bought that could turn out to be superfluous. A task with several turns is asked them one
after the other; what counts is its last answer. What the log has is taken first, whatever the order: it costs nothing.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from stillhouse.canon import canonical, digest_bytes, digest_value
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.nouns import Ask, Message, Parameters, Task, Teacher

# Is an answer to this task good enough to count? (task, key, text, finish)
Accept = Callable[[Task, str, str, str], bool]


def accept_all(task: Task, key: str, text: str, finish: str) -> bool:
    """Whatever came counts."""
    return True


def teacher_identity(teacher: Teacher) -> str:
    """What makes two teachers the same: not the name that they are registered by.

    The address is part of it, since a model of one name can be another at another host.
    """
    parts = [teacher.kind, teacher.lab, teacher.model, teacher.channel, teacher.weights_digest, teacher.base_url]
    return digest_value(parts)


def key_of_ask(identity: str, prompt: str, parameters: Parameters, sample: int) -> str:
    """The key of an answer: everything that changes it, and nothing else."""
    # The canonical form of a list is that of its parts, and these parameters are those of every ask.
    parts = [msgspec.json.encode(identity), msgspec.json.encode(prompt), _given(msgspec.json.encode(parameters))]
    return digest_bytes(b"[%b,%d]" % (b",".join(parts), sample))


@functools.lru_cache(maxsize=64)
def _given(encoded: bytes) -> bytes:
    """The canonical form of what is said of an ask."""
    parameters = msgspec.json.decode(encoded, type=Parameters)
    values = [parameters.max_tokens, parameters.temperature, parameters.seed, parameters.stop_at_code]
    given = dict(zip(("max_tokens", "temperature", "seed", "stop_at_code"), values, strict=True))
    return canonical({**given, **({"more": parameters.more} if parameters.more else {})})


class Questions:
    """The candidates of a collection. Not for use by several threads at once."""

    def __init__(
        self,
        teacher: Teacher,
        tasks: Sequence[Task],
        parameters: Parameters,
        samples: int,
        *,
        until: int = 0,
        rows: int = 0,
        candidates: int = 0,
    ) -> None:
        """``samples`` is the most per task; ``until``, ``rows`` and ``candidates`` 0 mean no such limit."""
        self._identity, self._parameters = teacher_identity(teacher), parameters
        self._tasks = {task.id: task for task in tasks}
        self._samples, self._until, self.rows, self._left = samples, until or samples, rows, candidates or 2**62
        self._open_of: Counter[str] = Counter()
        self._next: Counter[str] = Counter()
        self._taken: set[tuple[str, int]] = set()
        self._prompts: dict[str, str] = {}
        self._queue = deque(self._tasks)
        self._resting: set[str] = set()
        self._open = self.accepted = 0
        self._paused = False
        self.last: list[Ask] = []  # the last turn of each candidate that was answered

    @property
    def adaptive(self) -> bool:
        """Does what is asked depend on what came?"""
        return bool(self.rows or self._until < self._samples or any(task.turns for task in self._tasks.values()))

    def more(self) -> list[Ask]:
        """The candidates for which there is room, first turns."""
        return list(self._pull())

    def all_first_turns(self) -> Iterator[Ask]:
        """Every candidate that could ever be asked, first turns, in order."""
        for sample in range(self._samples):
            for task in self._tasks.values():
                yield self._ask(task, task.messages, sample, 0)

    def task_of(self, ask: Ask) -> Task | None:
        """The task whose candidate is complete with the answer to this ask; None where another turn follows."""
        task = self._tasks[ask.task]
        return None if ask.turn < len(task.turns) else task

    def after(self, ask: Ask, text: str, *, accepted: bool) -> list[Ask]:
        """What follows from an answer; ``accepted`` counts where it is a candidate's last."""
        task = self._tasks[ask.task]
        if ask.turn < len(task.turns):
            said = (*ask.messages, Message("assistant", text), Message("user", task.turns[ask.turn]))
            return [self._ask(task, said, ask.sample, ask.turn + 1)]
        self.last.append(ask)
        return self._closed(task, accepted=accepted)

    def after_failure(self, ask: Ask) -> list[Ask]:
        """What follows from a call that brought nothing."""
        return self._closed(self._tasks[ask.task], accepted=False)

    def take(self, ask: Ask) -> None:
        """A candidate is open: it is asked now, or the log has its answer."""
        self._left -= 1
        self._open += 1
        self._open_of[ask.task] += 1
        self._taken.add((ask.task, ask.sample))

    def pause(self) -> None:
        """Ask nothing new for now, whatever room there is."""
        self._paused = True

    def resume(self) -> None:
        """Fill the room again."""
        self._paused = False

    def _closed(self, task: Task, *, accepted: bool) -> list[Ask]:
        if accepted:
            self.accepted += 1
            return []
        self._open -= 1
        self._open_of[task.id] -= 1
        if task.id in self._resting:
            self._resting.discard(task.id)
            self._queue.append(task.id)
        return self.more()

    def _pull(self) -> Iterator[Ask]:
        while self._queue and self._left > 0 and not (self._paused or (self.rows and self._open >= self.rows)):
            task = self._tasks[self._queue.popleft()]
            while (task.id, self._next[task.id]) in self._taken:
                self._next[task.id] += 1
            if self._next[task.id] >= self._samples:
                continue
            if self._open_of[task.id] >= self._until:
                self._resting.add(task.id)
                continue
            ask = self._ask(task, task.messages, self._next[task.id], 0)
            self.take(ask)
            self._queue.append(task.id)
            yield ask

    def _ask(self, task: Task, messages: tuple[Message, ...], sample: int, turn: int) -> Ask:
        prompt = self._prompts.get(task.id, "") if turn == 0 else ""
        if not prompt:
            prompt = prompt_digest(messages)
        if turn == 0:
            self._prompts[task.id] = prompt
        key = key_of_ask(self._identity, prompt, self._parameters, sample)
        return Ask(key, task.id, prompt, messages, self._parameters, sample, turn)


def unique(asks: Iterable[Ask]) -> tuple[Ask, ...]:
    """Each key once, the first that has it."""
    found: dict[str, Ask] = {}
    for ask in asks:
        found.setdefault(ask.key, ask)
    return tuple(found.values())
