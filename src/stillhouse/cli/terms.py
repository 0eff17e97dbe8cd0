"""terms list, show, asof. They take --home as every command does; the registry that they show ships with the code."""

from typing import Annotated

import typer

from stillhouse.cli.options import Home, Json
from stillhouse.cli.output import emit, table
from stillhouse.nouns import Use

commands = typer.Typer(help="Terms: dated facts of what each document allows.", no_args_is_help=True)


@commands.command("list")
def list_terms(home: Home = None, as_json: Json = False) -> None:
    """Every version of every document that the registry knows."""
    from stillhouse.policy.registry import registry

    rows = [[version.id, version.verdict, version.summary] for version in registry()]
    emit(registry(), as_json, table(["terms", "verdict", "in our words"], rows))


@commands.command()
def show(
    terms: Annotated[str, typer.Argument(help="service/document, or licence/id.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """All versions of one document."""
    from stillhouse.errors import UnknownName
    from stillhouse.policy.registry import document_id, registry

    name = terms.partition("@")[0]
    found = [version for version in registry() if document_id(version.service, version.document) == name]
    if not found:
        raise UnknownName(
            f"The registry does not know {name!r}.", next_step="`stillhouse terms list` shows what it knows."
        )
    rows = [[v.since, v.verdict, v.summary, "; ".join(v.duties), v.source] for v in found]
    emit(found, as_json, table(["since", "verdict", "in our words", "duties", "read in"], rows))


@commands.command()
def asof(
    service: Annotated[str, typer.Option(help="The service.")],
    document: Annotated[str, typer.Option(help="The document.")],
    date: Annotated[str, typer.Option(help="The day of collection, YYYY-MM-DD.")],
    use: Annotated[Use, typer.Option(help="What for.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What a document said on a day, and the decision that follows where one competes with everybody."""
    from stillhouse.nouns import Channel, Origin, Stamp
    from stillhouse.policy.decide import Organisation, decide
    from stillhouse.policy.registry import document_id, resolve

    terms = document_id(service, document)
    version = resolve(terms, date)
    stamp = Stamp(Origin.TEACHER, lab=service, channel=Channel.OFFICIAL, terms=(terms,), day=date, purpose=str(use))
    decision = decide(stamp, use, Organisation())
    value = {
        "verdict": str(version.verdict) if version else "unknown",
        "decision": "allow" if decision.allowed else "deny",
        "version": version.id if version else None,
        "effective": version.effective if version else None,
        "observed": version.observed if version else None,
        "reason": decision.reason,
        "duties": list(decision.duties),
    }
    emit(value, as_json, f"{value['decision']}: {decision.reason}")
