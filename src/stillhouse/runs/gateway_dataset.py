"""A dataset of what tools asked through the gateway: the answers are in the log already, with observed stamps."""

from decimal import Decimal

from stillhouse.canon import digest_value
from stillhouse.datasets.filter import ALLOWED, COMPLETE, DISTINCT, NOT_HELD_OUT, Examiner, protect
from stillhouse.datasets.forming import FormingRules, form
from stillhouse.datasets.tasks.suites import BUILT_IN, load_suite
from stillhouse.datasets.versions import VersionOf, write_version
from stillhouse.errors import UnknownName
from stillhouse.home.ledger import origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.nouns import DatasetVersion, Plan, Task
from stillhouse.permission.decide import Door
from stillhouse.runs.session_rows import GatherRequest, SessionCandidates
from stillhouse.teachers.gateway.admission import run_of


def gather_project(home: Home, request: GatherRequest) -> tuple[Plan, SessionCandidates]:
    """What a dataset of a project's sessions would be made of, and why calls are left out. Raises UnknownName."""
    run = run_of(request.project)
    rows = SessionCandidates(home, request)
    if not rows.answers:
        raise UnknownName(
            f"No call of a project {request.project!r} was answered.",
            next_step="`stillhouse gateway key list` shows projects.",
        )
    decisions = [home.policy.check(Door.USE, known.stamps, request.use) for known in rows.sets]
    does = {
        "dataset": request.name,
        "project": request.project,
        "answers": rows.answers,
        "sessions": rows.sessions,
        "usable": len(rows),
        "skipped": dict(rows.skipped),
        "shortened": dict(rows.shortened),
        "redacted": dict(rows.redacted),
    }
    digest = digest_value([request.name, request.use, sorted(rows.keys)])
    return make_plan("gather", run, does, decisions, Decimal(0), digest), rows


def execute_gather(
    home: Home, request: GatherRequest, plan: Plan, rows: SessionCandidates, held_out: tuple[Task, ...]
) -> DatasetVersion:
    """Form the dataset: whole (or of the kinds to keep), distinct, not held out, allowed for the use."""
    home.recorder.intern(rows.sets, {})
    home.recorder.refresh()
    decisions = {
        id: home.policy.check(Door.KEEP, known.stamps, request.use)
        for id, known in origin_queries.stamp_sets(home.ledger).items()
    }
    prompts = [task.messages[-1].content for task in load_suite(BUILT_IN[0])]
    steps = (COMPLETE, DISTINCT, NOT_HELD_OUT, ALLOWED)
    rules = FormingRules(Examiner(protect(held_out, prompts), request.keep, request.secrets), decisions, steps)
    with (
        form([rows], rules, home.engine, home.cache / "findings") as formed,
        executing(home.recorder, plan, plan.facts) as result,
    ):
        of = VersionOf(request.name, plan.subject, digest_value([plan.subject, request.name, request.use]))
        dataset = write_version(home.recorder, home.objects, home.objects, of, formed)
        result.update({"dataset": dataset.label, "rows": dataset.rows, "content_digest": dataset.content_digest})
    return dataset
