"""vault list, verify."""

import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit

commands = typer.Typer(help="The vault: objects by digest.", no_args_is_help=True)


@commands.command("list")
def list_objects(home: Home = None, as_json: Json = False) -> None:
    """The digests of all objects."""
    with opened(home) as app:
        digests = list(app.objects.list())
    emit(digests, as_json, "\n".join(digests) or "(none)")


@commands.command()
def verify(home: Home = None, as_json: Json = False) -> None:
    """Read every object and compare it with its digest. Exit code 4 where one differs."""
    from stillhouse.errors import IntegrityError

    with opened(home) as app:
        results = list(app.objects.verify())
    bad = [{"object": digest, "problem": problem} for digest, problem in results if problem]
    text = (
        "\n".join(item["problem"] for item in bad) or f"{len(results)} objects have the bytes that their digests name"
    )
    emit({"objects": len(results), "bad": bad}, as_json, text)
    if bad:
        raise typer.Exit(IntegrityError.exit_code)
