"""delete plan, erase, list, undo."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import HomeFolder, Json, PlanOnly, opened
from stillhouse.cli.output import emit, note, outline, table

if TYPE_CHECKING:
    from stillhouse.home.open_home import Home
    from stillhouse.nouns import Plan

commands = typer.Typer(
    help="Delete by plan: impact, second approval, trash with a grace period, undo.", no_args_is_help=True
)


@commands.command()
def plan(
    subject: Annotated[
        list[str], typer.Argument(help="dataset:NAME@N, snapshot:DIGEST or run:ID; several go together.")
    ],
    reason: Annotated[str, typer.Option(help="Why, in a few words.")] = "",
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Ask for a deletion, and see all that it would reach; nothing is deleted. `plan execute` does it, after the approval."""
    from stillhouse.custody.deletion.deletion import plan_deletion

    with opened(home_folder) as home:
        _ask(home, plan_deletion(home, subject, reason), as_json, only_plan=plan)


@commands.command()
def erase(
    source: Annotated[str, typer.Argument(help="What `--erasable` called it.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the log.")] = "",
    plan: PlanOnly = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Ask that a source be erased: its key destroyed, in every store, so that no copy can be read. There is no way back."""
    from stillhouse.custody.deletion.deletion import plan_erasure

    with opened(home_folder) as home:
        _ask(home, plan_erasure(home, source, reason), as_json, only_plan=plan)


def _ask(home: "Home", made: "Plan", as_json: bool, *, only_plan: bool) -> None:
    """Show a plan, ask for its approval, and say what is not enforced here."""
    from stillhouse.access.people import standing
    from stillhouse.approvals import submit
    from stillhouse.cli.run import describe_plan
    from stillhouse.custody.protection.protection_status import advisory

    text = "\n".join([describe_plan(made), *outline(made.impact, depth=1)])
    if only_plan:
        emit(made, as_json, text)
        return
    done = submit(home, made)
    if not as_json:
        emit(None, False, text)
    show_outcome(done, as_json)
    for line in (*standing(home).advisory, *advisory(home)):
        note(f"ADVISORY: {line}")


@commands.command("list")
def list_deletions(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Deletions that were carried out, and whether they still count."""
    from stillhouse.home.current_permission import load
    from stillhouse.home.ledger import custody_queries
    from stillhouse.nouns import Deletion, Erasure

    with opened(home_folder) as home:
        undone = custody_queries.undone(home.ledger)
        found: list[dict[str, Any]] = [
            {
                "deletion": content.id if isinstance(content, Deletion) else content.key[7:19],
                "at": act.at,
                "subjects": sorted(content.mentions) if isinstance(content, Deletion) else [f"source:{content.source}"],
                "bytes": content.bytes if isinstance(content, Deletion) else 0,
                "reason": content.reason,
                "signed_by": [signature.by for signature in act.entry.signatures],
                "undone": isinstance(content, Deletion) and content.id in undone,
                "erased": isinstance(content, Erasure),
            }
            for act in load(home.ledger, home.settings).acts
            if isinstance(content := act.entry.content, Deletion | Erasure)
        ]
    rows = [
        [
            one["deletion"],
            one["at"],
            ", ".join(one["subjects"]),
            one["bytes"],
            "undone" if one["undone"] else "erased, for good" if one["erased"] else "",
        ]
        for one in found
    ]
    emit(found, as_json, table(["deletion", "at", "what", "bytes", ""], rows))


@commands.command()
def undo(
    deletion: Annotated[str, typer.Argument(help="The deletion, or its plan; the first characters will do.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Restore what a deletion moved to the trash. Needs no approval."""
    from stillhouse.custody.deletion.deletion import undo as undo_deletion

    with opened(home_folder) as home:
        done = undo_deletion(home, deletion)
    emit(done, as_json, f"{', '.join(done['subjects'])} is back: {done['objects']} objects left the trash")
