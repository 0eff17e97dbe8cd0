"""How compute was used, for people: as text, and as one page with its picture; conclusions first."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from stillhouse.compute.pictures import states_svg
from stillhouse.runs.report.render import template
from stillhouse.vault.files import write_whole

_SHOWN = 10


def describe_use(found: dict[str, Any]) -> str:
    """The account in lines: what was idle and whose, then each pool layer by layer, teams, the bill."""
    lines = [f"{day(found['window']['start'])} to {day(found['window']['end'])}", *conclusions(found), ""]
    for pool in found["pools"]:
        layers = pool["layers"]
        lines.append(f"{pool['pool']}: measured by {', '.join(pool['measured_by']) or 'nothing'}; {_cost_line(pool)}")
        lines.append("  " + " > ".join(f"{name} {hours:,.1f}" for name, hours in layers.items()) + " GPU-hours")
        for state, row in pool["states"].items():
            if row["gpu_hours"]:
                bound = f", at most {row['bound']:,.1f} of it wrong" if row["bound"] else ""
                lines.append(f"    {state:20} {row['gpu_hours']:>12,.1f} GPU-hours  {row['share'] or 0:6.1%}{bound}")
        lines += [f"      unknown: {hours:,.1f}: {why}" for why, hours in pool["unknown_because"].items()]
        if pool["claimed_beyond_capacity"]:
            lines.append(
                f"    {pool['claimed_beyond_capacity']:,.1f} GPU-hours were claimed beyond the capacity, and not counted"
            )
        if pool["seconds_without_capacity_record"]:
            hours = pool["seconds_without_capacity_record"] / 3600
            lines.append(f"    for {hours:,.1f} hours nobody recorded the capacity: only what jobs held is counted")
    if found["samples_of_no_pool"]:
        lines.append(
            f"{found['samples_of_no_pool']:,} samples are of no pool: import them with --pool, or the jobs and nodes "
            "that they are of."
        )
    lines += ["", "teams, by GPU-hours held"]
    lines += [
        f"  {row['team'] or '(none)':24} {row['gpu_hours']:>12,.1f}  {_states(row['states'])}"
        for row in found["teams"][:_SHOWN]
    ]
    lines += ["", "projects and jobs that held most"]
    lines += [
        f"  {row['project'] or '(none)':24} {row['gpu_hours']:>12,.1f}  of {row['team'] or '(none)'}"
        for row in found["projects"][:_SHOWN]
        if row["project"]
    ]
    lines += [
        f"  {row['job']:24} {row['gpu_hours']:>12,.1f}  {_states(row['states'])}; {row['user'] or row['team']} on {row['pool']}"
        for row in found["jobs"][:_SHOWN]
    ]
    lines += _held_lines(found)
    lines += ["", *(_own_line(one) for one in found["own_runs"])] if found.get("own_runs") else []
    for bill in found["bill"]:
        lines += ["", f"bill: {bill['billed']:,.2f} {bill['currency']}"]
        explained = sum((row["amount"] for row in bill["explained"]), Decimal(0))
        lines.append(f"  {explained:,.2f} of pools' states")
        lines += [f"  {row['amount']:,.2f} {row['what']}" for row in bill["unexplained"]]
    return "\n".join(lines)


def conclusions(found: dict[str, Any]) -> list[str]:
    """What a director wants to know, a sentence each."""
    layers = [pool["layers"] for pool in found["pools"]]
    capacity = sum((one["capacity"] for one in layers), Decimal(0))
    if not capacity:
        return ["nothing was recorded in this window"]
    allocated = sum((one["allocated"] for one in layers), Decimal(0))
    active = sum((one["active"] for one in layers), Decimal(0))
    unknown = sum((pool["states"]["unknown"]["gpu_hours"] for pool in found["pools"]), Decimal(0))
    held = found["held_idle"]
    lines = [f"Of {capacity:,.0f} GPU-hours, {allocated / capacity:.0%} were allocated and {active / capacity:.0%} are known to "
             f"have been active; of {unknown / capacity:.0%} it is not known."]  # fmt: skip
    free = [pool for pool in found["pools"] if pool["states"]["unallocated"]["gpu_hours"]]
    if free:
        hours = sum((pool["states"]["unallocated"]["gpu_hours"] for pool in free), Decimal(0))
        lines.append(f"{hours:,.0f} GPU-hours were allocated to nobody, which cost {_summed(free)}.")
    if held:
        jobs = "1 job" if len(held) == 1 else f"{len(held)} jobs"
        idle = sum((one["idle_gpus"] for one in held), Decimal(0))
        costs: dict[str, Decimal] = {}
        for one in held:
            if one["cost_a_week"] is not None:
                costs[one["currency"]] = costs.get(one["currency"], Decimal(0)) + one["cost_a_week"]
        money = (
            " and ".join(f"{amount:,.0f} {currency}" for currency, amount in sorted(costs.items()))
            or "an unknown amount"
        )
        lines.append(
            f"{idle:,.0f} GPUs are held and idle in {jobs}, which costs {money} a week. Ask {held[0]['contact']} first."
        )
    return lines


def _summed(pools: list[dict[str, Any]]) -> str:
    """What the unallocated hours of pools cost, by currency; unknown where a pool has no price."""
    costs: dict[str, Decimal] = {}
    for pool in pools:
        amount = pool["states"]["unallocated"]["cost"]
        if amount is None:
            return "an unknown amount: a pool has no price in fleet.toml"
        costs[pool["currency"]] = costs.get(pool["currency"], Decimal(0)) + amount
    return " and ".join(f"{amount:,.2f} {currency}" for currency, amount in sorted(costs.items()))


def write_use_page(found: dict[str, Any], path: Path) -> Path:
    """The account as one page. Raises StorageError."""
    page = template("compute.html").render(
        found=found, conclusions=conclusions(found), picture=states_svg(found["pools"]), text=describe_use(found), day=day,
        shown=_SHOWN,
    )  # fmt: skip
    write_whole(path, page.encode())
    return path


def day(seconds: int) -> str:
    """A moment as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _own_line(run: dict[str, Any]) -> str:
    speed = "unknown" if run["tokens_per_second"] is None else f"{run['tokens_per_second']:,.0f}"
    return (
        f"own training {run['model']}: {speed} tokens/s over {run['seconds']:,.0f} s; MFU unknown: {run['mfu_because']}"
    )


def _held_lines(found: dict[str, Any]) -> list[str]:
    if not found["held_idle"]:
        return []
    lines = ["", "held and idle, with whom to ask"]
    for one in found["held_idle"][:_SHOWN]:
        cost = (
            "at an unknown price"
            if one["cost_a_week"] is None
            else f"{one['cost_a_week']:,.2f} {one['currency']} a week"
        )
        lines.append(
            f"  {one['job']} of {one['user'] or one['team']} on {one['pool']}: {one['idle_gpus']} of {one['gpus']} GPUs "
            f"idle ({one['rung']}), running since {day(one['since'])}; {cost}; ask {one['contact'] or 'nobody is named'}"
        )
    left = len(found["held_idle"]) - _SHOWN
    return lines + ([f"  and {left} more: --json has all"] if left > 0 else [])


def _states(states: dict[str, Decimal]) -> str:
    return ", ".join(f"{state} {hours:,.1f}" for state, hours in states.items())


def _cost_line(pool: dict[str, Any]) -> str:
    if pool["cost"] is None:
        return "the price is not known"
    least, most = pool["cost_per_used_hour"]
    line = f"cost {pool['cost']:,.2f} {pool['currency']} by its price"
    if least is None:
        return line
    if most is None:
        return f"{line}, at least {least:,.2f} for a used hour"
    return (
        f"{line}, {least:,.2f} for a used hour"
        if least == most
        else f"{line}, {least:,.2f} to {most:,.2f} for a used hour"
    )
