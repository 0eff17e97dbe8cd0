"""Assemble the commands, and turn whatever goes wrong into one message, one next step and one exit code."""

import functools
import importlib
import json
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer

from stillhouse import __version__, interrupts
from stillhouse.errors import Interrupted, OutOfMemory, StillhouseError, StorageError, UsageError

EPILOG = "Any command also takes --debug, which shows a traceback where something fails."

# What libraries say where the system gives them no more memory, for threads and for themselves too.
_NO_MEMORY = ("Cannot allocate memory", "failed to map segment", "can't start new thread", "cannot create std::",
              "not enough memory")  # fmt: skip

# Each is a module of this package.
_NOUNS = (
    "teacher", "gateway", "session", "dataset", "model", "passport", "plan", "terms", "policy", "access", "identity", "lineage",
    "vault", "delete", "drill", "guard", "compute",
)  # fmt: skip


def assemble(word: str = "") -> typer.Typer:
    """The command line, or as much of it as the first word needs: all of it takes a tenth of a second to put together."""
    cli = typer.Typer(
        name="stillhouse",
        help="Distil coding models from a teacher's outputs, under custody.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_root)
    if word in _NOUNS:
        return _with_nouns(cli, [word])
    for verbs in ("home", "run"):
        importlib.import_module(f"stillhouse.cli.{verbs}").add_to(cli)
    known = any(word == (one.name or getattr(one.callback, "__name__", "")) for one in cli.registered_commands)
    return cli if known else _with_nouns(cli, _NOUNS)


@functools.lru_cache(maxsize=64)
def _command(word: str) -> Callable[..., Any]:
    """The command that a first word begins, put together once in a process."""
    return typer.main.get_command(assemble(word))


def _with_nouns(cli: typer.Typer, nouns: Sequence[str]) -> typer.Typer:
    for noun in nouns:
        cli.add_typer(importlib.import_module(f"stillhouse.cli.{noun}").commands, name=noun)
    return cli


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"stillhouse {__version__}\n")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    cause: BaseException | None = None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.handle)  # a polite kill is an interruption, too
    try:
        command = _command(words[0] if words else "")
        code = int(command(args=words, prog_name="stillhouse", standalone_mode=False) or 0)
        if code != Interrupted.exit_code:
            return code
        error: StillhouseError = Interrupted()  # typer turns a KeyboardInterrupt into this code
    except typer.TyperException as failure:
        text = failure.format_message()
        if text.startswith("Usage:"):  # a noun without a verb: its help is the answer
            sys.stderr.write(text + "\n")
            return UsageError.exit_code
        error, cause = UsageError(text), failure
    except (KeyboardInterrupt, typer.Abort) as failure:
        error, cause = Interrupted(), failure
    except StillhouseError as failure:
        error = cause = failure
    except BrokenPipeError:
        return 1
    except Exception as failure:
        error, cause = _unforeseen(failure), failure
    if debug and cause is not None:
        traceback.print_exception(cause)
    return _explain(error, as_json="--json" in words)


def _unforeseen(failure: Exception) -> StillhouseError:
    """What is to be said of an error that is none of ours."""
    said = str(failure)
    if isinstance(failure, MemoryError) or any(sign in said for sign in _NO_MEMORY):
        return OutOfMemory(_memory())
    if isinstance(failure, OSError):
        return StorageError(f"{failure.filename or ''} {failure.strerror or failure}.".strip())
    return StillhouseError(f"({type(failure).__name__}: {failure})")


def _memory() -> str:
    """What this process had, and what it is allowed, in words."""
    had = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    allowed = "no limit of its own" if limit == resource.RLIM_INFINITY else f"a limit of {limit >> 20:,} MiB"
    return f"It had {had:,} MiB of memory, has {allowed}, and was given no more."


def _explain(error: StillhouseError, *, as_json: bool) -> int:
    sys.stderr.write(f"stillhouse: {error}\n  {error.next_step}\n")
    if as_json:
        value = {"error": type(error).__name__, "message": str(error), "next_step": error.next_step}
        sys.stdout.write(json.dumps({**value, "exit_code": error.exit_code}) + "\n")
    return error.exit_code
