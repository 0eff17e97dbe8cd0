"""The commands of compute that look: import, fetch, use, waiting, idle, backtest, focus. Those that decide: ``lending``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli import lending
from stillhouse.cli.compute_options import all_series, check_zone, dated, hours, money, note_if_old, plain, seconds
from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note, outline, progress, table
from stillhouse.errors import CorpusUnreadable, StillhouseError, UsageError

if TYPE_CHECKING:
    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.home.open_home import Home

commands = typer.Typer(help="Compute: use what you have, lend, lease or buy, on evidence.", no_args_is_help=True)

Since = Annotated[
    str, typer.Option(help="From when on, such as 2026-11-01; else a week before --until.", show_default=False)
]
Until = Annotated[str, typer.Option(help="Until when; else the end of what was imported.", show_default=False)]
_WEEK = 7 * 86_400


@commands.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="What a scheduler, a metrics server or a cloud wrote.")],
    kind: Annotated[
        str, typer.Option(help="sacct, nodes, prometheus, kubernetes, bill, series or table; else recognised.")
    ] = "",
    pool: Annotated[str, typer.Option(help="The pool of what names none itself; else the file's name.")] = "",
    zone: Annotated[str, typer.Option(help="The time zone of times without one, such as Europe/Berlin.")] = "UTC",
    since: Annotated[
        str, typer.Option(help="From when on it has every job, as sacct was asked with -S; else from its first.")
    ] = "",
    until: Annotated[str, typer.Option(help="Until when, as sacct was asked with -E; else to its last.")] = "",
    at: Annotated[str, typer.Option(help="When a snapshot of nodes was taken, where it does not say so.")] = "",
    idle_watts: Annotated[float, typer.Option(help="What an idle GPU draws: without it, power says nothing.")] = 0.0,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Read jobs, samples of activity, capacity, bills and series into the home. The same file twice is one import. What
    cannot be read is left out and counted, by reason. With a Prometheus server's address instead of a file, use `compute
    fetch`.
    """
    from stillhouse.compute.imports import Hints, Kind, import_file

    check_zone(zone)
    if kind and kind not in tuple(Kind):
        raise UsageError(f"{kind!r} is no kind.", next_step=f"--kind is one of {', '.join(Kind)}.")
    wanted = Kind(kind) if kind else None
    moments = [seconds(text) if text else None for text in (at, since, until)]
    hints = Hints(pool, zone, moments[0], idle_watts, moments[1], moments[2])
    with opened(home_folder) as home:
        found, failed = [], None
        for path in files:
            try:
                found.append(import_file(home, path, wanted, hints))
            except StillhouseError as failure:  # one bad file costs the others nothing
                if len(files) == 1:
                    raise
                note(f"{path}: {failure} {failure.next_step}")
                failed = failure
    lines = []
    for one in found:
        rows = ", ".join(f"{count:,} {name}" for name, count in one.rows.items())
        lines.append(f"{one.source}: {'was imported already' if one.known else f'{rows} ({one.kind})'}")
        lines += [f"  left out: {count:,}: {reason}" for reason, count in one.left_out.items()]
    if found or failed is None:
        emit(found, as_json, "\n".join(lines))
    if failed is not None:
        raise typer.Exit(failed.exit_code)


@commands.command()
def fetch(
    url: Annotated[str, typer.Argument(help="The address of Prometheus, Mimir or Thanos.")],
    since: Annotated[str, typer.Option(help="From when on, such as 2026-11-01.")],
    until: Annotated[str, typer.Option(help="Until when; else now.")] = "",
    step: Annotated[int, typer.Option(help="Seconds between samples.")] = 60,
    pool: Annotated[str, typer.Option(help="The pool of these GPUs; else that of their node or job.")] = "",
    query: Annotated[str, typer.Option(help="The query; else every known measure of every GPU.")] = "",
    token_env: Annotated[str, typer.Option(help="The variable that has a bearer token.")] = "",
    tenant: Annotated[str, typer.Option(help="X-Scope-OrgID, where the server has tenants.")] = "",
    idle_watts: Annotated[float, typer.Option(help="What an idle GPU draws: without it, power says nothing.")] = 0.0,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Read the activity of GPUs from Prometheus, in windows below its limit of points."""
    import tempfile

    from stillhouse.compute.importers.prometheus import QUERY
    from stillhouse.compute.importers.prometheus import fetch as ask
    from stillhouse.compute.imports import Hints, Kind, import_file
    from stillhouse.home.settings import secret_named

    headers = {"X-Scope-OrgID": tenant} if tenant else {}
    if token_env:
        headers["Authorization"] = f"Bearer {secret_named(token_env)}"
    start, end = seconds(since), seconds(until) if until else int(datetime.now(UTC).timestamp())
    if step < 1 or end <= start:
        raise UsageError("--step is a second at least, and --until comes after --since.")
    found, nothing = [], None
    with opened(home_folder) as home, tempfile.TemporaryDirectory(prefix="stillhouse-fetch-") as folder:
        for number, answer in enumerate(ask(url, query or QUERY, start, end, step, headers)):
            path = Path(folder) / f"prometheus-{number}.json"
            path.write_bytes(answer)
            try:
                found.append(import_file(home, path, Kind.PROMETHEUS, Hints(pool, "UTC", None, idle_watts)))
            except CorpusUnreadable as failure:  # most often a window without a sample; it costs the others nothing
                note(f"window {number + 1}: {failure}")
                nothing = failure
    if not found and nothing is not None:
        raise nothing
    rows = sum(sum(one.rows.values()) for one in found)
    lines = [f"{rows:,} samples"] + [f"  left out: {n:,}: {why}" for one in found for why, n in one.left_out.items()]
    emit(found, as_json, "\n".join(lines))


@commands.command()
def use(
    since: Since = "",
    until: Until = "",
    page: Annotated[
        Path | None, typer.Option(help="Write the report as a page, with its picture.", show_default=False)
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """How every GPU-second was used: by pool, team, project and job, layer by layer; which GPUs are held and idle, whom to
    ask about them, and what they cost a week.
    """
    from stillhouse.compute.imports import charges_of, fleet_of, readings_of
    from stillhouse.compute.own_runs import own_runs
    from stillhouse.compute.use import use_report
    from stillhouse.runs.report.compute_page import describe_use, write_use_page

    with opened(home_folder) as home:
        readings, fleet = readings_of(home), fleet_of(home)
        window = _window(home, since, until)
        found = use_report(readings, fleet, window, charges_of(home)) | {"own_runs": own_runs(home)}
    if page is not None:
        note(f"the page is {write_use_page(found, page)}")
    emit(plain(found), as_json, describe_use(found))


@commands.command()
def waiting(since: Since = "", until: Until = "", home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Who waited while others had GPUs to spare: the first use of idle GPUs is inside. A bound, as nodes may not fit."""
    from stillhouse.compute.decisions.internal_first import internal_first, waited_by_team
    from stillhouse.compute.imports import fleet_of, readings_of
    from stillhouse.compute.levels import levels_of

    with opened(home_folder) as home:
        window = _window(home, since, until)
        found = internal_first(levels_of(home, fleet_of(home), window))
        found["by_team"] = waited_by_team(readings_of(home, "jobs").jobs, window.start, window.end)
    emit(found, as_json, "\n".join(outline(found)))


@commands.command()
def idle(
    lease: Annotated[str, typer.Option(help="For how long, such as 24h.")] = "24h",
    penalty: Annotated[float, typer.Option(help="What taking a GPU-hour back costs, in prices of one.")] = 5.0,
    notice: Annotated[str, typer.Option(help="How long before the lease its number is fixed.")] = "0",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """How many GPUs of each pool will surely enough stand idle from now on, by the policy that its own past chooses; and how
    many did, by day, by night and at weekends (in UTC), in the last four weeks.
    """
    from stillhouse.clock import now
    from stillhouse.compute.decisions.free_hours import TIMES, free_hours
    from stillhouse.compute.decisions.offering import idle_ahead
    from stillhouse.compute.lent_gpus import lent_at

    question = _questions(lease, str(penalty), notice)[0]
    with opened(home_folder) as home:
        found = [
            idle_ahead(series, question)
            | {"lent": lent_at(home, series.pool, now()), "free": free_hours(series, question.penalty)}
            for series in all_series(home)
        ]
    rows = [
        [
            *(one["pool"], dated(one["as_of"]), one["idle_now"], one["lent"], max(one["gpus"] - one["lent"], 0)),
            *("unknown" if gpus is None else gpus for gpus in one["free"].values()),
            one["why"],
        ]
        for one in found
    ]
    headings = ["pool", "as of", "idle then", "lent now", f"GPUs left for {lease}", *TIMES, "why"]
    emit(found, as_json, table(headings, rows))
    note_if_old([int(one["as_of"]) for one in found])


@commands.command()
def backtest(
    series: Annotated[
        list[Path], typer.Option(help="A series: time and idle, or a known trace layout; one pool a file.")
    ],
    lease: Annotated[str, typer.Option(help="For how long GPUs are offered.")] = "6h,24h",
    penalty: Annotated[str, typer.Option(help="What taking a GPU-hour back costs, in prices of one.")] = "5,20",
    notice: Annotated[str, typer.Option(help="How long before the lease its number is fixed.")] = "0,1h",
    test_from: Annotated[
        str, typer.Option(help="When the test begins; else where a file does, about three fifths in.")
    ] = "",
    zone: Annotated[str, typer.Option(help="The time zone of times without one.")] = "UTC",
    as_json: Json = False,
) -> None:
    """What each policy of offering idle GPUs would have earned on a pool's own past, every hour from what was known at that
    hour alone. Files with the same pool continue one series. Takes no home.
    """
    from stillhouse.compute.forecasts.backtest_report import backtest as run_backtest
    from stillhouse.compute.forecasts.backtest_report import followed_cells
    from stillhouse.compute.forecasts.idle_series import LONGEST_DAYS, series_of
    from stillhouse.compute.importers.trace_layouts import read_series
    from stillhouse.vault.files import storage_errors

    questions = _questions(lease, penalty, notice)
    check_zone(zone)
    files = []
    for path in series:
        with storage_errors(f"{path} could not be read"):
            files += read_series(path, zone)
    for file in files:
        for reason, count in file.left_out.items():
            note(f"{file.pool}: left out: {count:,}: {reason}")
    all_of = series_of(files)
    for one in all_of:
        if one.left_out:
            note(f"{one.pool}: {one.left_out:,} readings of more than {LONGEST_DAYS} days before its last are not used")
    found = run_backtest(all_of, questions, seconds(test_from) if test_from else None, progress())
    rows = [_cell_row(cell) for cell in followed_cells(found)]
    headings = [
        "pool",
        "lease/penalty/notice",
        "followed",
        "of the best in hindsight",
        "90 % interval",
        "worst day",
        "taken back",
    ]
    pooled = found["pooled"]
    total = (
        f"\nall pools: {_percent(pooled['value_share'])}, the best single policy before the test "
        f"{_percent(pooled['baseline_value_share'])}; difference {_percent(pooled['difference'])} "
        f"({_percent(pooled['difference_low'])} to {_percent(pooled['difference_high'])}, {pooled['blocks']} blocks of "
        f"{pooled['block_days']} days)"
    )
    emit(found, as_json, table(headings, rows) + total)


@commands.command()
def focus(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    since: Since = "",
    until: Until = "",
    home_folder: HomeFolder = None,
) -> None:
    """Write the account of the fleet as a bill in FOCUS 1.2: a row for each pool, state, team and project whose cost is
    known.
    """
    from stillhouse.compute.accounting.costs import by_price, hours_by
    from stillhouse.compute.accounting.states import account
    from stillhouse.compute.importers.focus import write_focus
    from stillhouse.compute.imports import fleet_of, readings_of
    from stillhouse.compute.readings import PARTS
    from stillhouse.vault.files import write_whole

    with opened(home_folder) as home:
        fleet, window = fleet_of(home), _window(home, since, until)
        declared = {name: pool.gpus * PARTS for name, pool in fleet.pools.items() if pool.gpus}
        all_of = account(readings_of(home), window, declared)
    costs = [cost for accounts in all_of for cost in by_price(accounts, fleet)]
    unknown = sorted({cost.pool for cost in costs if cost.amount is None})
    write_whole(file, write_focus(costs, hours_by(all_of), window, "own fleet").encode())
    note(
        f"{file}: {sum(cost.amount is not None for cost in costs)} rows"
        + (f"; no price: {', '.join(unknown)}" if unknown else "")
    )


def _window(home: "Home", since: str, until: str) -> "Window":
    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.home.ledger.compute_queries import compute_imports

    imports = compute_imports(home.ledger)
    if not imports and not (since and until):
        raise UsageError(
            "Nothing was imported yet.", next_step="`stillhouse compute import` reads what your scheduler writes."
        )
    end = seconds(until) if until else max(one.last for one in imports)
    start = seconds(since) if since else end - _WEEK
    if end <= start:
        raise UsageError("--until comes after --since.")
    return Window(start, end)


def _questions(lease: str, penalty: str, notice: str) -> list[Any]:
    from stillhouse.compute.forecasts.idle_series import BINS_PER_HOUR
    from stillhouse.compute.forecasts.payoffs import Question

    found = []
    for long in lease.split(","):
        for cost in penalty.split(","):
            for before in notice.split(","):
                bins = round(hours(long.strip()) * BINS_PER_HOUR)
                amount = float(money(cost.strip(), "--penalty"))
                if bins < 1 or amount < 1:
                    raise UsageError(
                        "A lease takes ten minutes at least, and a penalty is 1 at least: the price that is refunded."
                    )
                found.append(Question(bins, amount, round(hours(before.strip()) * BINS_PER_HOUR)))
    return found


def _cell_row(cell: dict[str, Any]) -> list[str]:
    interval = f"{_percent(cell['low'])} to {_percent(cell['high'])}"
    question = f"{cell['lease']}/{cell['penalty']:g}/{cell['notice']}"
    value, taken = _percent(cell["value_share"]), _percent(cell["reclaimed_share"])
    return [cell["pool"], question, cell["policy"], value, interval, f"{cell['worst_day']:,.0f}", taken]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


lending.add_to(commands)
