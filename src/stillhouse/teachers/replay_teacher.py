"""A recording as a teacher: the same answers on every machine, for tests and for showing a run to somebody.

The file is JSONL: ``{"task": ID, "sample": N, "text": TEXT, "finish": "stop"}``.
"""

from collections import deque
from collections.abc import Sequence, Set
from pathlib import Path

import msgspec

from stillhouse.canon import digest_bytes
from stillhouse.errors import TeacherContradiction, TeacherUnreachable
from stillhouse.nouns import Ask, Teacher, Usage
from stillhouse.teachers.client import Admit, Deliver, Failure, Load, More, Reply, nothing_more


class _Line(msgspec.Struct):
    task: str
    text: str
    sample: int = 0
    finish: str = "stop"


class ReplayTeacher:
    """Answers from a file; what it does not hold fails, and is not charged."""

    def __init__(self, teacher: Teacher) -> None:
        """Raises TeacherUnreachable where the file cannot be read, TeacherContradiction where it is not as registered."""
        path = Path(teacher.weights)
        try:
            data = path.read_bytes()
            if digest_bytes(data) != teacher.weights_digest:
                raise TeacherContradiction(f"{teacher.name}: its recording has changed since it was registered.")
            rows = [msgspec.json.decode(line, type=_Line) for line in data.split(b"\n") if line.strip()]
        except (OSError, msgspec.MsgspecError) as failure:
            raise TeacherUnreachable(
                f"{teacher.name}: the recording {path} cannot be read ({failure}).",
                next_step="Point --weights at a JSONL file of {task, sample, text} objects.",
            ) from failure
        self._texts = {(row.task, row.sample): row for row in rows}

    def answer(
        self, asks: Sequence[Ask], wanted: Set[str], admit: Admit, deliver: Deliver, more: More = nothing_more
    ) -> None:
        """Look each ask up."""
        waiting = deque(ask for ask in asks if ask.key in wanted)
        while waiting:
            ask = waiting.popleft()
            admit([ask])
            row = self._texts.get((ask.task, ask.sample))
            item: Reply | Failure
            if row is None:
                item = Failure(ask, "the recording does not hold this answer", charged=False)
            else:
                item = Reply(ask, row.text, row.finish, Usage(), 0.0, row.text)
            deliver(item)
            waiting.extend(more(item))

    def load(self) -> Load:
        """Nothing ever waits."""
        return Load()

    def close(self) -> None:
        """Nothing to close."""
