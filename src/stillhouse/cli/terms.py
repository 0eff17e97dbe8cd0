"""terms list, show, asof, diff, import-archive. Without a home they show the registry that ships with the code."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note, table
from stillhouse.nouns import Use

if TYPE_CHECKING:
    from stillhouse.permission.decide import Policy

commands = typer.Typer(help="Terms: dated facts of what each document allows.", no_args_is_help=True)


@contextlib.contextmanager
def _policy(home_folder: Path | None) -> "Iterator[Policy]":
    from stillhouse.errors import HomeMissing
    from stillhouse.permission.decide import Policy

    try:
        with opened(home_folder) as home:
            yield home.policy
    except HomeMissing:
        yield Policy()


@commands.command("list")
def list_terms(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Every version of every document that the registry knows."""
    with _policy(home_folder) as policy:
        versions, contradictions = policy.registry.versions, policy.registry.contradictions()
    rows = [[version.id, version.verdict, version.confidence, version.summary] for version in versions]
    emit(versions, as_json, table(["terms", "verdict", "how known", "in our words"], rows))
    for contradiction in contradictions:
        note(f"two versions of one day disagree, and the stricter decides: {contradiction}")


@commands.command()
def show(
    terms: Annotated[str, typer.Argument(help="service/document, licence/id, or a service alone.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """All versions of a document, or of a service's: what each says, and how that is known."""
    from stillhouse.access.policy_questions import describe
    from stillhouse.errors import UnknownName
    from stillhouse.permission.decide import OWN_TERMS

    with _policy(home_folder) as policy:
        found = policy.registry.of(terms) or policy.registry.of_service(terms)
        services = ", ".join(sorted({version.service for version in policy.registry.versions}))
    if not found and terms == OWN_TERMS:
        emit(
            [],
            as_json,
            f"{OWN_TERMS}: what your organisation made itself. No document binds it; rules of policy.toml do.",
        )
        return
    if not found:
        raise UnknownName(
            f"The registry does not know {terms.partition('@')[0]!r}.",
            next_step=f"It knows documents of: {services}.",
        )
    emit(found, as_json, "\n".join(describe(version) for version in found))


@commands.command()
def asof(
    service: Annotated[str, typer.Option(help="The service.")],
    document: Annotated[str, typer.Option(help="The document.")],
    date: Annotated[str, typer.Option(help="The day of collection, YYYY-MM-DD, or a time with its zone.")],
    use: Annotated[Use, typer.Option(help="The intended use.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What a document said on a day, and the decision that follows for this organisation."""
    from stillhouse.access.terms_history import as_of

    with _policy(home_folder) as policy:
        value = as_of(policy, service, document, date, use)
    emit(value, as_json, f"{value['decision']}: {value['reason']}")


@commands.command()
def diff(
    terms: Annotated[str, typer.Argument(help="service, service/document, or nothing for all.")] = "",
    since: Annotated[str, typer.Option(help="Only changes that count from this day on.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What changed in a document and when, and how many records and which models were made under each version."""
    from stillhouse.access.terms_history import differences

    with opened(home_folder) as home:
        found = differences(home, terms, since)
    lines = [
        f"{one['document']} changed on {one['date']}: {one['from']} -> {one['to']}; {one['records_before']} records before, "
        f"{one['records_after']} after, models: {', '.join(one['models']) or 'none'}\n    {one['summary']}"
        for one in found
    ]
    emit(found, as_json, "\n".join(lines) or "(no change)")


@commands.command("import-archive")
def import_archive(
    folder: Annotated[Path, typer.Argument(help="An archive in the layout of Open Terms Archive.", metavar="DIR")],
    to: Annotated[
        Path | None, typer.Option(help="A folder that gets one page and one TOML draft for each change.")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Find versions with a date of their own and changed passages that matter for training, and propose entries for review. No
    verdict changes by this.
    """
    from stillhouse.access.terms_history import propose_entries

    with _policy(home_folder) as policy:
        found = propose_entries(policy.registry, folder, to)
    rows = [
        [one.document, one.observed, one.effective or "-", one.standing or "-", len(one.dropped), len(one.added)]
        for one in found.proposals
    ]
    text = f"{found.texts} texts of {found.documents} documents, {found.unreadable} unreadable\n"
    text += table(["document", "first seen", "its own date", "stands as", "passages gone", "passages new"], rows)
    emit(found, as_json, text)
    if found.left_out:
        note(f"Left out, since they are about personal data: {', '.join(found.left_out)}.")
    if to is not None and found.proposals:
        note(f"For review: {to}. What you accept goes into the home's folder `terms`, with your name as reviewer.")
