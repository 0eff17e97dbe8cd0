"""plan list, show."""

from typing import Annotated

import typer

from stillhouse.cli.options import Home, Json, opened
from stillhouse.cli.output import emit, table
from stillhouse.cli.run import describe_plan

commands = typer.Typer(help="Plans: what was going to be done, and the receipts of what was.", no_args_is_help=True)


@commands.command("list")
def list_plans(home: Home = None, as_json: Json = False) -> None:
    """All plans that were executed, with their outcomes."""
    from stillhouse.ledger import queries

    with opened(home) as app:
        found = queries.plans(app.ledger)
    rows = [
        [p.digest[7:19], p.at, p.plan.kind, p.plan.subject, ", ".join(r.outcome for r in p.receipts) or "no receipt"]
        for p in found
    ]
    value = [{"digest": p.digest, "at": p.at, "plan": p.plan, "receipts": p.receipts} for p in found]
    emit(value, as_json, table(["plan", "at", "kind", "subject", "outcome"], rows))


@commands.command()
def show(
    digest: Annotated[str, typer.Argument(help="A plan's digest, or its first characters.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """One plan and its receipts."""
    from stillhouse.errors import UnknownName
    from stillhouse.ledger import queries

    with opened(home) as app:
        found = queries.plans(app.ledger)
    wanted = digest if digest.startswith("blake3:") else f"blake3:{digest}"
    for stored in found:
        if stored.digest.startswith(wanted):
            receipts = "".join(f"\n  receipt {r.made}: {r.outcome} {r.result}" for r in stored.receipts)
            value = {"digest": stored.digest, "at": stored.at, "plan": stored.plan, "receipts": stored.receipts}
            emit(value, as_json, describe_plan(stored.plan) + receipts)
            return
    raise UnknownName(f"No plan begins with {digest!r}.")
