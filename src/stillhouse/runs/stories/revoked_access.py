"""The story of a revocation, on a real model: official access, models, a letter, attempts, quarantine, a clean retrain.

The rival is made up, and so are its answers (they are the reference solutions of this version's own tasks, declared to be a
rival's); everything else is real: the student, its trainings, the refusals over HTTP, the log.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from stillhouse.datasets.exporting import export_rows
from stillhouse.datasets.import_corpus import ImportRequest, execute_import
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.errors import PolicyRefusal
from stillhouse.home.ledger import dataset_queries, lineage_graph, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.progress import Progress
from stillhouse.nouns import AccessChange, AccessKind, Channel, Task, Teacher, TeacherKind, Use
from stillhouse.passport.write_passport import write_passport
from stillhouse.runs.distil import distil
from stillhouse.runs.evaluate import EvaluationOptions, evaluate, recipe_of
from stillhouse.runs.recipe import Recipe, parse_recipe
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.retrain import compare_capability, retrain, shown_capability
from stillhouse.runs.run_recipe import prepare, spread
from stillhouse.runs.stories import Told
from stillhouse.teachers.register import register

RIVAL, _REACHED = "rival", "calls that reached it"
# Few enough that all of it takes two or three minutes on two cores, and enough that every number is one that can be followed.
_EARLY, _LATER, _AFTERWARDS, _TAUGHT = 10, 6, 4, 6
_EVALUATED = EvaluationOptions(
    suite="stillhouse", split="held-out", limit=16, samples=2, max_tokens=128, temperature=0.2, seed=0
)


def tell(home: Home, progress: Progress) -> Told:
    """Play the story in a home. Raises what its commands raise."""
    told = _Telling(home, progress)
    revoked = (date.fromisoformat(home.today) - timedelta(days=20)).isoformat()
    tasks = spread(load_suite("stillhouse", "train"), _EARLY + _LATER + _AFTERWARDS)
    told.imported("early", tasks[:_EARLY], revoked, -10)
    told.imported("later", tasks[_EARLY : _EARLY + _LATER], revoked, 5)
    told.trained("before", ("story-early",), "A model of what came while access was official.")
    told.trained("mixed", ("story-early", "story-later"), "A model that also learned from what came later.")
    told.evaluated("story-mixed@1")
    told.taught("taught", "story-mixed@1")
    passport = told.given_out("story-mixed@1")
    draft = AccessChange(
        id="", kind=AccessKind.REVOKE, lab=RIVAL, since=revoked, authority="their letter",
        reason="they take access away from us",
    )  # fmt: skip
    made = plan_change(home, draft, None)
    told.letter(revoked, made.impact)
    propose(home, made.plan)
    attempts = told.attempts()
    told.imported("afterwards", tasks[_EARLY + _LATER :], revoked, 15, Channel.INTERMEDIARY)
    held = quarantine(home, Use.TRAIN)
    gates = told.gates()
    clean = told.trained_again("story-mixed@1")
    impact = made.impact
    story = Story(
        title="A revocation, from the letter to the clean model",
        made=home.today,
        made_up="The rival is made up: its answers are reference solutions of tasks that come with Stillhouse.",
        conclusion=_conclusion(revoked, impact, attempts, held["records"], gates, clean),
        steps=tuple(told.steps),
        edges=_picture(home),
        touched=_touched(impact),
        quarantine=int(held["records"]),
    )
    page = write_story(story, home.reports / "story-revoked")
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
        "clean_passport": clean["passport"],
        "capability": clean["capability"],
        "notify": list(_to_notify(impact)),
    }
    return Told(page, value, story)


def _conclusion(
    revoked: str,
    impact: RevocationImpact,
    attempts: Mapping[str, str],
    held: int,
    gates: Mapping[str, bool],
    clean: Mapping[str, Any],
) -> tuple[str, ...]:
    """What whoever answers for it wants to know first."""
    stays = ", ".join(f"story-{name}@1" for name, allowed in gates.items() if allowed)
    models = ", ".join(model.model for model in impact.models)
    measured = clean["capability"]
    difference = measured["difference"]
    return (
        f"{RIVAL} takes access away for what it answered since {revoked}. {impact.records} records here are touched. Nothing of "
        f"{RIVAL} can be collected again, and {impact.irreplaceable} records here rest on it, earlier ones included.",
        f"Two models learned from them and may not be used any more: {models}. One did not, and stays: {stays}.",
        f"Since the letter, {len(attempts) - 1} attempts to ask {RIVAL} were refused and "
        f"{attempts[_REACHED]} calls reached it. {held - impact.records} answers that came later by another way are kept, "
        f"and used for nothing: with the {impact.records} above, {held} records are in quarantine.",
        f"{clean['model']} takes the place of {clean['instead_of']}: {clean['rows']} rows instead of "
        f"{clean['rows'] + clean['left_out']}, no teacher asked, with a passport of its own.",
        f"What that cost in capability: pass@1 on {measured['tasks']} held-out tasks {_percent(measured['clean'])} instead of "
        f"{_percent(measured['old'])} ({_points(difference['mean'])}, 95 %: {_points(difference['low'])} to "
        f"{_points(difference['high'])}; so few tasks show only a large difference).",
        *(f"To notify: whoever has {what}" for what in _to_notify(impact)),
    )


def _to_notify(impact: RevocationImpact) -> tuple[str, ...]:
    """What left the home and is touched."""
    passports = (f"the passport of {passport}" for passport in impact.passports)
    return (*(f"the export {export}" for export in impact.exports), *passports)


def _touched(impact: RevocationImpact) -> tuple[str, ...]:
    """The nodes that are red in the picture."""
    datasets = {f"dataset:{share.dataset}" for share in impact.datasets}
    models = {f"{kind}:{model.model}" for model in impact.models for kind in ("model", "teacher")}
    return tuple(sorted(datasets | models | {f"run:{run}" for run in impact.runs}))


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


class _Telling:
    """The steps as they happen."""

    def __init__(self, home: Home, progress: Progress) -> None:
        self._home, self._progress = home, progress
        self.steps: list[StoryStep] = []
        self._runs: dict[str, str] = {}  # what the runs are called on the page

    def letter(self, revoked: str, impact: RevocationImpact) -> None:
        """The letter, and what it reaches."""
        lines = [f"{impact.records} records are touched, by where they are:"]
        lines += [f"{count} in {self._called(run)}" for run, count in impact.runs.items()]
        lines += [f"{share.dataset}: {share.rows} of {share.of} rows ({share.share:.0%})" for share in impact.datasets]
        lines += [
            f"{model.model}: "
            + (f"from step {model.first_step} of {model.steps}" if model.first_step else "through its teacher")
            for model in impact.models
        ]
        lines += [f"given out: {what}" for what in _to_notify(impact)]
        lines += [
            f"clean retrain of {one.model}: {one.rows_left} rows, {one.hours} h"
            for one in impact.retrain
            if one.rows_left
        ]
        text = f"{RIVAL} revokes access for answers of {revoked} and later. Before anything is done, the plan:"
        self.steps.append(StoryStep("The letter", text, tuple(lines)))

    def _called(self, run: str) -> str:
        return self._runs.get(run, run)

    def evaluated(self, model: str) -> None:
        """What it can do, before anybody says that it may not be used."""
        self._runs[recipe_of(model, _EVALUATED).run] = f"answers of {model} to an evaluation"
        found = evaluate(self._home, {"mixed": model}, "mixed", [], _EVALUATED, self._progress)
        shown = found.arms["mixed"]["pass@1"]
        line = f"pass@1 {_percent(shown.mean)} (95 %: {_percent(shown.low)} to {_percent(shown.high)})"
        text = f"{model} answers {found.tasks} held-out tasks, {found.samples} times each."
        self.steps.append(StoryStep("An evaluation", text, (line,)))

    def given_out(self, model: str) -> Path:
        """Its passport and its dataset leave the home."""
        passport = write_passport(self._home, model)
        target = self._home.reports / "story-revoked" / "given-out.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        dataset = dataset_queries.dataset(self._home.ledger, training_queries.model(self._home.ledger, model).dataset)
        export_rows(self._home.recorder, self._home.objects, dataset, target)
        self.steps.append(
            StoryStep("Given out", f"The dataset and the passport of {model}.", (target.name, passport.name))
        )
        return passport

    def gates(self) -> dict[str, bool]:
        """Which of the models may a job start on?"""
        found = {
            name: bool(gate(self._home, [f"story-{name}"], Use.TRAIN, "demo")["allowed"])
            for name in ("before", "mixed", "taught")
        }
        text = "Engineers with a key of their own can bypass any gateway, so jobs are checked where they start."
        lines = tuple(f"{name}: {'open' if allowed else 'CLOSED'}" for name, allowed in found.items())
        self.steps.append(StoryStep("The gate", text, lines))
        return found

    def trained_again(self, model: str) -> dict[str, Any]:
        """The clean retrain, and what it cost in capability: the old model's answers are those that the log has."""
        clean = retrain(self._home, model, self._progress)
        compared = compare_capability(self._home, model, clean["model"], _EVALUATED, self._progress)
        assert compared is not None
        shown = shown_capability(compared)
        lines = (
            f"{clean['model']}: {clean['rows']} rows, {clean['left_out']} left out",
            f"instead of {clean['instead_of']}, whose pass@1 was {_percent(shown['old'])}; its own is {_percent(shown['clean'])}",
            f"passport: {Path(clean['passport']).name}",
        )
        text = "The same recipe without what was revoked. No teacher was asked; the old model stays, as evidence."
        self.steps.append(StoryStep("The clean retrain", text, lines))
        return {**clean, "capability": shown}

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
            request = ImportRequest(path, f"story-{name}", use, declared)
            made = execute_import(self._home, request, self._progress).dataset
        self._runs[dataset_queries.run_of_dataset(self._home.ledger, made) or made.label] = made.label
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
            prompts = msgspec.structs.replace(recipe.prompts, limit=_TAUGHT)
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
        self._runs[done.outcome.prepared.recipe.run] = (
            f"answers of {done.outcome.prepared.teacher.name} for {model.dataset}"
        )
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
                register(self._home, teacher, unmetered=True)
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
        return {**refused, _REACHED: str(server.calls)}


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
