"""passport write, verify, status, revoked, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note

if TYPE_CHECKING:
    from stillhouse.home.settings import Settings
    from stillhouse.passport.revoked_since import PassportStatus
    from stillhouse.permission.signing_keys import PublicKey

commands = typer.Typer(help="Passports: what a model was made of, signed.", no_args_is_help=True)
ModelName = Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.")]


@commands.command()
def write(
    model: ModelName,
    to: Annotated[Path | None, typer.Option(help="The file; else passport.json beside the weights.")] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Write a model's passport as of now: weights, dataset, teachers, channels, terms, decisions, shares, revocations ..."""
    from stillhouse.passport.write_passport import write_passport

    with opened(home_folder) as home:
        path = write_passport(home, model, to)
    emit({"passport": str(path)}, as_json, f"written to {path}")


@commands.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A passport.", metavar="FILE")],
    trust: Annotated[
        Path | None, typer.Option(help="Public keys (PEM) that you trust, a file or a folder; else this home's own.")
    ] = None,
    files: Annotated[Path | None, typer.Option(help="The model's folder; else the passport's own.")] = None,
    lab: Annotated[str, typer.Option(help="With --after: does it name anything of this lab that is later?")] = "",
    after: Annotated[str, typer.Option(help="The last day of that lab that is expected (YYYY-MM-DD).")] = "",
    revoked: Annotated[
        Path | None, typer.Option(help="A list of revoked passports (`passport revoked`): does it name this one?")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Verify a passport, without network; where there is a home, it also says what was revoked since. Exit code 0 trusted or
    intact, 3 not by whom --trust names, named by --revoked, or something of --lab is later than --after, 4 broken.
    """
    from stillhouse.errors import IntegrityError, RefusedError, UsageError
    from stillhouse.home.settings import read_settings
    from stillhouse.passport.statement import later_than
    from stillhouse.passport.verify_passport import PassportVerdict, read_statement
    from stillhouse.passport.write_passport import passport_roots, verify_passport
    from stillhouse.permission.terms_registry import is_day

    if bool(lab) != bool(after) or (after and not is_day(after)):
        raise UsageError("--lab and --after belong together: a lab, and a day (YYYY-MM-DD).")

    settings = read_settings(home_folder)
    found = verify_passport(file, trust, files, settings.home)
    lines = [f"{found.result}: {found.model or file}"]
    lines += [f"  broken: {part}" for part in found.broken]
    lines += [f"  signed by {found.signer}"] if found.signer else []
    lines += [f"  revocations: checked as of {found.revocation_checked_as_of or 'never'}"] if found.signer else []
    lines += [f"  checked: {', '.join(found.checked)}"] if found.checked else []
    value = msgspec.to_builtins(found)
    listed: list[str] = []
    if found.result is not PassportVerdict.BROKEN:
        listed = _listed(file, revoked, passport_roots(trust, settings.home)) if revoked else []
        known = _since(file, settings)
        since = sorted({*(known or []), *listed})
        value["revoked_since"] = since if revoked or known is not None else None  # nobody was asked
        lines += [f"  revoked since: {one}" for one in since]
    later: list[str] = []
    if lab and found.result is not PassportVerdict.BROKEN:
        try:
            later = later_than(read_statement(file)["predicate"], lab, after)
        except msgspec.ValidationError as failure:
            raise IntegrityError(f"{file} does not say of which origins it is: {failure}.") from failure
        value["later"] = {"lab": lab, "after": after, "found": later}
        lines += [f"  {lab} after {after}: {one}" for one in later or ["nothing"]]
    emit(value, as_json, "\n".join(lines))
    if found.not_checked:
        note(f"not here, so not checked: {', '.join(found.not_checked)}")
    if found.result is PassportVerdict.BROKEN:
        raise typer.Exit(IntegrityError.exit_code)
    if later or listed or (found.result is PassportVerdict.INTACT and trust is not None):
        raise typer.Exit(RefusedError.exit_code)


def _since(file: Path, settings: "Settings") -> list[str] | None:
    """What the home knows to be revoked since; None where there is no home that could be asked."""
    from stillhouse.errors import HomeMissing, StillhouseError
    from stillhouse.home.open_home import open_home
    from stillhouse.passport.revoked_since import status_of_file

    try:
        with open_home(settings) as home:
            return list(status_of_file(file, home.policy).revoked_since)
    except HomeMissing:
        return None
    except StillhouseError as failure:
        note(f"What was revoked since was not looked up: {failure}")
        return None


def _listed(file: Path, revoked: Path, roots: list["PublicKey"]) -> list[str]:
    """What a published list says to be revoked since."""
    from stillhouse.passport.revoked_since import look_up

    found = look_up(revoked, file, roots)
    if not found.known:
        note(f"{revoked} (of {found.made}) does not name this passport: it may be a later one, or another signer's.")
    return list(found.revoked_since)


@commands.command()
def status(
    file: Annotated[Path | None, typer.Argument(help="A passport; else all that this home gave out.")] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What was revoked since a passport was written. Exit code 3 where FILE is concerned."""
    from stillhouse.errors import RefusedError
    from stillhouse.passport.given_out import passports_given_out
    from stillhouse.passport.revoked_since import status_of_file

    with opened(home_folder) as home:
        found = [status_of_file(file, home.policy)] if file else passports_given_out(home)
    emit(
        msgspec.to_builtins(found), as_json, "\n".join(_status_lines(found)) or "No passport was written by this home."
    )
    if file and found[0].revoked_since:
        raise typer.Exit(RefusedError.exit_code)


def _status_lines(found: list["PassportStatus"]) -> list[str]:
    lines = []
    for one in found:
        lines.append(
            f"{one.model} of {one.written}: {'revoked since' if one.revoked_since else 'nothing revoked since'}"
        )
        lines += [f"  {reason}" for reason in one.revoked_since]
        lines += [f"  for: {', '.join(one.uses)}"] if one.uses else []
    return lines


@commands.command()
def revoked(
    to: Annotated[Path, typer.Option(help="A file that does not exist yet.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Write the signed list of passports that were revoked since they were given out, to be published."""
    from stillhouse.passport.given_out import publish_list

    with opened(home_folder) as home:
        found = publish_list(home, to)
    emit({"file": str(to), "revoked": len(found)}, as_json, f"{len(found)} revoked passports, written to {to}")


@commands.command()
def export(
    model: Annotated[str, typer.Argument(help="A model, or a passport's file.")],
    form: Annotated[
        str, typer.Option("--format", help="cyclonedx, spdx, eu-summary, model-card, dataset-card or croissant.")
    ],
    to: Annotated[Path, typer.Option(help="A file that does not exist yet.")],
    name: Annotated[str, typer.Option(help="The name under which the model is published; else its own.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Put a passport into another format: CycloneDX ML-BOM, SPDX 3, EU summary of training content, Hugging Face
    cards, Croissant.

    Exit code 3 where a duty says how the published name must begin, and it does not.
    """
    from stillhouse.errors import UsageError
    from stillhouse.passport.write_passport import Format, export_passport, passport_of
    from stillhouse.vault.files import write_whole

    if form not in tuple(Format):
        raise UsageError(f"{form!r} is no format; there is: {', '.join(Format)}.")
    if to.exists():
        raise UsageError(f"{to} exists already.", next_step="Name a file that does not exist yet.")
    path = Path(model)
    if not path.is_file():
        with opened(home_folder) as home:
            path = passport_of(home, model)
    write_whole(to, export_passport(path, Format(form), name).encode())
    emit({"file": str(to), "format": form}, as_json, f"written to {to}")
