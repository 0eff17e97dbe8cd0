"""A dataset of what tools asked through the gateway: the answers are in the log already, with observed stamps."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec
from blake3 import blake3

from stillhouse.canon import digest_value
from stillhouse.conversations.finishes import FinishKind, incomplete, is_usable
from stillhouse.datasets.candidates import ROW_BYTES, Head, examining_code
from stillhouse.datasets.corpora.row_shapes import Skipped, read_request
from stillhouse.datasets.filter import ALLOWED, COMPLETE, DISTINCT, NOT_HELD_OUT, Candidate, Examiner, protect
from stillhouse.datasets.forming import FormingRules, form
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.datasets.versions import VersionOf, write_version
from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, origin_queries
from stillhouse.home.ledger.answer_queries import StoredAnswer
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.nouns import DatasetVersion, Message, Plan, Task, Use, Verdict, VerdictStatus
from stillhouse.permission.decide import Door
from stillhouse.teachers.gateway.admission import run_of

_UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was asked through the gateway")
_RECEIVED = b'{"fact":"call-received"'


class CallCandidates:
    """Answered calls as candidates, in the order in which the log has their requests."""

    is_erasable = False

    def __init__(self, home: Home, answers: Sequence[StoredAnswer], keep: tuple[str, ...]) -> None:
        """Reads all requests and answers once, to know which can become rows, and why the others cannot (``skipped``)."""
        self._home, self._of_call = home, {answer.task: answer for answer in answers}
        reasons = {call: said.reason if isinstance(said, Skipped) else "" for call, said in self._requests()}
        self.skipped: Counter[str] = Counter()
        usable = set()
        for answer, text in answer_queries.with_texts(home.ledger, answers):
            reason = reasons.get(answer.task, "its request is not in the log")
            if not reason and not is_usable(text, answer.finish, keep):
                reason = _why(incomplete(text, answer.finish))
            if reason:
                self.skipped[reason] += 1
            else:
                usable.add(answer.task)
        self.answers = [self._of_call[call] for call in reasons if call in usable]
        self._scan, self._place = self._conversations(), -1
        self._said: tuple[Message, ...] = ()

    def heads(self) -> Iterator[Head]:
        """Every call's head."""
        for place, answer in enumerate(self.answers):
            row = blake3(examining_code() + f"{answer.entry} {answer.finish}".encode()).digest(ROW_BYTES)
            yield Head(place, row, answer.task, 0, answer.key, answer.stamps, answer.usage.completion_tokens)

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The calls at some places; who goes on where the last call ended reads the log once."""
        for place, (answer, text) in zip(
            places, answer_queries.with_texts(self._home.ledger, [self.answers[place] for place in places]), strict=True
        ):
            if place < self._place:
                self._scan, self._place = self._conversations(), -1
            while self._place < place:
                self._said, self._place = next(self._scan), self._place + 1
            yield Candidate(
                answer.key, Task(id=answer.task, messages=self._said), 0, text, "", answer.finish, answer.stamps,
                _UNJUDGED, tokens=answer.usage.completion_tokens,
            )  # fmt: skip

    def _conversations(self) -> Iterator[tuple[Message, ...]]:
        """What each of the calls asked."""
        usable = {answer.task for answer in self.answers}
        for call, said in self._requests():
            if call in usable and not isinstance(said, Skipped):
                yield said

    def _requests(self) -> Iterator[tuple[str, tuple[Message, ...] | Skipped]]:
        """What calls asked, each call once, from the log: the view does not hold requests."""
        seen = set()
        for writer in self._home.log.writers():
            for entry in self._home.log.read(writer):
                if not entry.payload.startswith(_RECEIVED):
                    continue
                fact = facts.decode(entry.payload)
                if not isinstance(fact, facts.CallReceived) or fact.base64 or fact.call in seen:
                    continue
                if fact.call in self._of_call:
                    seen.add(fact.call)
                    yield fact.call, read_request(msgspec.json.decode(fact.body))


def gather_project(
    home: Home, project: str, name: str, use: Use, keep: tuple[str, ...] = ()
) -> tuple[Plan, CallCandidates]:
    """What a dataset of a project's calls would be made of, and why calls are left out. Raises UnknownName."""
    run = run_of(project)
    answers = tuple(answer_queries.answers_of_run(home.ledger, run).values())
    if not answers:
        raise UnknownName(
            f"No call of a project {project!r} was answered.", next_step="`stillhouse gateway key list` shows projects."
        )
    calls = CallCandidates(home, answers, keep)
    sets = origin_queries.stamp_sets(home.ledger)
    used = sorted({answer.stamps for answer in calls.answers})
    decisions = [home.policy.check(Door.USE, sets[id].stamps, use) for id in used]
    does = {
        "dataset": name,
        "project": project,
        "answers": len(answers),
        "usable": len(calls.answers),
        "skipped": dict(calls.skipped),
    }
    digest = digest_value([name, use, sorted(answer.key for answer in calls.answers)])
    return make_plan("gather", run, does, decisions, Decimal(0), digest), calls


def execute_gather(
    home: Home,
    name: str,
    use: Use,
    plan: Plan,
    calls: CallCandidates,
    held_out: tuple[Task, ...],
    keep: tuple[str, ...] = (),
) -> DatasetVersion:
    """Form the dataset: whole (or of the kinds to ``keep``), distinct, not held out, allowed for the use."""
    decisions = {
        id: home.policy.check(Door.KEEP, known.stamps, use)
        for id, known in origin_queries.stamp_sets(home.ledger).items()
    }
    prompts = [task.messages[-1].content for task in load_suite(BUILT_IN[0])]
    steps = (COMPLETE, DISTINCT, NOT_HELD_OUT, ALLOWED)
    rules = FormingRules(Examiner(protect(held_out, prompts), keep), decisions, steps)
    with (
        form([calls], rules, home.engine, home.cache / "findings") as formed,
        executing(home.recorder, plan, plan.facts) as result,
    ):
        of = VersionOf(name, plan.subject, digest_value([plan.subject, name, use]))
        dataset = write_version(home.recorder, home.objects, home.objects, of, formed)
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return dataset


def _why(kind: FinishKind | None) -> str:
    return (
        "a row cannot hold calls of tools and their results yet"
        if kind is FinishKind.TOOL_CALLS
        else f"the answer is {kind}"
    )
