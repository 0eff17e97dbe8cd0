"""passport write, verify, export, prove."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, note

commands = typer.Typer(help="Passports: what a model was made of, signed.", no_args_is_help=True)
ModelName = Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.")]


@commands.command()
def write(
    model: ModelName,
    to: Annotated[Path | None, typer.Option(help="The file; else passport.json beside the weights.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a model's passport as of now: weights, dataset, teachers, channels, terms, decisions, shares, revocations ..."""
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
    proof: Annotated[Path | None, typer.Option(help="A proof of `passport prove`, to be verified with it.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Verify a passport, without ledger and network. Exit code 0 trusted or intact, 3 not by whom --trust names, 4 broken."""
    from stillhouse.app.passport import verify_absence, verify_passport
    from stillhouse.errors import IntegrityError, RefusedError
    from stillhouse.passport.check import Verdict
    from stillhouse.settings.home import read_settings

    found = verify_passport(file, trust, files, read_settings(home).home)
    lines = [f"{found.result}: {found.model or file}"]
    lines += [f"  broken: {part}" for part in found.broken]
    lines += [f"  signed by {found.signer}"] if found.signer else []
    lines += [f"  revocations: checked as of {found.revocation_checked_as_of or 'never'}"] if found.signer else []
    lines += [f"  checked: {', '.join(found.checked)}"] if found.checked else []
    value = msgspec.to_builtins(found)
    wrong = ""
    if proof is not None and found.result is not Verdict.BROKEN:
        given, wrong = verify_absence(file, proof)
        what = f"no row of {given.lab} after {given.after}"
        value["proof"] = {"lab": given.lab, "after": given.after, "holds": not wrong, "why_not": wrong}
        lines.append(
            f"  {what}: {'holds for the list that the passport commits to' if not wrong else 'NOT proved: ' + wrong}"
        )
    emit(value, as_json, "\n".join(lines))
    if found.not_checked:
        note(f"not here, so not checked: {', '.join(found.not_checked)}")
    if found.result is Verdict.BROKEN or wrong:
        raise typer.Exit(IntegrityError.exit_code)
    if found.result is Verdict.INTACT and trust is not None:
        raise typer.Exit(RefusedError.exit_code)


@commands.command()
def export(
    model: Annotated[str, typer.Argument(help="A model, or a passport's file.")],
    form: Annotated[
        str, typer.Option("--format", help="cyclonedx, eu-summary, model-card, dataset-card or croissant.")
    ],
    to: Annotated[Path, typer.Option(help="A file that does not exist yet.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a passport into another format: CycloneDX ML-BOM, EU training-content summary, Hugging Face cards, Croissant."""
    from stillhouse.app.passport import Format, export_passport, passport_of
    from stillhouse.errors import UsageError
    from stillhouse.vault.files import write_whole

    if form not in tuple(Format):
        raise UsageError(f"{form!r} is no format; there is: {', '.join(Format)}.")
    if to.exists():
        raise UsageError(f"{to} exists already.", next_step="Name a file that does not exist yet.")
    path = Path(model)
    if not path.is_file():
        with opened(home) as app:
            path = passport_of(app, model)
    write_whole(to, export_passport(path, Format(form)).encode())
    emit({"file": str(to), "format": form}, as_json, f"written to {to}")


@commands.command()
def prove(
    model: ModelName,
    lab: Annotated[str, typer.Option(help="The lab.")],
    after: Annotated[str, typer.Option(help="The last day on which there may be rows of it (YYYY-MM-DD).")],
    to: Annotated[Path, typer.Option(help="The file for the proof.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Prove that a model learned from no row of a lab that is later than a day, without showing rows. Proves the list that the
    passport commits to; that the list is true rests on the signer's log.
    """
    from stillhouse.app.passport import prove_absence
    from stillhouse.vault.files import write_whole

    with opened(home) as app:
        proof = prove_absence(app, model, lab, after)
    write_whole(to, msgspec.json.format(msgspec.json.encode(proof), indent=2))
    emit(proof, as_json, f"written to {to}; verify it with: stillhouse passport verify PASSPORT --proof {to}")
