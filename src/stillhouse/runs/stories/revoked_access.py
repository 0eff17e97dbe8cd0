"""The story of a revocation, on a real model: official access, models, a letter, attempts, quarantine, a clean retrain.

The rival is made up, and so are its answers (they are the reference solutions of this version's own tasks, declared to be a
rival's); everything else is real: the student, its trainings, the refusals over HTTP, the log.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from stillhouse.access.grants import gate, plan_change, quarantine
from stillhouse.access.revocation_impact import RevocationImpact
from stillhouse.approvals import propose
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.import_corpus import execute_import, plan_import
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.errors import PolicyRefusal
from stillhouse.home.ledger import lineage_graph
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import AccessChange, AccessKind, Channel, Task, Teacher, TeacherKind, Use
from stillhouse.passport.write_passport import write_passport
from stillhouse.runs.distil import distil
from stillhouse.runs.recipe import Recipe, parse_recipe
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.retrain import retrain
from stillhouse.runs.run_recipe import prepare, spread
from stillhouse.runs.stories import Told
from stillhouse.teachers.register import register

RIVAL = "rival"
_EARLY, _LATER, _AFTERWARDS = 24, 16, 8


def tell(home: Home, progress: Progress) -> Told:
    """Play the story in a home. Raises what its commands raise."""
    told = _Telling(home, progress)
    revoked = (date.fromisoformat(home.today) - timedelta(days=20)).isoformat()
    tasks = spread(load_suite("stillhouse", "train"), _EARLY + _LATER + _AFTERWARDS)
    told.imported("early", tasks[:_EARLY], revoked, -10)
    told.imported("later", tasks[_EARLY : _EARLY + _LATER], revoked, 5)
    told.trained("before", ("story-early",), "A model of what came while access was official.")
    told.trained("mixed", ("story-early", "story-later"), "A model that also learned from what came later.")
    told.taught("taught", "story-mixed@1")
    passport = write_passport(home, "story-mixed@1")
    draft = AccessChange(
        id="",
        kind=AccessKind.REVOKE,
        lab=RIVAL,
        since=revoked,
        authority="their letter",
        reason="they take access away from us",
    )
    made = plan_change(home, draft, None)
    told.say(
        "The letter",
        f"{RIVAL} revokes access for answers of {revoked} and later. Before anything is done, the plan:",
        made.impact,
    )
    propose(home, made.plan)
    attempts = told.attempts()
    told.imported("afterwards", tasks[_EARLY + _LATER :], revoked, 15, Channel.INTERMEDIARY)
    held = quarantine(home, Use.TRAIN)
    gates = {
        name: gate(home, [f"story-{name}"], Use.TRAIN, "demo")["allowed"] for name in ("before", "mixed", "taught")
    }
    told.steps.append(
        StoryStep(
            "The gate",
            "Engineers with a key of their own can bypass any gateway, so jobs are checked where they start.",
            tuple(f"{name}: {'open' if allowed else 'CLOSED'}" for name, allowed in gates.items()),
        )
    )
    clean = retrain(home, "story-mixed@1", progress)
    told.steps.append(
        StoryStep(
            "The clean retrain",
            "The same recipe without what was revoked. No teacher was asked; the old model stays, as evidence.",
            (
                f"{clean['model']}: {clean['rows']} rows, {clean['left_out']} left out",
                f"instead of {clean['instead_of']}",
            ),
        )
    )
    edges = _picture(home)
    touched = {f"dataset:{share.dataset}" for share in made.impact.datasets}
    touched |= {f"model:{model.model}" for model in made.impact.models}
    touched |= {f"teacher:{model.model}" for model in made.impact.models} | {f"run:{run}" for run in made.impact.runs}
    story = Story(
        title="A revocation, from the letter to the clean model",
        made=home.today,
        made_up="The rival is made up: its answers are reference solutions of tasks that come with Stillhouse.",
        steps=tuple(told.steps),
        edges=edges,
        touched=tuple(sorted(touched)),
        quarantine=int(held["records"]),
    )
    page = write_story(story, home.reports / "story-revoked")
    impact = made.impact
    value = {
        "story": "revoked",
        "report": str(page),
        "passport": str(passport),
        "records": impact.records,
        "datasets": [share.dataset for share in impact.datasets],
        "models": [model.model for model in impact.models],
        "stays": [name for name, allowed in gates.items() if allowed],
        "refused": attempts,
        "quarantined": held["records"],
        "clean": clean["model"],
    }
    return Told(page, value)


class _Telling:
    """The steps as they happen."""

    def __init__(self, home: Home, progress: Progress) -> None:
        self._home, self._progress = home, progress
        self.steps: list[StoryStep] = []

    def say(self, title: str, text: str, impact: RevocationImpact) -> None:
        """A step that shows an impact."""
        lines = [f"{impact.records} records are touched; {impact.irreplaceable} cannot be had again from {RIVAL}"]
        lines += [f"{share.dataset}: {share.rows} of {share.of} rows ({share.share:.0%})" for share in impact.datasets]
        lines += [
            f"{model.model}: "
            + (f"from step {model.first_step} of {model.steps}" if model.first_step else "through its teacher")
            for model in impact.models
        ]
        lines += [f"passport given out: {passport}" for passport in impact.passports]
        lines += [
            f"clean retrain of {one.model}: {one.rows_left} rows, {one.hours} h"
            for one in impact.retrain
            if one.rows_left
        ]
        self.steps.append(StoryStep(title, text, tuple(lines)))

    def imported(
        self, name: str, tasks: tuple[Task, ...], revoked: str, days: int, channel: Channel = Channel.OFFICIAL
    ) -> None:
        """The rival's answers of a day, as files hold them."""
        day = (date.fromisoformat(revoked) + timedelta(days=days)).isoformat()
        use = Use.TRAIN
        with tempfile.TemporaryDirectory(prefix="stillhouse-story-") as folder:
            path = Path(folder) / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(tasks)), encoding="utf-8")
            declared = Declared(lab=RIVAL, channel=channel, terms=("licence/mit",), day=day)
            planned = plan_import(self._home, path, f"story-{name}", use, declared, self._progress)
            made = execute_import(self._home, path, f"story-{name}", use, declared, planned, self._progress)
        left_out = f", {len(tasks) - made.rows} in quarantine" if made.rows < len(tasks) else ""
        text = (
            "Answers that come by other ways are kept, and kept apart."
            if left_out
            else "Answers with their declared origin."
        )
        self.steps.append(
            StoryStep(f"{len(tasks)} answers of {day}", text, (f"{made.label}: {made.rows} rows{left_out}",))
        )

    def trained(self, name: str, mix: tuple[str, ...], text: str) -> None:
        """A model of the student's own verified answers and some of the rival's."""
        self._distil(name, mix, text, lambda recipe: recipe)

    def taught(self, name: str, teacher: str) -> None:
        """A student of a model of ours."""

        def by_model(recipe: Recipe) -> Recipe:
            dataset = msgspec.structs.replace(recipe.dataset, verified=False)
            prompts = msgspec.structs.replace(recipe.prompts, limit=8)
            collect = msgspec.structs.replace(recipe.collect, samples=1)
            teaches = msgspec.structs.replace(recipe.teacher, use=teacher)
            return msgspec.structs.replace(recipe, teacher=teaches, dataset=dataset, prompts=prompts, collect=collect)

        self._distil(name, (), "A student of that model: it never saw the rival.", by_model)

    def _distil(self, name: str, mix: tuple[str, ...], text: str, change: Callable[[Recipe], Recipe]) -> None:
        data = resources.files("stillhouse.runs").joinpath("recipes", "story.toml").read_bytes()
        recipe = parse_recipe(data, "story.toml", Path.cwd())
        dataset = msgspec.structs.replace(recipe.dataset, name=f"story-{name}", mix=mix)
        done = distil(
            self._home, change(msgspec.structs.replace(recipe, dataset=dataset)), self._progress, evaluated=False
        )
        assert done.trained is not None
        model = done.trained.model
        self.steps.append(StoryStep(model.label, text, (f"{model.dataset}: {model.rows} rows, {model.steps} steps",)))

    def attempts(self) -> dict[str, str]:
        """Ask the rival, as it was, with a personal key, and through an intermediary: each is refused before a byte is sent."""
        server = _Rival()
        refused = {}
        try:
            for name, channel in (
                ("official", Channel.OFFICIAL),
                ("personal key", Channel.PERSONAL),
                ("intermediary", Channel.INTERMEDIARY),
            ):
                teacher = Teacher(
                    name=f"story-{channel}", kind=TeacherKind.OPENAI, model="rival-2", lab=RIVAL, channel=channel,
                    terms=("licence/mit",), base_url=server.url,
                )  # fmt: skip
                register(self._home.recorder, teacher, unmetered=True)
                data = resources.files("stillhouse.runs").joinpath("recipes", "story.toml").read_bytes()
                recipe = parse_recipe(data, "story.toml", Path.cwd())
                recipe = msgspec.structs.replace(
                    recipe, teacher=msgspec.structs.replace(recipe.teacher, use=teacher.name)
                )
                try:
                    prepare(self._home, recipe)
                except PolicyRefusal as failure:
                    refused[name] = str(failure)
        finally:
            server.close()
        lines = tuple(f"{name}: {reason}" for name, reason in refused.items())
        text = f"Three ways to the rival, and {server.calls} calls reached it."
        self.steps.append(StoryStep("Attempts", text, lines))
        return {**refused, "calls that reached it": str(server.calls)}


class _Rival:
    """A server on loopback that counts who calls it."""

    def __init__(self) -> None:
        self.calls = 0
        rival = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                rival.calls += 1
                self.send_response(200)
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def rows_of(tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """Reference solutions, said to be somebody's answers."""
    for task in tasks:
        answer = {"role": "assistant", "content": f"```python\n{task.solution}\n```"}
        yield {"model": "rival-1", "messages": [{"role": "user", "content": task.messages[-1].content}, answer]}


def _picture(home: Home) -> tuple[tuple[str, str, str], ...]:
    """What was made of what: datasets and models; what lies between them (runs, models as teachers) is drawn through."""
    edges = set()
    for model in ("story-before@1", "story-mixed@1", "story-taught@1", "story-mixed@2"):
        edges |= set(lineage_graph.ancestry(home.ledger, f"model:{model}"))
    found = {(edge.parent, edge.child, edge.kind) for edge in edges if edge.kind not in ("starts from", "retrained")}
    for node in {name for edge in found for name in edge[:2] if not name.startswith(("dataset:", "model:"))}:
        above = [parent for parent, child, _ in found if child == node]
        below = [child for parent, child, _ in found if parent == node]
        found = {edge for edge in found if node not in edge[:2]}
        found |= {(parent, child, "answered") for parent in above for child in below}
    return tuple(sorted(found))
