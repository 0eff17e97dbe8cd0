"""guard run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, PlanOnly
from stillhouse.cli.output import emit, note

commands = typer.Typer(help="Keep commands from what is under custody.", no_args_is_help=True)


@commands.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, behind --.", metavar="COMMAND")],
    protect: Annotated[
        list[Path] | None, typer.Option(help="A further folder that the command may not change; repeat for several.")
    ] = None,
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Run a command that cannot delete, move, truncate or overwrite this home and its copies in folders, not even as root.

    It protects from accidents of this command and what it starts. Its exit code is the command's; 3 where it was not started.
    """
    from stillhouse.custody.protection.guard_start import plan_for, start
    from stillhouse.errors import GuardUnavailable
    from stillhouse.home.settings import read_settings

    made = plan_for(read_settings(home_folder), protect or [])
    if plan:
        lines = [
            *(f"protected  {path}" for path in made.protected),
            *(f"closed     {path}  (nothing can be made, removed or renamed directly in it)" for path in made.closed),
            *(f"PROBLEM    {problem}" for problem in made.problems),
        ]
        emit(made, as_json, "\n".join(lines))
        return
    if made.problems:
        raise GuardUnavailable("; ".join(made.problems) + ".")
    if str(Path.cwd()) in made.closed:
        note(f"In {Path.cwd()} itself nothing can be made or removed: what is protected lies below it.")
    start(made)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as failure:
        raise GuardUnavailable(
            f"{command[0]}: {failure.strerror}.", next_step="Name a program that exists."
        ) from failure
