"""passport write, verify."""

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, note

commands = typer.Typer(help="Passports: what a model was made of, signed.", no_args_is_help=True)


@commands.command()
def write(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.")],
    to: Annotated[Path | None, typer.Option(help="The file; else passport.json beside the weights.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a model's passport as of now: weights and dataset, teachers, channels, terms, decisions, funnel, evaluation."""
    from stillhouse.app.passport import write_passport

    with opened(home) as app:
        path = write_passport(app, model, to)
    emit({"passport": str(path)}, as_json, f"written to {path}")


@commands.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A passport.", metavar="FILE")],
    trust: Annotated[
        Path | None, typer.Option(help="Public keys (PEM) that you trust, a file or a folder; else this home's own.")
    ] = None,
    files: Annotated[Path | None, typer.Option(help="The model's folder; else the passport's own.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Verify a passport, without ledger and network. Exit code 0 trusted or intact, 3 not by whom --trust names, 4 broken."""
    from stillhouse.app.passport import verify_passport
    from stillhouse.errors import IntegrityError, RefusedError
    from stillhouse.passport.check import Verdict
    from stillhouse.settings.home import read_settings

    found = verify_passport(file, trust, files, read_settings(home).home)
    lines = [f"{found.result}: {found.model or file}"]
    lines += [f"  broken: {part}" for part in found.broken]
    lines += [f"  signed by {found.signer}"] if found.signer else []
    lines += [f"  revocations: {found.revocation_checked_as_of or 'not checked'}"] if found.signer else []
    lines += [f"  checked: {', '.join(found.checked)}"] if found.checked else []
    emit(found, as_json, "\n".join(lines))
    if found.not_checked:
        note(f"not here, so not checked: {', '.join(found.not_checked)}")
    if found.result is Verdict.BROKEN:
        raise typer.Exit(IntegrityError.exit_code)
    if found.result is Verdict.INTACT and trust is not None:
        raise typer.Exit(RefusedError.exit_code)
