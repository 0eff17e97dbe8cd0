"""A dataset of what tools asked through the gateway: the answers are in the log already, with observed stamps."""

from collections import Counter
from decimal import Decimal

import msgspec

from stillhouse.canon import digest_value
from stillhouse.conversations.finishes import FinishKind, incomplete, is_usable
from stillhouse.datasets.corpora.row_shapes import Skipped, read_request
from stillhouse.datasets.filter import ALLOWED, COMPLETE, DISTINCT, NOT_HELD_OUT, Candidate, filter_rows, protect
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.datasets.versions import VersionOf, write_version
from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.ledger import answer_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.nouns import DatasetVersion, Message, Plan, Task, Use, Verdict, VerdictStatus
from stillhouse.permission.decide import Door
from stillhouse.teachers.gateway.admission import run_of

_UNJUDGED = Verdict(VerdictStatus.NOT_JUDGED, "it was asked through the gateway")
_RECEIVED = b'{"fact":"call-received"'


def gather_project(
    home: Home, project: str, name: str, use: Use, keep: tuple[str, ...] = ()
) -> tuple[Plan, list[Candidate], Counter[str]]:
    """What a dataset of a project's calls would be made of, and why calls are left out. Raises UnknownName."""
    run = run_of(project)
    answers = answer_queries.answers_of_run(home.ledger, run)
    if not answers:
        raise UnknownName(
            f"No call of a project {project!r} was answered.", next_step="`stillhouse gateway key list` shows projects."
        )
    asked = _conversations(home, {answer.task for answer in answers.values()})
    skipped: Counter[str] = Counter()
    candidates = []
    for key, answer in answers.items():
        said = asked.get(answer.task, Skipped("its request is not in the log"))
        if isinstance(said, Skipped):
            skipped[said.reason] += 1
        elif not is_usable(answer.text, answer.finish, keep):
            skipped[_why(incomplete(answer.text, answer.finish))] += 1
        else:
            task = Task(id=answer.task, messages=said)
            tokens = answer.usage.completion_tokens
            candidates.append(
                Candidate(key, task, 0, answer.text, "", answer.finish, answer.stamps, _UNJUDGED, tokens=tokens)
            )
    sets = origin_queries.stamp_sets(home.ledger)
    decisions = [home.policy.check(Door.USE, sets[id].stamps, use) for id in sorted({c.stamps for c in candidates})]
    does = {
        "dataset": name,
        "project": project,
        "answers": len(answers),
        "usable": len(candidates),
        "skipped": dict(skipped),
    }
    digest = digest_value([name, use, sorted(candidate.key for candidate in candidates)])
    return make_plan("gather", run, does, decisions, Decimal(0), digest), candidates, skipped


def execute_gather(
    home: Home,
    name: str,
    use: Use,
    plan: Plan,
    candidates: list[Candidate],
    held_out: tuple[Task, ...],
    keep: tuple[str, ...] = (),
) -> DatasetVersion:
    """Form the dataset: whole (or of the kinds to ``keep``), distinct, not held out, allowed for the use."""
    sets = origin_queries.stamp_sets(home.ledger)
    decisions = {id: home.policy.check(Door.KEEP, sets[id].stamps, use) for id in {c.stamps for c in candidates}}
    prompts = [task.messages[-1].content for task in load_suite(BUILT_IN[0])]
    formed = filter_rows(
        candidates, protect(held_out, prompts), decisions, (COMPLETE, DISTINCT, NOT_HELD_OUT, ALLOWED), keep=keep
    )
    with executing(home.recorder, plan, plan.facts) as result:
        recipe = digest_value([plan.subject, name, use])
        dataset = write_version(
            home.recorder, home.objects, home.objects, VersionOf(name, plan.subject, recipe), formed
        )  # fmt: skip
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return dataset


def _why(kind: FinishKind | None) -> str:
    return (
        "a row cannot hold calls of tools and their results yet"
        if kind is FinishKind.TOOL_CALLS
        else f"the answer is {kind}"
    )


def _conversations(home: Home, calls: set[str]) -> dict[str, tuple[Message, ...] | Skipped]:
    """What some calls asked, from the log: the view does not hold requests."""
    found: dict[str, tuple[Message, ...] | Skipped] = {}
    for writer in home.log.writers():
        for entry in home.log.read(writer):
            if not entry.payload.startswith(_RECEIVED):
                continue
            fact = facts.decode(entry.payload)
            if isinstance(fact, facts.CallReceived) and fact.call in calls and not fact.base64:
                found[fact.call] = read_request(msgspec.json.decode(fact.body))
    return found
