"""The commands of compute: import, use, waiting, idle, offer, lend, leases, place, buy, backtest, drill, focus."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillhouse.cli.options import HomeFolder, Json, PlanOnly, opened
from stillhouse.cli.output import emit, note, outline, progress, table
from stillhouse.errors import UsageError

if TYPE_CHECKING:
    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.compute.forecasts.idle_series import IdleSeries
    from stillhouse.home.open_home import Home

commands = typer.Typer(help="Compute: use what you have, lend, lease or buy, on evidence.", no_args_is_help=True)

Since = Annotated[
    str, typer.Option(help="From when on, such as 2026-11-01; else a week before --until.", show_default=False)
]
Until = Annotated[str, typer.Option(help="Until when; else the end of what was imported.", show_default=False)]
PoolName = Annotated[str, typer.Option("--pool", help="The pool.")]
_HOUR, _WEEK = 3600, 7 * 86_400


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
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from stillhouse.compute.imports import Hints, Kind, import_file

    try:
        ZoneInfo(zone)
        wanted = Kind(kind) if kind else None
    except (ZoneInfoNotFoundError, ValueError) as failure:
        raise UsageError(
            f"{failure}.", next_step=f"--kind is one of {', '.join(Kind)}; --zone is one such as Europe/Berlin."
        ) from failure
    moments = [_seconds(text) if text else None for text in (at, since, until)]
    hints = Hints(pool, zone, moments[0], idle_watts, moments[1], moments[2])
    with opened(home_folder) as home:
        found = [import_file(home, path, wanted, hints) for path in files]
    lines = []
    for one in found:
        rows = ", ".join(f"{count:,} {name}" for name, count in one.rows.items())
        lines.append(f"{one.source}: {'was imported already' if one.known else f'{rows} ({one.kind})'}")
        lines += [f"  left out: {count:,}: {reason}" for reason, count in one.left_out.items()]
    emit(found, as_json, "\n".join(lines))


@commands.command()
def fetch(
    url: Annotated[str, typer.Argument(help="The address of Prometheus, Mimir or Thanos.")],
    since: Annotated[str, typer.Option(help="From when on, such as 2026-11-01.")],
    until: Annotated[str, typer.Option(help="Until when; else now.")] = "",
    step: Annotated[int, typer.Option(help="Seconds between samples.")] = 60,
    pool: Annotated[str, typer.Option(help="The pool of these GPUs.")] = "gpus",
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
    start, end = _seconds(since), _seconds(until) if until else int(datetime.now(UTC).timestamp())
    if step < 1 or end <= start:
        raise UsageError("--step is a second at least, and --until comes after --since.")
    found = []
    with opened(home_folder) as home, tempfile.TemporaryDirectory(prefix="stillhouse-fetch-") as folder:
        for number, answer in enumerate(ask(url, query or QUERY, start, end, step, headers)):
            path = Path(folder) / f"prometheus-{number}.json"
            path.write_bytes(answer)
            found.append(import_file(home, path, Kind.PROMETHEUS, Hints(pool, "UTC", None, idle_watts)))
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
    emit(_plain(found), as_json, describe_use(found))


@commands.command()
def waiting(since: Since = "", until: Until = "", home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Who waited while others had GPUs to spare: the first use of idle GPUs is inside. A bound, as nodes may not fit."""
    from stillhouse.compute.decisions.internal_first import internal_first
    from stillhouse.compute.imports import fleet_of
    from stillhouse.compute.levels import levels_of

    with opened(home_folder) as home:
        found = internal_first(levels_of(home, fleet_of(home), _window(home, since, until)))
    emit(found, as_json, "\n".join(outline(found)))


@commands.command()
def idle(
    lease: Annotated[str, typer.Option(help="For how long, such as 24h.")] = "24h",
    penalty: Annotated[float, typer.Option(help="What taking a GPU-hour back costs, in prices of one.")] = 5.0,
    notice: Annotated[str, typer.Option(help="How long before the lease its number is fixed.")] = "0",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """How many GPUs of each pool will surely enough stand idle from now on, by the policy that its own past chooses."""
    from stillhouse.compute.decisions.offering import idle_ahead

    question = _questions(lease, str(penalty), notice)[0]
    with opened(home_folder) as home:
        found = [idle_ahead(series, question) for series in _all_series(home)]
    rows = [[one["pool"], one["idle_now"], one["gpus"], one["policy"], one["why"]] for one in found]
    emit(found, as_json, table(["pool", "idle now", f"GPUs for {lease}", "policy", "why"], rows))


@commands.command()
def offer(
    pool: PoolName,
    price: Annotated[str, typer.Option(help="Money for a GPU-hour of a firm lease.")],
    sla: Annotated[str, typer.Option(help="What the agreement costs on top of the refund, for a GPU-hour taken back.")],
    own_delay: Annotated[str, typer.Option(help="What an hour's delay of own work costs, for a GPU.")],
    notice: Annotated[str, typer.Option(help="How long before the lease its number is fixed.")] = "0",
    fee: Annotated[str, typer.Option(help="The market's share of the price, such as 0.10.")] = "0",
    interruptible: Annotated[str, typer.Option(help="Money for a GPU-hour that may be taken back at notice.")] = "",
    backfill: Annotated[
        list[str] | None, typer.Option(help="Own preemptible work: NAME=GPUS:WORTH_OF_A_GPU_HOUR.")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What to do with the idle GPUs of a pool now: own preemptible work first, then firm leases, then interruptible ones.
    Advice only; `compute lend` writes a lease down. Which price another one rents for, and what delay costs you, is yours to
    say.
    """
    from stillhouse.clock import now
    from stillhouse.compute.decisions.job_replay import work_of
    from stillhouse.compute.decisions.offering import Terms
    from stillhouse.compute.decisions.offering import offer as advise
    from stillhouse.compute.imports import fleet_of, readings_of
    from stillhouse.compute.leases import lent_at, pool_of, room_of

    terms = Terms(
        _money(price, "--price"), _money(sla, "--sla"), _money(own_delay, "--own-delay"), _money(fee, "--fee"),
        _money(interruptible, "--interruptible") if interruptible else None,
    )  # fmt: skip
    if not terms.net:
        raise UsageError("A price of nothing earns nothing.", next_step="Enter a --price above 0 and a --fee below 1.")
    own = [_backfill(text) for text in backfill or []]
    with opened(home_folder) as home:
        fleet = fleet_of(home)
        said = pool_of(fleet, pool)
        series = next((one for one in _all_series(home) if one.pool == pool), None)
        if series is None:
            raise UsageError(
                f"Nothing was imported about {pool}.", next_step="`stillhouse compute import` reads a series or jobs."
            )
        terms = terms._replace(currency=said.currency)
        floor = said.gpus - room_of(fleet, pool) + lent_at(home, pool, now())
        jobs = readings_of(home, "jobs").jobs
        work = work_of(jobs.filter(jobs["pool"] == pool))
        found = advise(series, terms, _hours(notice), said.gpus, floor, own, said.cost, work)
    found["outside"] = "allowed" if said.outside else "fleet.toml lets no tenant from outside use this pool"
    emit(_plain(found), as_json, "\n".join(outline(_dated(found))))


@commands.command()
def lend(
    pool: PoolName,
    gpus: Annotated[int, typer.Option(help="How many GPUs.")],
    tenant: Annotated[str, typer.Option(help="Who gets them: a team, or somebody from outside.")],
    until: Annotated[str, typer.Option(help="When it ends, such as 2026-12-01T18:00:00Z.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    since: Annotated[str, typer.Option(help="When it begins; else now.")] = "",
    outside: Annotated[bool, typer.Option("--outside", help="The tenant is no part of the organisation.")] = False,
    notice: Annotated[int, typer.Option(help="How many minutes before they must be given back on request.")] = 0,
    price: Annotated[str, typer.Option(help="Money for a GPU-hour.")] = "",
    home_folder: HomeFolder = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Lend GPUs of a pool until a moment: a signed act, which an approver confirms where the tenant is from outside. Refused
    where the fleet or a hold on the pool forbids such tenants, or where more is lent than its floors leave.
    """
    from stillhouse.approvals import propose, recompute
    from stillhouse.cli.identity import show_outcome
    from stillhouse.clock import now
    from stillhouse.compute.imports import fleet_of
    from stillhouse.compute.leases import normalised, plan_lease
    from stillhouse.nouns import Lease

    with opened(home_folder) as home:
        lease = Lease(
            pool=pool, gpus=gpus, tenant=tenant, outside=outside, start=normalised(since) if since else now(),
            end=normalised(until), notice=notice, price=price, currency=fleet_of(home).pool(pool).currency, reason=reason,
        )  # fmt: skip
        made = plan_lease(home, lease)
        if plan:
            emit(made, as_json, "\n".join(outline(recompute(home, made))))
            return
        done = propose(home, made)
    show_outcome(done, as_json)


@commands.command()
def leases(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Every lease, and whether it runs now."""
    import msgspec

    from stillhouse.clock import now
    from stillhouse.compute.leases import leases as all_leases

    with opened(home_folder) as home:
        found, moment = all_leases(home), now()
    shown = [msgspec.to_builtins(one) | {"runs": one.start <= moment < one.end} for one in found]
    rows = [[one["pool"], one["gpus"], one["tenant"], "outside" if one["outside"] else "inside", one["start"][:16],
             one["end"][:16], "yes" if one["runs"] else "no"] for one in shown]  # fmt: skip
    emit(shown, as_json, table(["pool", "GPUs", "tenant", "", "from", "to", "runs"], rows))


@commands.command()
def place(
    pool: PoolName,
    gpus: Annotated[int, typer.Option(help="How many GPUs at once.")],
    gpu_hours: Annotated[float, typer.Option(help="How many GPU-hours; else those of --retrain.")] = 0.0,
    retrain: Annotated[str, typer.Option(help="A model whose clean retrain is placed.")] = "",
    by: Annotated[str, typer.Option(help="The date by which it should be done.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Where a plan fits in forecast idle GPUs, how likely it is done by a date, and what it costs at the pool's price."""
    from stillhouse.compute.decisions.placing import place as place_plan
    from stillhouse.compute.imports import fleet_of
    from stillhouse.compute.own_runs import gpu_hours_of

    if gpus < 1:
        raise UsageError("--gpus is 1 at least.")
    with opened(home_folder) as home:
        hours = gpu_hours or (gpu_hours_of(home, retrain) if retrain else 0.0)
        if hours <= 0:
            raise UsageError("Nothing to place.", next_step="Say --gpu-hours, or name a model with --retrain.")
        series = next((one for one in _all_series(home) if one.pool == pool), None)
        if series is None:
            raise UsageError(
                f"Nothing was imported about {pool}.", next_step="`stillhouse compute import` reads a series or jobs."
            )
        said = fleet_of(home).pool(pool)
        found = place_plan(series, gpus, hours, _seconds(by) if by else None)
    cost = None if said.cost is None else (said.cost * Decimal(str(hours))).quantize(Decimal("0.01"))
    found |= {"cost": cost, "currency": said.currency, "retrain": retrain}
    emit(_plain(found), as_json, "\n".join(outline(_dated(found))))


@commands.command()
def buy(
    pool: PoolName,
    block: Annotated[int, typer.Option(help="How many GPUs more, or fewer.")] = 8,
    gpus: Annotated[int, typer.Option(help="How many GPUs the pool has; else as fleet.toml says.")] = 0,
    prices: Annotated[
        Path | None, typer.Option(help="Snapshots of rental prices, one JSON object a line.", show_default=False)
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Whether another block of GPUs would have paid for itself in the weeks that were imported, or one less would have been
    missed.
    """
    from stillhouse.compute.decisions.buying import buy_or_not
    from stillhouse.compute.decisions.job_replay import work_of
    from stillhouse.compute.importers.rental_prices import read_prices
    from stillhouse.compute.imports import fleet_of, readings_of

    with opened(home_folder) as home:
        fleet = fleet_of(home)
        jobs = readings_of(home, "jobs").jobs
    said = fleet.pool(pool)
    size = gpus or said.gpus
    if size < 1 or block < 1:
        raise UsageError(
            f"How many GPUs {pool} has is not known.", next_step="Say --gpus, or declare the pool in fleet.toml."
        )
    waits = {name: Decimal(team.waiting_hour) for name, team in fleet.teams.items() if team.waiting_hour}
    found = buy_or_not(
        work_of(jobs.filter(jobs["pool"] == pool)),
        size,
        block,
        said.cost,
        read_prices(prices) if prices else None,
        waits,
    )
    emit(_plain(found), as_json, found["recommendation"] + "\n" + "\n".join(outline(_plain(found))))


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
    from stillhouse.compute.forecasts.idle_series import series_of
    from stillhouse.compute.importers.trace_layouts import read_series
    from stillhouse.vault.files import storage_errors

    questions = _questions(lease, penalty, notice)
    files = []
    for path in series:
        with storage_errors(f"{path} could not be read"):
            files += read_series(path, zone)
    for file in files:
        for reason, count in file.left_out.items():
            note(f"{file.pool}: left out: {count:,}: {reason}")
    found = run_backtest(series_of(files), questions, _seconds(test_from) if test_from else None, progress())
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
def drill(
    gpus: Annotated[int, typer.Option(help="How many GPUs their owner asks for.")],
    promised: Annotated[str, typer.Option(help="Within which time they were promised, such as 10m.")],
    partition: Annotated[
        str, typer.Option(help="Slurm: the owner's partition. Without it, a cluster is simulated.")
    ] = "",
    qos: Annotated[str, typer.Option(help="Slurm: the owner's quality of service.")] = "",
    lent: Annotated[int, typer.Option(help="Simulated: how many GPUs tenants have, in leases of 8.")] = 64,
    notice: Annotated[str, typer.Option(help="Simulated: the notice of their leases.")] = "10m",
    wipe: Annotated[str, typer.Option(help="Simulated: how long a node takes between two tenants.")] = "5m",
    tries: Annotated[int, typer.Option(help="How often.")] = 1,
    as_json: Json = False,
) -> None:
    """Ask for GPUs back as their owner, and measure how long it takes until the owner's job runs: on Slurm, or on a simulated
    cluster before anything is lent. Exit code 1 where the promise is not kept.
    """
    from stillhouse.compute.clusters.cluster import Cluster
    from stillhouse.compute.clusters.simulated import SimulatedCluster, Tenant
    from stillhouse.compute.clusters.slurm import SlurmCluster
    from stillhouse.compute.reclaim_drill import drill as ask_back

    if gpus < 1 or tries < 1:
        raise UsageError("--gpus and --tries are 1 at least.")
    limit, found = _hours(promised) * _HOUR, []
    for number in range(tries):
        cluster: Cluster = SlurmCluster(partition, qos)
        if not partition:
            tenants = [Tenant(f"tenant-{n}", 8, _hours(notice) * _HOUR, _HOUR) for n in range(lent // 8)]
            cluster = SimulatedCluster(lent, tenants, _hours(wipe) * _HOUR, seed=number)
        found.append(ask_back(cluster, gpus, limit, max(10 * limit, 60.0)))
    kept = sum(one["kept"] for one in found)
    value = {"cluster": partition or "simulated", "tries": found, "kept": kept,
             "slowest_seconds": max((one["seconds"] for one in found if one["seconds"] is not None), default=None)}  # fmt: skip
    text = f"{kept} of {tries} kept the promise of {promised}; the slowest took {value['slowest_seconds']} s"
    emit(value, as_json, text)
    if kept < tries:
        raise typer.Exit(1)


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


def _all_series(home: "Home") -> "list[IdleSeries]":
    from stillhouse.compute.imports import fleet_of
    from stillhouse.compute.levels import series_in

    return series_in(home, fleet_of(home))


def _window(home: "Home", since: str, until: str) -> "Window":
    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.home.ledger.compute_queries import compute_imports

    imports = compute_imports(home.ledger)
    if not imports and not (since and until):
        raise UsageError(
            "Nothing was imported yet.", next_step="`stillhouse compute import` reads what your scheduler writes."
        )
    end = _seconds(until) if until else max(one.last for one in imports)
    start = _seconds(since) if since else end - _WEEK
    if end <= start:
        raise UsageError("--until comes after --since.")
    return Window(start, end)


def _seconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time.", next_step="Write it like 2026-11-01 or 2026-11-01T18:00:00Z."
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _hours(text: str) -> float:
    """``90s``, ``10m``, ``6h``, ``2d``, ``0``: hours."""
    units = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "h")
    try:
        hours = float(number) * units[unit]
    except ValueError:
        hours = -1.0
    if not 0 <= hours < 10_000:
        raise UsageError(f"{text!r} is no length of time.", next_step="Write it like 30m, 6h or 1d.")
    return hours


def _questions(lease: str, penalty: str, notice: str) -> list[Any]:
    from stillhouse.compute.forecasts.idle_series import BINS_PER_HOUR
    from stillhouse.compute.forecasts.payoffs import Question

    found = []
    for long in lease.split(","):
        for cost in penalty.split(","):
            for before in notice.split(","):
                bins = round(_hours(long.strip()) * BINS_PER_HOUR)
                amount = float(_money(cost.strip(), "--penalty"))
                if bins < 1 or amount < 1:
                    raise UsageError(
                        "A lease takes ten minutes at least, and a penalty is 1 at least: the price that is refunded."
                    )
                found.append(Question(bins, amount, round(_hours(before.strip()) * BINS_PER_HOUR)))
    return found


def _money(text: str, what: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"{what} is {text!r}, which is no amount.", next_step="Write it like 2.10.")
    return amount


def _backfill(text: str) -> Any:
    from stillhouse.compute.decisions.offering import Backfill

    name, _, rest = text.partition("=")
    gpus, _, worth = rest.partition(":")
    if not name or not gpus.isdigit() or not worth:
        raise UsageError(f"{text!r} is no backfill.", next_step="Write it like collection=16:0.90.")
    return Backfill(name, int(gpus), _money(worth, "--backfill"))


def _cell_row(cell: dict[str, Any]) -> list[str]:
    interval = f"{_percent(cell['low'])} to {_percent(cell['high'])}"
    question = f"{cell['lease']}/{cell['penalty']:g}/{cell['notice']}"
    value, taken = _percent(cell["value_share"]), _percent(cell["reclaimed_share"])
    return [cell["pool"], question, cell["policy"], value, interval, f"{cell['worst_day']:,.0f}", taken]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _plain(value: Any) -> Any:
    """Money as text, as in every other value: floating point would round it."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Decimal) else value


def _dated(value: Any, name: str = "") -> Any:
    """The same for people: moments as dates."""
    if isinstance(value, dict):
        return {key: _dated(one, key) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_dated(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > 10**8 and not name.startswith("gpu"):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _plain(value)
