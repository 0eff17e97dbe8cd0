"""plan list, show, approve, execute."""

from typing import Annotated

import typer

from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, outline, table
from stillhouse.cli.run import describe_plan

commands = typer.Typer(help="Plans: what was going to be done, and the receipts of what was.", no_args_is_help=True)
Start = Annotated[str, typer.Argument(help="A plan's digest, or its first characters.", metavar="PLAN")]


@commands.command("list")
def list_plans(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All plans: those that were executed, with their outcomes, and those that wait for approvals."""
    from stillhouse.approvals import outcomes

    with opened(home_folder) as home:
        found = outcomes(home)
    rows = [
        [
            p.digest[7:19],
            p.at,
            p.plan.kind,
            p.plan.subject,
            outcome,
        ]
        for p, outcome in found
    ]
    value = [
        {"digest": p.digest, "at": p.at, "plan": p.plan, "receipts": p.receipts, "outcome": outcome}
        for p, outcome in found
    ]
    emit(value, as_json, table(["plan", "at", "kind", "subject", "outcome"], rows))


@commands.command()
def show(digest: Start, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """One plan, who approved it, and its receipts with their signatures."""
    from stillhouse.approvals import find, recompute
    from stillhouse.errors import StillhouseError
    from stillhouse.home.ledger import permission_queries

    with opened(home_folder) as home:
        stored = find(home, digest)
        try:  # whoever is asked to agree sees what is found now, not what the author wrote
            found = {} if stored.receipts else recompute(home, stored.plan)
        except StillhouseError as failure:
            found = {"cannot be recomputed": str(failure)}
        approvals = permission_queries.approvals(home.ledger, stored.digest)
    receipts = [
        line
        for r in stored.receipts
        for line in (
            f"  receipt {r.made}: {r.outcome}, signed by {r.signature.by if r.signature else 'nobody'}",
            *outline(r.result, depth=2),
        )
    ]
    said = [f"  approved {at} by {signature.by}" for at, signature in approvals]
    value = {
        "digest": stored.digest,
        "at": stored.at,
        "plan": stored.plan,
        "approvals": [signature for _, signature in approvals],
        "receipts": stored.receipts,
        "recomputed": found,
    }
    lines = [describe_plan(stored.plan), *outline({"recomputed": found}, depth=1), *said, *receipts]
    emit(value, as_json, "\n".join(lines))


@commands.command()
def approve(digest: Start, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Say yes to a plan that somebody else proposed, with your own key."""
    from stillhouse.approvals import approve as say_yes

    with opened(home_folder) as home:
        done = say_yes(home, digest)
    show_outcome(done, as_json)


@commands.command()
def execute(digest: Start, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Carry out a plan that waited for approvals: once, while it is valid, and while what it rests on still holds."""
    from stillhouse.approvals import execute as carry_out

    with opened(home_folder) as home:
        done = carry_out(home, digest)
    show_outcome(done, as_json)
