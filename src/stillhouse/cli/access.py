"""access grant, revoke, list, gate, retrain, egress."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import HomeFolder, Json, PlanOnly, opened
from stillhouse.cli.output import emit, note, progress, table
from stillhouse.nouns import AccessChange, AccessKind, Channel, Use

if TYPE_CHECKING:
    from stillhouse.access.revocation_impact import RevocationImpact

commands = typer.Typer(
    help="Access: grants, revocations, what they reach, the training-launch gate.", no_args_is_help=True
)
Lab = Annotated[str, typer.Argument(help="The lab, as teachers are registered with it.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Only these models; repeat for several.")]
Channels = Annotated[
    list[Channel] | None, typer.Option("--channel", help="Only through these channels; all otherwise.")
]
Accounts = Annotated[list[str] | None, typer.Option("--account", help="Only these accounts, by fingerprint.")]
Uses = Annotated[list[Use] | None, typer.Option("--use", help="Only for these uses; all but storing otherwise.")]
Since = Annotated[
    str, typer.Option(help="Answers of this UTC day and later (a day, or a time with its zone); else all.")
]
Notice = Annotated[str, typer.Option(help="The day on which it was said.")]
Authority = Annotated[str, typer.Option(help="Who said so, or by which contract.")]
Document = Annotated[Path | None, typer.Option(help="The document that says so: its digest is kept, not its text.")]
Reverses = Annotated[str, typer.Option(help="The grant or revocation that is void from now on.")]
EvenIfNothing = Annotated[
    bool, typer.Option("--even-if-nothing", help="Also where it matches nothing that is here or known.")
]
Reason = Annotated[str, typer.Option(help="Why, in a few words.")]


@commands.command()
def grant(
    lab: Lab,
    models: Models = None,
    channels: Channels = None,
    accounts: Accounts = None,
    uses: Uses = None,
    since: Since = "",
    until: Annotated[str, typer.Option(help="The last day.")] = "",
    notice: Notice = "",
    authority: Authority = "",
    document: Document = None,
    verdict: Annotated[
        str, typer.Option(help="What a negotiated agreement says in place of public terms: allow, conditions ...")
    ] = "",
    duty: Annotated[list[str] | None, typer.Option(help="A duty of the agreement; repeat for several.")] = None,
    reverses: Reverses = "",
    reason: Reason = "",
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Grant access, again or under an agreement that was negotiated. Needs a second person's approval where there is one."""
    draft = AccessChange(
        id="", kind=AccessKind.GRANT, lab=lab, models=tuple(models or ()), channels=tuple(channels or ()),
        accounts=tuple(accounts or ()), uses=tuple(uses or ()), since=since, until=until, notice=notice,
        authority=authority, verdict=verdict, duties=tuple(duty or ()), reverses=reverses, reason=reason,
    )  # fmt: skip
    _change(draft, document, home_folder, plan, as_json, even_if_nothing=True)


@commands.command()
def revoke(
    lab: Lab,
    models: Models = None,
    channels: Channels = None,
    accounts: Accounts = None,
    uses: Uses = None,
    exempt: Annotated[list[Use] | None, typer.Option(help="Uses that stay as they were; repeat for several.")] = None,
    since: Since = "",
    notice: Notice = "",
    authority: Authority = "",
    document: Document = None,
    reverses: Reverses = "",
    reason: Reason = "",
    even_if_nothing: EvenIfNothing = False,
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Write down that access was revoked. Every door refuses at once; nothing is deleted. --plan shows what it reaches."""
    draft = AccessChange(
        id="", kind=AccessKind.REVOKE, lab=lab, models=tuple(models or ()), channels=tuple(channels or ()),
        accounts=tuple(accounts or ()), uses=tuple(uses or ()), exempt=tuple(exempt or ()), since=since, notice=notice,
        authority=authority, reverses=reverses, reason=reason,
    )  # fmt: skip
    _change(draft, document, home_folder, plan, as_json, even_if_nothing=even_if_nothing)


def _change(
    draft: AccessChange,
    document: Path | None,
    home_folder: Path | None,
    plan: bool,
    as_json: bool,
    *,
    even_if_nothing: bool,
) -> None:
    from stillhouse.access.grants import matches_nothing, plan_change
    from stillhouse.access.people import standing
    from stillhouse.approvals import propose
    from stillhouse.errors import UsageError

    with opened(home_folder) as home:
        made = plan_change(home, draft, document)
        nothing = matches_nothing(home, msgspec.convert(made.plan.does["change"], AccessChange))
        if plan:
            value: dict[str, Any] = {**made.plan.impact, "plan": made.plan, "change": made.plan.does["change"]}
            emit(value, as_json, describe_impact(made.impact))
            if nothing:
                note(f"This would match nothing: {nothing}.")
            return
        if nothing and not even_if_nothing:
            raise UsageError(
                f"This would match nothing: {nothing}.",
                next_step="Correct the name, or say --even-if-nothing: what comes later is then concerned.",
            )
        done = propose(home, made.plan)
        advisory = standing(home).advisory
    if as_json:
        value = {"done": done.done, "waits_for": list(done.waits_for), "plan": done.digest}
        emit({**value, "change": made.plan.does["change"], "impact": made.plan.impact}, as_json)
    else:
        emit(None, as_json, describe_impact(made.impact))
        show_outcome(done, as_json)
    for line in advisory:
        note(f"ADVISORY: {line}")
    if nothing:
        note(f"This matches nothing so far: {nothing}.")


@commands.command("list")
def list_access(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All grants and revocations, how much is in quarantine, and what the gate decided."""
    from stillhouse.access.grants import gates, list_changes, quarantine

    with opened(home_folder) as home:
        found, held, decided = list_changes(home), quarantine(home, Use.TRAIN), gates(home)
    rows = [
        [one["id"], one["kind"], one["lab"], one["since"] or "-", ", ".join(one["channels"]) or "all", one["signed_by"],
         "in force" if one["in_force"] else "over", one["reason"]]
        for one in found
    ]  # fmt: skip
    text = table(["id", "what", "lab", "since", "channels", "signed by", "state", "why"], rows)
    text += f"\n{held['records']} records in quarantine" + "".join(
        f"\n  {n}: {why}" for why, n in held["reasons"].items()
    )
    text += "".join(
        f"\ngate {one['at']}: {'open' if one['allowed'] else 'CLOSED'} for {', '.join(one['subjects'])} {one['job']}".rstrip()
        for one in decided[:10]
    )
    emit({"changes": found, "quarantine": held, "gates": decided}, as_json, text)


@commands.command()
def gate(
    datasets: Annotated[
        list[str], typer.Argument(help="Labels, or files and folders that were exported.", metavar="DATASET...")
    ],
    use: Annotated[Use, typer.Option(help="The intended use.")] = Use.TRAIN,
    job: Annotated[str, typer.Option(help="The job that wants to start, for the receipt.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """May a job start on these? Leaves a signed receipt. Exit code 3 where not; any failure keeps the gate closed."""
    from stillhouse.access.grants import gate as decide_gate
    from stillhouse.errors import RefusedError

    with opened(home_folder) as home:
        value = decide_gate(home, datasets, use, job)
    named = [one["dataset"] or one["subject"] for one in value["datasets"]]
    lines = [f"{'ALLOWED' if value['allowed'] else 'DENIED'}: {', '.join(named)} for {use}"]
    lines += [f"  {reason}" for reason in value["reasons"]]
    lines += [f"  duty: {duty}" for duty in value["duties"]]
    lines += [f"  WAIVED (waiver {waiver})" for waiver in value["waivers"]]
    emit(value, as_json, "\n".join(lines))
    if not value["allowed"]:
        for label in dict.fromkeys(one["dataset"] for one in value["datasets"] if one["denied"]):
            note(f"`stillhouse policy explain {label}` names the terms behind each reason, and where they were read.")
        raise typer.Exit(RefusedError.exit_code)


@commands.command()
def retrain(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.")],
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Train a model again from its recipe without what policy denies now. Nothing is asked for; the old model stays."""
    from stillhouse.runs.retrain import plan_retrain
    from stillhouse.runs.retrain import retrain as train_again

    with opened(home_folder) as home:
        if plan:
            made = plan_retrain(home, model)
            emit(made, as_json, "\n".join(f"{name:12} {content}" for name, content in made.items()))
            return
        value = train_again(home, model, progress())
    emit(value, as_json, "\n".join(f"{name:12} {content}" for name, content in value.items()))


@commands.command()
def egress(
    log: Annotated[Path, typer.Argument(help="A log of an egress proxy: Squid's format, or JSON lines; .gz too.")],
    own: Annotated[
        list[str] | None, typer.Option(help="An address that this home calls from; repeat for several.")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Calls to teachers' hosts that are in no record. Exit code 3 where there are any."""
    from stillhouse.access.grants import compare_egress
    from stillhouse.errors import RefusedError, UsageError

    with opened(home_folder) as home:
        found = compare_egress(home, log, tuple(own or ()))
    if found.lines and found.unreadable == found.lines:
        raise UsageError(f"{log} is no log of a proxy: none of its {found.lines} lines can be read.")
    rows = [[one.day, one.client, one.host, one.lab or "?", one.connections] for one in found.unrecorded]
    text = f"{found.lines} lines, {found.unreadable} unreadable; {found.to_teachers} to teachers, {found.recorded} recorded\n"
    emit(found, as_json, text + table(["day", "client", "host", "lab", "in no record"], rows))
    if found.unrecorded:
        raise typer.Exit(RefusedError.exit_code)


def describe_impact(found: "RevocationImpact") -> str:
    """An impact as text."""
    lines = [
        f"affects {found.records} records (tokens: {found.tokens or 'not counted'}) for: {', '.join(found.uses) or 'no use'}"
    ]
    lines += [f"  {use}: {rows} still allowed" for use, rows in found.usable.items()]
    lines += (
        [f"  {found.irreplaceable} records of this lab could not be collected again"] if found.irreplaceable else []
    )
    lines += [f"{share.dataset}: {share.rows} of {share.of} rows ({share.share:.1%})" for share in found.datasets]
    for model in found.models:
        step = f"from step {model.first_step} of {model.steps}" if model.first_step else "through what it was made from"
        lines.append(f"{model.model}: {step}; by {model.because}")
        lines += [f"  child: {child}" for child in model.children]
    lines += [f"exported: {export}" for export in found.exports]
    lines += [f"passport: {passport}" for passport in found.passports]
    for plan in found.retrain:
        kept = f"from {plan.checkpoint}" if plan.checkpoint else "from its base: no checkpoint before that step is kept"
        lines.append(
            f"clean retrain of {plan.model}: {plan.rows_left} rows of {plan.dataset}, {kept}; {plan.tokens} tokens, "
            f"{plan.hours} h, ${plan.usd}: {plan.command}"
        )
    return "\n".join(lines)
