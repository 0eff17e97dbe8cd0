"""drill run, list."""

from typing import Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, table

commands = typer.Typer(help="Restore drills: can what is kept be restored?", no_args_is_help=True)


@commands.command()
def run(
    snapshot: Annotated[str, typer.Argument(help="A snapshot; else a random one.")] = "",
    whole: Annotated[bool, typer.Option("--whole", help="All of it, and not a few random files.")] = False,
    copy: Annotated[str, typer.Option("--copy", help="From this copy; else from the vault here.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Restore to a scratch folder, compare, time, and sign the result. Exit code 4 where it was not restored."""
    import msgspec

    from stillhouse.custody.checks.drills import drill_sample, drill_whole
    from stillhouse.errors import IntegrityError

    with opened(home_folder) as home:
        done = (drill_whole if whole else drill_sample)(home, snapshot, copy)
    text = f"{done.files} files, {done.bytes:,} bytes restored in {done.seconds} s; newer data not in it: {done.behind:.0f} s"
    emit(msgspec.to_builtins(done), as_json, done.problem or text)
    if done.problem:
        raise typer.Exit(IntegrityError.exit_code)


@commands.command("list")
def list_drills(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """The receipts of all drills, oldest first."""
    from stillhouse.home.ledger import custody_queries

    with opened(home_folder) as home:
        found = custody_queries.drills(home.ledger)
    rows = [
        [
            one.at,
            one.copy or "the vault",
            one.subject[:25],
            one.files,
            one.seconds,
            one.problem or "restored",
            one.signature.by,
        ]
        for one in found
    ]
    heads = ["at", "from", "what", "files", "seconds", "outcome", "signed by"]
    emit([one.shown() for one in found], as_json, table(heads, rows))
