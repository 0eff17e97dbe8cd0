"""policy explain, check."""

from typing import Annotated

import typer

from stillhouse.cli.dataset import Label
from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, table
from stillhouse.nouns import Use

commands = typer.Typer(help="Policy: may this be used for that, and why.", no_args_is_help=True)


@commands.command()
def explain(
    name: Annotated[str, typer.Argument(help="A registered teacher.")], home: Home = None, as_json: Json = False
) -> None:
    """What the answers of a teacher, collected today to train, may be used for, and by which rule."""
    from stillhouse.app.policy import explain_teacher

    with opened(home) as app:
        decisions = explain_teacher(app, name)
    rows = [[d.use, "yes" if d.allowed else "no", d.reason, "; ".join(d.duties)] for d in decisions]
    emit(decisions, as_json, table(["use", "allowed", "reason", "duties"], rows))


@commands.command()
def check(
    label: Label,
    use: Annotated[Use, typer.Option(help="What for.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """How many rows of a dataset may be used so. Exit code 3 where any may not."""
    from stillhouse.app.policy import check_dataset
    from stillhouse.errors import RefusedError

    with opened(home) as app:
        result = check_dataset(app, label, use)
    emit(result, as_json, f"{result['allowed']} rows may, {result['denied']} may not\n" + "\n".join(result["reasons"]))
    if result["denied"]:
        raise typer.Exit(RefusedError.exit_code)
