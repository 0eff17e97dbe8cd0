"""model eval."""

from typing import Annotated

import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, progress, table

commands = typer.Typer(help="Models: how good are they, and how sure is that.", no_args_is_help=True)


@commands.command("eval")
def evaluate(
    name: Annotated[str, typer.Argument(help="A registered teacher.")],
    against: Annotated[str, typer.Option(help="Another, on the same tasks: adds the paired difference.")] = "",
    suite: Annotated[str, typer.Option(help="stillhouse, humaneval, or a prompts file.")] = "stillhouse",
    split: Annotated[str, typer.Option(help="train or held-out; empty for all.")] = "held-out",
    limit: Annotated[int, typer.Option(help="At most so many tasks, spread evenly; 0 is all.", min=0)] = 0,
    samples: Annotated[int, typer.Option(help="Answers to each task.", min=1)] = 4,
    max_tokens: Annotated[int, typer.Option(help="Per answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 0.8,
    seed: Annotated[int, typer.Option(help="Another seed, other answers.")] = 0,
    budget: Annotated[str, typer.Option(help="USD; needed where answers cost money.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Pass rates on a suite, with 95 % intervals. Answers are collected to evaluate, and are no training data."""
    from stillhouse.app.evaluate import EvaluationOptions
    from stillhouse.app.evaluate import evaluate as evaluate_models

    options = EvaluationOptions(suite, split, limit, samples, max_tokens, temperature, seed, budget)
    with opened(home) as app:
        found = evaluate_models(app, (name, against) if against else (name,), options, progress())
    rows = [
        [one.model, one.tasks, one.answers, f"pass@{k}", _percent(e.mean), f"{_percent(e.low)} to {_percent(e.high)}"]
        for one in found.scores
        for k, e in one.pass_at.items()
    ]
    text = table(["model", "tasks", "answers", "score", "mean", "95 %"], rows)
    if found.difference is not None:
        d = found.difference
        sure = "" if d.low <= 0 <= d.high else ": the interval excludes 0"
        text += f"\n{name} minus {against}, pass@1: {_percent(d.mean)} ({_percent(d.low)} to {_percent(d.high)}){sure}"
    emit(found, as_json, text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
