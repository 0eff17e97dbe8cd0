"""model list, show, derive, eval."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, progress, table
from stillhouse.nouns import How

commands = typer.Typer(
    help="Models: what they learned from, how good they are, and how sure that is.", no_args_is_help=True
)


@commands.command("list")
def list_models(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All models that were trained here."""
    from stillhouse.home.ledger import training_queries

    with opened(home_folder) as home:
        found = training_queries.models(home.ledger)
    rows = [[m.label, m.base, m.dataset, m.method["method"], m.steps, f"{m.loss:.3f}", m.made] for m in found]
    emit(found, as_json, table(["model", "from", "dataset", "method", "steps", "loss", "made"], rows))


@commands.command()
def show(
    name: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.", metavar="MODEL")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """One model: what it learned from, in which steps, under which stamps, and what it is worth."""
    from stillhouse.home.ledger import origin_queries, training_queries
    from stillhouse.runs.evaluate import table_of

    with opened(home_folder) as home:
        model = training_queries.model(home.ledger, name)
        stamps = origin_queries.stamp_sets(home.ledger)[model.stamps].stamps
        evaluations = training_queries.evaluations(home.ledger, model.label)
        fed = training_queries.fed(home.ledger, model.training)
        steps = training_queries.steps(home.ledger, model.training)
    rows = [[key, value] for key, value in msgspec.to_builtins(model).items() if key not in {"files", "method"}]
    rows += [[key, value] for key, value in model.method.items() if value != ""]
    text = table(["", ""], rows)
    text += "\n" + table(
        ["origin", "lab", "model", "channel", "terms"],
        [[s.origin, s.lab, s.model, s.channel, ", ".join(s.terms)] for s in stamps],
    )
    for found in evaluations:
        text += f"\n{found.suite}: {found.tasks} tasks, {found.samples} answers each\n"
        text += table(["", "measure", "mean", "95 %"], table_of(found))
    value = {
        **msgspec.to_builtins(model),
        "label": model.label,
        "origins": msgspec.to_builtins(stamps),
        "evaluations": msgspec.to_builtins(evaluations),
        "answer_tokens": sum(step.answer_tokens for step in steps),
        "losses": [[step.step, step.loss] for step in steps],
        "fed": {str(step): list(keys) for step, keys in fed.items()},
    }
    emit(value, as_json, text)


@commands.command()
def derive(
    name: Annotated[str, typer.Argument(help="What to call it: one word.")],
    parents: Annotated[list[str], typer.Option("--from", help="A model or local teacher that it was made of; repeat.")],
    how: Annotated[How, typer.Option(help="How it was made.")],
    weights: Annotated[Path, typer.Option(help="Its folder, or its .gguf file.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Write down a model that was made of others elsewhere: it inherits what they learned from."""
    from stillhouse.students.derived_models import derive_model

    with opened(home_folder) as home:
        child = derive_model(home, name, parents, how, weights)
    emit(child, as_json, f"{child.label}: {how} from {', '.join(parents)}")


@commands.command("eval")
def evaluate(
    name: Annotated[str, typer.Argument(help="A model (NAME@VERSION) or a registered teacher.")],
    against: Annotated[str, typer.Option(help="Another, on the same tasks: adds the paired difference.")] = "",
    suite: Annotated[str, typer.Option(help="stillhouse, humaneval, or a prompts file.")] = "stillhouse",
    split: Annotated[str, typer.Option(help="train or held-out; empty for all.")] = "held-out",
    limit: Annotated[int, typer.Option(help="At most so many tasks, spread evenly; 0 is all.", min=0)] = 0,
    samples: Annotated[int, typer.Option(help="Answers to each task.", min=1)] = 4,
    max_tokens: Annotated[int, typer.Option(help="Per answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 0.8,
    seed: Annotated[int, typer.Option(help="Another seed, other answers.")] = 0,
    budget: Annotated[str, typer.Option(help="USD; needed where answers cost money.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Pass rates on a suite, with 95 % intervals. Answers are collected to evaluate, and are no training data."""
    from stillhouse.runs.evaluate import EvaluationOptions, table_of
    from stillhouse.runs.evaluate import evaluate as evaluate_models

    options = EvaluationOptions(suite, split, limit, samples, max_tokens, temperature, seed, budget)
    names = {name: name, **({against: against} if against else {})}
    with opened(home_folder) as home:
        found = evaluate_models(home, names, name, [(name, against)] if against else [], options, progress())
    text = f"{found.suite}: {found.tasks} tasks, {found.samples} answers each\n"
    emit(found, as_json, text + table(["", "measure", "mean", "95 %"], table_of(found)))
