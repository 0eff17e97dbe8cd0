"""The commands of compute that decide: offer, lend, leases, place, buy, drill."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from stillhouse.cli.compute_options import HOUR, PoolName, all_series, dated, hours, money, note_if_old, plain, seconds
from stillhouse.cli.options import HomeFolder, Json, PlanOnly, opened
from stillhouse.cli.output import emit, outline, table
from stillhouse.errors import UsageError


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
    from stillhouse.compute.lent_gpus import lent_at, pool_of, room_of, size_of

    terms = Terms(
        money(price, "--price"), money(sla, "--sla"), money(own_delay, "--own-delay"), money(fee, "--fee"),
        money(interruptible, "--interruptible") if interruptible else None,
    )  # fmt: skip
    if not terms.net:
        raise UsageError("A price of nothing earns nothing.", next_step="Enter a --price above 0 and a --fee below 1.")
    own = [_backfill(text) for text in backfill or []]
    with opened(home_folder) as home:
        fleet = fleet_of(home)
        said = pool_of(fleet, pool)
        series = next((one for one in all_series(home) if one.pool == pool), None)
        if series is None:
            raise UsageError(
                f"Nothing was imported about {pool}.", next_step="`stillhouse compute import` reads a series or jobs."
            )
        terms = terms._replace(currency=said.currency)
        size = size_of(home, fleet, pool)
        floor = size - room_of(home, fleet, pool) + lent_at(home, pool, now())
        jobs = readings_of(home, "jobs").jobs
        work = work_of(jobs.filter(jobs["pool"] == pool))
        found = advise(series, terms, hours(notice), size, floor, own, said.cost, work)
    note_if_old([int(found["as_of"])])
    found["outside"] = "allowed" if said.outside else "fleet.toml lets no tenant from outside use this pool"
    emit(plain(found), as_json, "\n".join(outline(dated(found))))


def lend(
    pool: PoolName,
    gpus: Annotated[int, typer.Option(help="How many GPUs.")],
    tenant: Annotated[str, typer.Option(help="Who gets them: a team, or somebody from outside.")],
    until: Annotated[str, typer.Option(help="When it ends, such as 2026-12-01T18:00:00Z.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    since: Annotated[str, typer.Option(help="When it begins; else now.")] = "",
    outside: Annotated[bool, typer.Option("--outside", help="The tenant is no part of the organisation.")] = False,
    notice: Annotated[
        int, typer.Option(min=0, max=100_000, help="How many minutes before they must be given back on request.")
    ] = 0,
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
    from stillhouse.compute.lent_gpus import normalised, plan_lease
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


def leases(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Every lease, and whether it runs now."""
    import msgspec

    from stillhouse.clock import now
    from stillhouse.compute.lent_gpus import leases as all_leases

    with opened(home_folder) as home:
        found, moment = all_leases(home), now()
    shown = [msgspec.to_builtins(one) | {"runs": one.start <= moment < one.end} for one in found]
    rows = [[one["pool"], one["gpus"], one["tenant"], "outside" if one["outside"] else "inside", one["start"][:16],
             one["end"][:16], "yes" if one["runs"] else "no"] for one in shown]  # fmt: skip
    emit(shown, as_json, table(["pool", "GPUs", "tenant", "", "from", "to", "runs"], rows))


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
        needed = gpu_hours or (gpu_hours_of(home, retrain) if retrain else 0.0)
        if not 0 < needed < 1e9:
            raise UsageError("Nothing to place.", next_step="Say --gpu-hours, or name a model with --retrain.")
        series = next((one for one in all_series(home) if one.pool == pool), None)
        if series is None:
            raise UsageError(
                f"Nothing was imported about {pool}.", next_step="`stillhouse compute import` reads a series or jobs."
            )
        said = fleet_of(home).pool(pool)
        found = place_plan(series, gpus, needed, seconds(by) if by else None)
    note_if_old([int(found["from"])])
    cost = None if said.cost is None else (said.cost * Decimal(str(needed))).quantize(Decimal("0.01"))
    found |= {"cost": cost, "currency": said.currency, "retrain": retrain}
    emit(plain(found), as_json, "\n".join(outline(dated(found))))


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
    emit(plain(found), as_json, found["recommendation"] + "\n" + "\n".join(outline(plain(found))))


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
    limit, found = hours(promised) * HOUR, []
    for number in range(tries):
        cluster: Cluster = SlurmCluster(partition, qos)
        if not partition:
            tenants = [Tenant(f"tenant-{n}", 8, hours(notice) * HOUR, HOUR) for n in range(lent // 8)]
            cluster = SimulatedCluster(lent, tenants, hours(wipe) * HOUR, seed=number)
        found.append(ask_back(cluster, gpus, limit, max(10 * limit, 60.0)))
    kept = sum(one["kept"] for one in found)
    value = {"cluster": partition or "simulated", "tries": found, "kept": kept,
             "slowest_seconds": max((one["seconds"] for one in found if one["seconds"] is not None), default=None)}  # fmt: skip
    where = f"on Slurm, partition {partition}" if partition else "on a simulated cluster"
    text = f"{where}: {kept} of {tries} kept the promise of {promised}; the slowest took {value['slowest_seconds']} s"
    emit(value, as_json, text)
    if kept < tries:
        raise typer.Exit(1)


def _backfill(text: str) -> Any:
    from stillhouse.compute.decisions.offering import Backfill

    name, _, rest = text.partition("=")
    gpus, _, worth = rest.partition(":")
    if not name or not gpus.isdigit() or not worth:
        raise UsageError(f"{text!r} is no backfill.", next_step="Write it like collection=16:0.90.")
    return Backfill(name, int(gpus), money(worth, "--backfill"))


def add_to(commands: typer.Typer) -> None:
    """Add them to the noun."""
    for function in (offer, lend, leases, place, buy, drill):
        commands.command()(function)
