"""dataset list, show, export."""

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, table

commands = typer.Typer(help="Datasets: immutable versions, explained.", no_args_is_help=True)
Label = Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.", metavar="DATASET")]


@commands.command("list")
def list_datasets(home: Home = None, as_json: Json = False) -> None:
    """All dataset versions."""
    from stillhouse.ledger import queries

    with opened(home) as app:
        found = queries.datasets(app.ledger)
    rows = [[d.label, d.rows, d.made, d.content_digest] for d in found]
    emit(found, as_json, table(["dataset", "rows", "made", "content digest"], rows))


@commands.command()
def show(label: Label, home: Home = None, as_json: Json = False) -> None:
    """One dataset version: its funnel, digests and files."""
    from stillhouse.ledger import queries

    with opened(home) as app:
        found = queries.dataset(app.ledger, label)
    steps = [
        [step.step, step.kept, ", ".join(f"{n} {why}" for why, n in step.dropped.items())] for step in found.funnel
    ]
    text = table(["step", "left", "dropped"], steps)
    text += f"\ncontent   {found.content_digest}\nmanifest  {found.manifest_digest}"
    text += "".join(f"\n{name:16}  {digest}" for name, digest in found.files.items())
    emit(found, as_json, text)


@commands.command()
def export(
    label: Label,
    target: Annotated[Path, typer.Argument(help="A file that does not exist yet.", metavar="FILE.jsonl")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a version's rows as chat JSONL, with each row's origin beside it."""
    from stillhouse.datasets.store import export_jsonl
    from stillhouse.ledger import queries

    with opened(home) as app:
        rows = export_jsonl(app.objects, queries.dataset(app.ledger, label), target)
    emit({"file": str(target), "rows": rows}, as_json, f"{rows} rows written to {target}")
