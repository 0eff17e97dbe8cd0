"""Assemble the commands, and turn whatever goes wrong into one message, one next step and one exit code."""

import json
import signal
import sys
import traceback

import typer

from stillhouse import __version__, interrupts
from stillhouse.cli import (
    access,
    dataset,
    delete,
    drill,
    gateway,
    guard,
    home,
    identity,
    lineage,
    model,
    passport,
    plan,
    policy,
    run,
    teacher,
    terms,
    vault,
)
from stillhouse.errors import Interrupted, StillhouseError, StorageError, UsageError

EPILOG = "Any command also takes --debug, which shows a traceback where something fails."

cli = typer.Typer(
    name="stillhouse",
    help="Distil coding models from a teacher's outputs, under custody.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
home.add_to(cli)
run.add_to(cli)
for name, noun in (
    ("teacher", teacher),
    ("gateway", gateway),
    ("dataset", dataset),
    ("model", model),
    ("passport", passport),
    ("plan", plan),
    ("terms", terms),
    ("policy", policy),
    ("access", access),
    ("identity", identity),
    ("lineage", lineage),
    ("vault", vault),
    ("delete", delete),
    ("drill", drill),
    ("guard", guard),
):
    cli.add_typer(noun.commands, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"stillhouse {__version__}\n")
        raise typer.Exit


@cli.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.handle)  # a polite kill is an interruption, too
    try:
        code = int(cli(args=words, prog_name="stillhouse", standalone_mode=False) or 0)
        if code != Interrupted.exit_code:
            return code
        error: StillhouseError = Interrupted()  # typer turns a KeyboardInterrupt into this code
    except typer.TyperException as failure:
        text = failure.format_message()
        if text.startswith("Usage:"):  # a noun without a verb: its help is the answer
            sys.stderr.write(text + "\n")
            return UsageError.exit_code
        error = UsageError(text)
    except (KeyboardInterrupt, typer.Abort):
        error = Interrupted()
    except StillhouseError as failure:
        error = failure
    except BrokenPipeError:
        return 1
    except OSError as failure:
        error = StorageError(f"{failure.filename or ''} {failure.strerror or failure}.".strip())
    except Exception as failure:
        error = StillhouseError(f"({type(failure).__name__}: {failure})")
    if debug:
        traceback.print_exc()
    return _explain(error, as_json="--json" in words)


def _explain(error: StillhouseError, *, as_json: bool) -> int:
    sys.stderr.write(f"stillhouse: {error}\n  {error.next_step}\n")
    if as_json:
        value = {"error": type(error).__name__, "message": str(error), "next_step": error.next_step}
        sys.stdout.write(json.dumps({**value, "exit_code": error.exit_code}) + "\n")
    return error.exit_code
