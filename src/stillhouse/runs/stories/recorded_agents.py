"""The story of recorded agents: ten repairs through the gateway, sessions, outcomes by their tests, rows for a trainer.

The teacher follows a script (``repair_agent``); the gateway, the agent, the sandbox, the sessions and the dataset are real.
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillhouse.conversations.record import Role
from stillhouse.conversations.row_turns import spoken
from stillhouse.datasets.exporting import ExportFormat, export_rows
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.errors import StillhouseError, StorageError
from stillhouse.home.ledger import gateway_queries, lineage_graph
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import Channel, Teacher, TeacherKind, Use
from stillhouse.permission.decide import OWN_TERMS
from stillhouse.runs.form_dataset import held_out_tasks
from stillhouse.runs.gateway_dataset import execute_gather, gather_project
from stillhouse.runs.gateway_sessions import Judgement, ProjectSession, as_text, find_sessions, judge
from stillhouse.runs.report.sessions_svg import DrawnSession, sessions_svg
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.run_recipe import spread
from stillhouse.runs.session_rows import GatherRequest
from stillhouse.runs.stories import Told
from stillhouse.runs.stories.repair_agent import MODEL, Agent, Repair, ScriptedTeacher, repairs
from stillhouse.sandbox.pool import Sandbox
from stillhouse.teachers.gateway.issue_key import issue_key
from stillhouse.teachers.gateway.keyring import revoke
from stillhouse.teachers.register import register

_REPAIRS = 10
_PROJECT = "story-agent"
_SHOWN = 2400


def tell(home: Home, progress: Progress) -> Told:
    """Play the story in a home. Raises what its commands raise."""
    progress.start("agents at work", _REPAIRS)
    with Sandbox() as sandbox:
        planned = repairs(sandbox, spread(load_suite("stillhouse", "train"), 4 * _REPAIRS), _REPAIRS)
        passed = _worked(home, sandbox, planned, progress)
    found = [one for one in find_sessions(home, _PROJECT).sessions if _task(one) in passed]
    sessions = {_task(one): one for one in found}
    judgements = [
        Judgement(one.session.id, "passed" if passed[task] else "failed", why="its tests, in the sandbox")
        for task, one in sessions.items()
    ]
    judge(home, judgements)
    request = GatherRequest(_PROJECT, "story-sessions", Use.TRAIN, only_passed=True)
    plan, rows = gather_project(home, request)
    dataset = execute_gather(home, request, plan, rows, held_out_tasks())
    left_out = dict(rows.skipped) | {why: count for step in dataset.funnel for why, count in step.dropped.items()}
    folder = home.reports / "story-agent"
    exported = _exported(home, folder, dataset)
    answers = [turn for one in sessions.values() for turn in one.session.lines[0].conversation.turns
               if turn.role is Role.ASSISTANT]  # fmt: skip
    known = sum(bool(turn.key) for turn in answers)
    lines = tuple(f"{task}: {'passed' if passed[task] else 'failed'}" for task in sessions)
    first = next(iter(sessions.values()))
    steps = (
        StoryStep("Ten repairs", "A small agent mends broken functions: it reads, writes, tests, and stops.", lines),
        StoryStep(
            "Sessions", "Its calls came one by one, each with all that was said before; they are put together again.",
            (f"{sum(len(one.session.lines[0].calls) for one in sessions.values())} calls, {len(sessions)} sessions",
             f"{known} of {len(answers)} answers are known by the call that gave them"),
        ),
        StoryStep("One of them", f"`stillhouse session show {first.session.id}`", (_shown(first),)),
        StoryStep(
            "Rows", "What passed is a dataset: whole conversations, each turn with its stamps; and a file for TRL.",
            (f"{dataset.label}: {dataset.rows} rows; left out: {_counted(left_out)}", f"{exported.name}: rows for TRL"),
        ),
    )  # fmt: skip
    story = Story(
        title="Agents are recorded",
        made=home.today,
        made_up="The teacher follows a script, and knows the solutions; the errors in the code are made.",
        conclusion=(
            f"{len(sessions)} sessions were recorded, {sum(passed.values())} of them passed their tests.",
            f"{dataset.rows} rows hold what passed, with reasoning, calls of tools and their results.",
            f"Every answer in them carries the stamps of its call: {known} of {len(answers)}.",
        ),
        steps=steps,
        edges=tuple(
            sorted((e.parent, e.child, e.kind) for e in lineage_graph.ancestry(home.ledger, f"dataset:{dataset.label}"))
        ),
        touched=(f"dataset:{dataset.label}",),
        pictures=(
            sessions_svg([DrawnSession(f"{task.rpartition('/')[2]}: {'passed' if passed[task] else 'failed'}",
                                       one.session.lines[0].conversation) for task, one in sessions.items()]),
        ),
    )  # fmt: skip
    page = write_story(story, folder)
    progress.finish(str(page))
    value: dict[str, Any] = {
        "story": "agent", "report": str(page), "sessions": len(sessions), "passed": sum(passed.values()),
        "answers": len(answers), "known": known, "dataset": dataset.label, "rows": dataset.rows, "export": str(exported),
    }  # fmt: skip
    return Told(page, value, story)


def _exported(home: Home, folder: Path, dataset: Any) -> Path:
    target = folder / f"{dataset.label.replace('@', '-')}.jsonl"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise StorageError(f"{folder} could not be made: {failure.strerror}.") from failure
        export_rows(home.recorder, home.objects, dataset, target, ExportFormat.TRL)
    return target


def _worked(home: Home, sandbox: Sandbox, planned: list[Repair], progress: Progress) -> dict[str, bool]:
    """Whether each task passed, after an agent has worked on it through a gateway of this home."""
    server = ScriptedTeacher(planned)
    try:
        teacher = Teacher(
            name=f"story-scripted-{server.port}", kind=TeacherKind.OPENAI, model=MODEL, lab="some-lab",
            channel=Channel.OPEN_WEIGHTS, terms=("licence/mit",), base_url=server.url,
        )  # fmt: skip
        register(home, teacher, unmetered=True)
        for old, gone in gateway_queries.gateway_keys(home.ledger).items():
            if old.name == _PROJECT and not gone:  # a story that was killed
                revoke(home.recorder, home.marker, _PROJECT, "the story is told anew")
        _, secret = issue_key(home, _PROJECT, _PROJECT, (Use.TRAIN,), (teacher.name,), "", "", inputs=(OWN_TERMS,))
        passed: dict[str, bool] = {}
        with _gateway(home) as url:
            agent = Agent(url, secret, sandbox)
            for number, repair in enumerate(planned, start=1):
                passed[repair.task.id] = agent.work(repair)
                progress.update(number, repair.task.id)
        revoke(home.recorder, home.marker, _PROJECT, "the story is told")
    finally:
        server.close()
    home.recorder.refresh()
    return passed


@contextlib.contextmanager
def _gateway(home: Home) -> Iterator[str]:
    """A gateway of this home in a process of its own; its URL. Raises StillhouseError where it does not start."""
    words = [sys.executable, "-m", "stillhouse", "gateway", "serve", "--port", "0", "--ops-port", "0", "--workers", "1"]
    words += ["--home", str(home.folder), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise StillhouseError(f"The gateway did not start: {process.communicate()[1][-500:].strip()}")
            yield str(json.loads(line)["url"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def _task(one: ProjectSession) -> str:
    """The task that a session is about, as its question names it."""
    asked = next((spoken(turn) for turn in one.session.lines[0].conversation.turns if turn.role is Role.USER), "")
    return asked.partition("(")[2].partition(")")[0]


def _shown(one: ProjectSession) -> str:
    text = as_text(one.session.lines[0].conversation)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _counted(reasons: Any) -> str:
    return ", ".join(f"{count} {why}" for why, count in reasons.items()) or "none"
