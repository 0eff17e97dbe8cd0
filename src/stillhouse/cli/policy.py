"""policy explain, check, rules, adopt, not-a-copy, waive."""

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.dataset import Label
from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import HomeFolder, Json, PlanOnly, opened
from stillhouse.cli.output import emit, note, table
from stillhouse.nouns import Channel, Use, Waiver

commands = typer.Typer(help="Policy: may this be used for that, and why.", no_args_is_help=True)


@commands.command()
def explain(
    name: Annotated[str, typer.Argument(help="A registered teacher, or a dataset.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What the answers of a teacher, collected today to train, or the rows of a dataset may be used for, by which rule, and where
    that was read.
    """
    from stillhouse.access.policy_questions import explain as explain_decisions
    from stillhouse.access.policy_questions import explain_citations

    with opened(home_folder) as home:
        decisions = explain_decisions(home, name)
        citations = explain_citations(home, decisions)
    rows = [[d.use, "yes" if d.allowed else "no", d.reason, "; ".join(d.duties)] for d in decisions]
    text = table(["use", "allowed", "reason", "duties"], rows)
    emit(decisions, as_json, text + "\nIt rests on:\n" + "\n".join(f"  {line}" for line in citations))


@commands.command()
def check(
    label: Label,
    use: Annotated[Use, typer.Option(help="The intended use.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """How many rows of a dataset may serve a use. Exit code 3 where any is denied."""
    from stillhouse.access.policy_questions import check_dataset
    from stillhouse.errors import RefusedError

    with opened(home_folder) as home:
        result = check_dataset(home, label, use)
    text = f"{result['allowed']} rows allowed, {result['denied']} denied for {use}\n" + "\n".join(result["reasons"])
    text += "".join(f"\nduty: {duty}" for duty in result["duties"])
    emit(result, as_json, text + "".join(f"\nWAIVED (waiver {waiver})" for waiver in result["waivers"]))
    if result["denied"]:
        note(f"`stillhouse policy explain {label}` names the terms behind each reason, and where they were read.")
        raise typer.Exit(RefusedError.exit_code)


@commands.command()
def rules(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """The organisation's own rules (policy.toml), tried on their tests, and how much each of them is about."""
    from stillhouse.access.policy_questions import look_at_rules

    with opened(home_folder) as home:
        found = look_at_rules(home)
    rows = [[r["name"], r["effect"], r["owner"], r["when"], f"{r['matches']} of {r['of']}", r["note"]] for r in found]
    emit(found, as_json, table(["rule", "effect", "owner", "when", "stamp sets", "note"], rows))


@commands.command()
def adopt(home_folder: HomeFolder = None, plan: PlanOnly = False, as_json: Json = False) -> None:
    """Sign what the files of this home say (the organisation's facts, its rules, terms and prices) and which teachers are
    registered. From then on they decide as they were signed; a file that is changed is a draft until it is adopted.
    """
    from stillhouse.access.policy_adoption import plan_adoption
    from stillhouse.approvals import propose, recompute

    with opened(home_folder) as home:
        made = plan_adoption(home)
        what = [str(line) for line in made.does["what"]]
        if not what:
            emit({"plan": None, "done": True, "waits_for": []}, as_json, "the files are as they were adopted")
            return
        if plan:
            shown = recompute(home, made)
            lines = [*what, *(f"--- {name}\n" + "\n".join(text) for name, text in shown["documents"].items())]
            emit(made, as_json, "\n".join(lines))
            return
        note("\n".join(what))
        done = propose(home, made)
    show_outcome(done, as_json)


@commands.command("not-a-copy")
def not_a_copy(
    path: Annotated[Path, typer.Argument(help="A corpus, or a model's folder, that this home recognises.")],
    reviewer: Annotated[str, typer.Option(help="Who compared it; a member, where there is a roster.")],
    evidence: Annotated[Path, typer.Option(help="What they wrote about it: a file, which is kept.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Find that rows or weights which are recognised are no copies of what this home knows. From then on they are what they are
    declared to be. Needs a second person's approval where there is one.
    """
    from stillhouse.approvals import propose
    from stillhouse.datasets.lifted_matches import plan_not_a_copy

    with opened(home_folder) as home:
        made = plan_not_a_copy(home, path, reviewer, evidence, reason)
        finding = made.does["finding"]
        if plan:
            what = f"{finding['rows']} rows" if finding["rows"] else f"the weights {finding['weights']}"
            emit(made, as_json, f"{what} would not be recognised any more")
            return
        done = propose(home, made)
    show_outcome(done, as_json)


@commands.command()
def waive(
    use: Annotated[Use, typer.Option(help="The intended use.")],
    owner: Annotated[str, typer.Option(help="Who is responsible for it.")],
    expires: Annotated[str, typer.Option(help="The last day, YYYY-MM-DD.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    lab: Annotated[str, typer.Option(help="Only for answers of this lab.")] = "",
    channel: Annotated[Channel | None, typer.Option(help="Only through this channel.")] = None,
    terms: Annotated[str, typer.Option(help="Only under this document.")] = "",
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Let a use pass until a day, under somebody's name: what is unknown, unclear or the organisation's own rule. Never what a
    document forbids or a lab revoked.
    """
    from stillhouse.access.grants import labs_here
    from stillhouse.access.policy_questions import plan_waiver
    from stillhouse.approvals import propose
    from stillhouse.permission.known_names import fold_lab

    waiver = Waiver(id="", use=use, owner=owner, expires=expires, reason=reason, lab=lab, channel=channel, terms=terms)
    with opened(home_folder) as home:
        if lab and fold_lab(lab) not in labs_here(home):
            note(f"No record and no teacher here is of a lab called {lab!r}: this lifts nothing of what is here.")
        made = plan_waiver(home, waiver)
        if plan:
            emit(made, as_json, f"waiver {made.subject}: {made.impact['records']}")
            return
        done = propose(home, made)
    show_outcome(done, as_json)
