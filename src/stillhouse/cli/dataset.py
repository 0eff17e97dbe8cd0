"""dataset list, show, export, import, gather, inventory."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.options import Erasable, HomeFolder, Json, PlanOnly, ProgressAs, opened
from stillhouse.cli.output import Watch, emit, note, progress, table
from stillhouse.conversations.finishes import KEPT
from stillhouse.nouns import Channel, Ground, Origin, Use

# The values of `datasets.exporting.ExportFormat`, which is not loaded for every command.
EXPORTED = ("openai", "trl", "anthropic", "responses", "sharegpt", "alpaca", "prompt-completion", "atif")

if TYPE_CHECKING:
    from stillhouse.conversations.redaction import Secrets
    from stillhouse.datasets.corpora.inventory import Inventory
    from stillhouse.datasets.corpora.origins import Declared

commands = typer.Typer(help="Datasets: immutable versions, explained.", no_args_is_help=True)
Label = Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for the newest.", metavar="DATASET")]


@commands.command("list")
def list_datasets(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All dataset versions."""
    from stillhouse.home.ledger import dataset_queries

    with opened(home_folder) as home:
        found = dataset_queries.datasets(home.ledger)
    rows = [[d.label, d.rows, d.made, d.content_digest] for d in found]
    emit(found, as_json, table(["dataset", "rows", "made", "content digest"], rows))


@commands.command()
def show(label: Label, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """One dataset version: its funnel, digests and files."""
    from stillhouse.home.ledger import dataset_queries

    with opened(home_folder) as home:
        found = dataset_queries.dataset(home.ledger, label)
    steps = [
        [step.step, step.kept, ", ".join(f"{n} {why}" for why, n in step.dropped.items())] for step in found.funnel
    ]
    text = table(["step", "left", "dropped"], steps)
    text += f"\ncontent   {found.content_digest}\nmanifest  {found.manifest_digest}"
    text += "".join(f"\n{name:16}  {digest}" for name, digest in found.files.items())
    emit(found, as_json, text)


@commands.command()
def export(
    label: Label,
    target: Annotated[Path, typer.Argument(help="A file that does not exist yet.", metavar="FILE.jsonl")],
    use: Annotated[Use, typer.Option(help="What for: where a row may not be used so, nothing is written.")] = Use.TRAIN,
    format: Annotated[str, typer.Option(help=f"What a row is: {', '.join(EXPORTED)}.")] = EXPORTED[0],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Write a version's rows as JSON lines (or OpenAI's columns in a .parquet), each with its record and stamps, which
    `policy check` and `access gate` read.
    """
    from stillhouse.access.grants import check_export
    from stillhouse.datasets.exporting import ExportFormat, export_rows
    from stillhouse.errors import UsageError
    from stillhouse.home.erasable_sources import objects_of
    from stillhouse.home.ledger import dataset_queries

    if format not in EXPORTED:
        raise UsageError(f"--format takes {', '.join(EXPORTED)}, not {format!r}.")
    with opened(home_folder) as home:
        dataset = dataset_queries.dataset(home.ledger, label)
        check_export(home, dataset, use)
        done = export_rows(home.recorder, objects_of(home, dataset.erasable), dataset, target, ExportFormat(format))
    value = {"file": str(target), "rows": done.rows, "left_out": dict(done.left_out), "leaves_out": done.leaves_out}
    emit(value, as_json, f"{done.rows} rows written to {target}")
    for why, count in done.left_out.items():
        note(f"{count} rows left out: {why}.")
    if format not in EXPORTED[:2]:
        note(f"{format} does not say: {', '.join(done.leaves_out)}.")


OriginOption = Annotated[Origin, typer.Option("--origin", help="Who or what wrote the answers, where rows do not say.")]
LabOption = Annotated[str, typer.Option("--lab", help="Whose model it was, where rows do not say.")]
ModelOption = Annotated[str, typer.Option("--model", help="Which model it was, where rows do not say.")]
ChannelOption = Annotated[Channel, typer.Option("--channel", help="The access channel, where rows do not say.")]
TermsOption = Annotated[
    list[str] | None, typer.Option("--terms", help="Terms that bind the answers; repeat for several.")
]
InputsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        "--prompt-terms",
        help="Terms that bind what models were given: questions, system texts, results of tools; repeat for several.",
    ),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option("--keep", help=f"A kind of incomplete answer to keep as rows: {', '.join(KEPT)}; repeat for several."),
]
SecretsOption = Annotated[
    str,
    typer.Option("--secrets", help="Keys and passwords in rows: keep, redact (their kind stands there), drop the row."),
]
DayOption = Annotated[str, typer.Option("--day", help="When it was collected, where rows do not say (YYYY-MM-DD).")]


@commands.command("import")
def import_corpus(
    path: Annotated[
        Path, typer.Argument(help="A file or a folder; docs/importing.md lists the shapes.", metavar="PATH")
    ],
    name: Annotated[str, typer.Option(help="The dataset's name.")],
    use: Annotated[Use, typer.Option(help="What every row of the dataset must be allowed for.")] = Use.STORE,
    origin: OriginOption = Origin.UNKNOWN,
    lab: LabOption = "",
    model: ModelOption = "",
    channel: ChannelOption = Channel.UNKNOWN,
    terms: TermsOption = None,
    inputs: InputsOption = None,
    day: DayOption = "",
    keep: KeepOption = None,
    secrets: SecretsOption = "keep",
    erasable: Erasable = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
    plan: PlanOnly = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Read in what others collected. Rows carry *declared* stamps: what they say of themselves, then what is said here."""
    from stillhouse.cli.run import describe_plan
    from stillhouse.datasets.import_corpus import ImportRequest, execute_import, plan_import

    _check_name(name)
    declared = _declared(origin, lab, model, channel, terms, inputs, day)
    with opened(home_folder) as home:
        request = ImportRequest(path, name, use, declared, erasable, kept(keep), with_secrets(secrets))
        if plan:
            looked_at = plan_import(home, request, progress(watch)).plan
            emit(looked_at, as_json, describe_plan(looked_at))
            return
        dataset, planned = execute_import(home, request, progress(watch))
    _note_known(planned.plan.does)
    found = planned.inventory
    dropped = {why: rows for step in dataset.funnel for why, rows in step.dropped.items()}
    value = {
        "dataset": dataset.label,
        "rows": dataset.rows,
        "read": found.rows,
        "skipped": found.skipped,
        "unknown": found.unknown.rows,
        "left_out": dict(found.skipped) | dropped,
        "shortened": planned.plan.does.get("shortened", {}),
        "redacted": planned.plan.does.get("redacted", {}),
        "files": planned.left_out.files,
        "content_digest": dataset.content_digest,
    }
    emit(value, as_json, "\n".join(f"{key:15} {_shown(content)}" for key, content in value.items() if key != "files"))
    if planned.left_out.told():
        note(planned.left_out.told())
    if dropped:
        note(f"Left out of {dataset.label}, and kept in its file of dropped rows: {_shown(dropped)}.")
    for decision in planned.plan.decisions:
        if not decision.allowed:
            note(f"Denied for {decision.use}: {decision.reason}.")
    if any(Ground.UNKNOWN in decision.grounds for decision in planned.plan.decisions):
        note(
            "Declare what the rows do not say with --lab, --channel, --terms and --day; for your own work use --origin human "
            "--terms organisation/own. `stillhouse terms list` shows the documents."
        )
    if not dataset.rows:
        note(f"{dataset.label} has no rows.")


@commands.command()
def gather(
    project: Annotated[str, typer.Argument(help="The project of the gateway keys that asked.")],
    name: Annotated[str, typer.Option(help="The dataset's name.")],
    use: Annotated[Use, typer.Option(help="What every row must be allowed for.")] = Use.TRAIN,
    keep: KeepOption = None,
    passed: Annotated[
        bool, typer.Option("--passed", help="Only sessions that passed, as `session outcome` says.")
    ] = False,
    secrets: SecretsOption = "redact",
    home_folder: HomeFolder = None,
    as_json: Json = False,
    plan: PlanOnly = False,
) -> None:
    """Make a dataset of what tools asked through the gateway, a row for each line of a session: distinct, allowed."""
    from stillhouse.cli.run import describe_plan
    from stillhouse.runs.form_dataset import held_out_tasks
    from stillhouse.runs.gateway_dataset import execute_gather, gather_project
    from stillhouse.runs.session_rows import GatherRequest

    _check_name(name)
    with opened(home_folder) as home:
        request = GatherRequest(project, name, use, kept(keep), passed, with_secrets(secrets))
        made, rows = gather_project(home, request)
        if plan:
            emit(made, as_json, describe_plan(made))
            return
        dataset = execute_gather(home, request, made, rows, held_out_tasks())
    value = {
        "dataset": dataset.label,
        "rows": dataset.rows,
        "answers": rows.answers,
        "sessions": rows.sessions,
        "skipped": dict(rows.skipped) | {why: count for step in dataset.funnel for why, count in step.dropped.items()},
        "shortened": dict(rows.shortened),
        "redacted": dict(rows.redacted),
        "content_digest": dataset.content_digest,
    }
    emit(value, as_json, "\n".join(f"{key:15} {_shown(content)}" for key, content in value.items()))


@commands.command()
def inventory(
    what: Annotated[
        str,
        typer.Argument(
            help="A file, a folder or a dataset; nothing: every answer in the home.", metavar="[PATH|DATASET]"
        ),
    ] = "",
    origin: OriginOption = Origin.UNKNOWN,
    lab: LabOption = "",
    model: ModelOption = "",
    channel: ChannelOption = Channel.UNKNOWN,
    terms: TermsOption = None,
    inputs: InputsOption = None,
    day: DayOption = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """What is in a corpus, by origin, channel and decision; the unknown part; and what to find out first. Writes nothing."""
    from stillhouse.datasets.corpora.corpus_reading import LeftOutRows
    from stillhouse.datasets.corpora.row_files import files_of
    from stillhouse.datasets.import_corpus import inventory_of_files, inventory_of_home
    from stillhouse.errors import UnknownName

    with opened(home_folder) as home:
        if what and Path(what).exists():
            declared = _declared(origin, lab, model, channel, terms, inputs, day)
            left_out = LeftOutRows()
            found = inventory_of_files(home, files_of(Path(what)), declared, progress(watch), left_out)
            if left_out.told():
                note(left_out.told())
        else:
            try:
                found = inventory_of_home(home, what)
            except UnknownName as failure:
                raise UnknownName(f"There is no file, folder or dataset called {what}.") from failure
    emit(found, as_json, _inventory_text(found))


def _shown(value: object) -> object:
    """Counts as text."""
    return ", ".join(f"{count} {what}" for what, count in value.items()) or "-" if isinstance(value, dict) else value


def kept(given: list[str] | None) -> tuple[str, ...]:
    """The kinds that are to be kept. Raises UsageError."""
    from stillhouse.errors import UsageError

    if unknown := set(given or ()) - set(KEPT):
        raise UsageError(f"--keep takes {', '.join(KEPT)}, not {', '.join(sorted(unknown))}.")
    return tuple(sorted(set(given or ())))


def with_secrets(given: str) -> "Secrets":
    """What is to be done with secrets. Raises UsageError."""
    from stillhouse.conversations.redaction import Secrets
    from stillhouse.errors import UsageError

    try:
        return Secrets(given)
    except ValueError:
        raise UsageError(f"--secrets takes {', '.join(Secrets)}, not {given!r}.") from None


def _check_name(name: str) -> None:
    from stillhouse.errors import UsageError

    if not name or any(letter in name for letter in "@/\\ \n"):
        raise UsageError("--name must be one word without @, / or spaces.")


def _declared(
    origin: Origin,
    lab: str,
    model: str,
    channel: Channel,
    terms: list[str] | None,
    inputs: list[str] | None,
    day: str,
) -> "Declared":
    from stillhouse.access.changes import utc_day
    from stillhouse.datasets.corpora.origins import Declared

    day = utc_day(day, "--day")
    return Declared(origin, lab, model, channel, tuple(terms or ()), day, tuple(inputs or ()))


def _note_known(does: Mapping[str, Any]) -> None:
    """What the home knows of the rows, said before they are imported."""
    if recognised := does.get("recognised"):
        note(f"Rows that this home knows, which keep the stamps that they have here: {_shown(recognised)}.")
    if inferred := does.get("inferred"):
        labs = does.get("labs of that code")
        whose = f" The same code came from {_shown(labs)}." if labs else ""
        note(f"Possible copies (grade inferred, not a decision): {_shown(inferred)}.{whose} Review them.")


def _inventory_text(found: "Inventory") -> str:
    parts = [f"{found.rows} rows; origin unknown for {found.unknown.rows} ({found.unknown.share:.1%})"]
    parts += [f"skipped: {count} rows {reason}" for reason, count in found.skipped.items()]
    shares = (
        ("origin", found.by_origin),
        ("lab", found.by_lab),
        ("channel", found.by_channel),
        ("provider", found.by_provider),
    )
    for heading, group in shares:
        rows = [[share.what, share.rows, f"{share.share:.1%}"] for share in group]
        parts.append(table([heading, "rows", "share"], rows))
    uses = [[use, *(f"{share.rows} {share.what}" for share in group)] for use, group in found.by_decision.items()]
    parts.append(table(["use", "decision", ""], [[*row, ""][:3] for row in uses]))
    queue = [[t.rows, f"{t.share:.1%}", t.origin, ", ".join(t.missing), t.reason] for t in found.triage[:20]]
    parts.append(table(["rows", "share", "source", "missing facts", "denied because"], queue) if queue else "")
    return "\n".join(parts)
