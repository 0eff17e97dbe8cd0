"""Verify by execution: every answer gets a verdict, and keeps it; nothing is thrown away."""

import threading
from collections.abc import Callable, Mapping, Sequence

from stillhouse.clock import now
from stillhouse.datasets.tasks.judge import USUAL, Conditions, judge, judge_digest
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import Task, Verdict
from stillhouse.sandbox.pool import Sandbox

# Verdicts are written in groups, since one can always be had again; a kill costs at most this many.
_GROUP = 64


def verify(
    recorder: Recorder,
    run: str,
    tasks: Mapping[str, Task],
    answers: Sequence[StoredAnswer],
    conditions: Conditions = USUAL,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[tuple[str, str], Verdict]:
    """Verdicts by (task, key); only answers without one of the same judge are run. Raises SandboxUnavailable.

    Tasks with the same question share answers, and judge them each by its own tests.
    """
    judges = {task.id: judge_digest(task, conditions) for task in tasks.values()}
    known = answer_queries.verdicts(recorder.ledger, [answer.key for answer in answers])
    found = {
        (answer.task, answer.key): known[answer.key, judges[answer.task]]
        for answer in answers
        if (answer.key, judges[answer.task]) in known
    }
    todo = [answer for answer in answers if (answer.task, answer.key) not in found]
    if not todo:
        return found
    pending: list[facts.Fact] = []
    with conditions.sandbox() as sandbox:
        said = answer_queries.with_texts(recorder.ledger, todo)
        verdicts = judge(sandbox, ((tasks[answer.task], text) for answer, text in said))
        for number, (answer, verdict) in enumerate(zip(todo, verdicts, strict=True), start=1):
            found[answer.task, answer.key] = verdict
            pending.append(
                facts.Judged(
                    at=now(),
                    by=recorder.by,
                    run=run,
                    key=answer.key,
                    task=answer.task,
                    judge=judges[answer.task],
                    verdict=verdict,
                )
            )
            if len(pending) >= _GROUP or number == len(todo):
                recorder.record(*pending)
                pending = []
            on_progress(number, len(todo))
    recorder.refresh()
    return found


class Judge:
    """Verdicts one at a time, as answers come. Safe to use from several threads; close it when all is judged."""

    def __init__(self, recorder: Recorder, run: str, conditions: Conditions = USUAL) -> None:
        self._recorder, self._run, self._conditions = recorder, run, conditions
        self._sandbox: Sandbox | None = None
        self._mutex = threading.Lock()

    def verdict(self, task: Task, key: str, text: str) -> Verdict:
        """The verdict that the log has, or that running the code gives. Raises SandboxUnavailable."""
        digest = judge_digest(task, self._conditions)
        known = answer_queries.verdicts(self._recorder.ledger, [key]).get((key, digest))
        if known is not None:
            return known
        with self._mutex:
            if self._sandbox is None:
                self._sandbox = self._conditions.sandbox()
        found = next(judge(self._sandbox, [(task, text)]))
        at, by = now(), self._recorder.by
        self._recorder.record(
            facts.Judged(at=at, by=by, run=self._run, key=key, task=task.id, judge=digest, verdict=found)
        )
        return found

    def close(self) -> None:
        """End the sandbox, where one was needed."""
        if self._sandbox is not None:
            self._sandbox.close()
