"""The story of GPUs that stand idle: who holds them, who inside could use them, where a clean retrain fits, what may be
leased.

The cluster is made up (``made_up_cluster``); everything else is real: the importers, the account, the forecast chosen on four
weeks, the refusal of a tenant, the signed lease, and a reclaim drill on a simulated cluster.
"""

import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from stillhouse.approvals import propose
from stillhouse.clock import utc_now
from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.clusters.simulated import SimulatedCluster, Tenant
from stillhouse.compute.decisions.internal_first import internal_first
from stillhouse.compute.decisions.offering import Backfill, Terms, offer
from stillhouse.compute.decisions.placing import place
from stillhouse.compute.forecasts.idle_series import IdleSeries, series_of
from stillhouse.compute.importers.trace_layouts import SeriesFile
from stillhouse.compute.imports import Hints, Kind, read
from stillhouse.compute.lent_gpus import plan_lease
from stillhouse.compute.levels import all_levels
from stillhouse.compute.pictures import idle_svg, states_svg
from stillhouse.compute.readings import Readings, together
from stillhouse.compute.reclaim_drill import drill
from stillhouse.compute.use import use_report
from stillhouse.errors import PolicyRefusal
from stillhouse.home.fleet import Fleet, Pool, Team
from stillhouse.home.open_home import Home, create_home, open_home
from stillhouse.home.progress import Progress, Silence
from stillhouse.home.settings import read_settings
from stillhouse.nouns import Lease
from stillhouse.runs.report.compute_page import conclusions, day, describe_use
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.stories import Told
from stillhouse.runs.stories.made_up_cluster import DAY, LARGE, SMALL, STALLED_JOB, Cluster, made_up

_FLEET = Fleet(
    pools={
        "h100": Pool(gpus=LARGE, gpu_type="H100", owner="infrastructure", contact="infra@example.com", price="2.10", floor=8,
                     outside=True, teams=("pretrain", "vision", "nlp")),
        "a100": Pool(gpus=SMALL, gpu_type="A100", owner="agents", contact="ana@example.com", price="1.30"),
    },
    teams={"pretrain": Team(contact="petra@example.com")},
)  # fmt: skip
# What is entered, not found: a rental price, what the agreement adds for a GPU-hour taken back, what delay costs.
_TERMS = Terms(Decimal("2.40"), Decimal("4.80"), Decimal("4.80"), fee=Decimal("0.10"), interruptible=Decimal("0.95"))
_RETRAIN_GPUS, _RETRAIN_GPU_HOURS = 8, 480.0
_PROMISED = 15 * 60


def tell(home: Home, progress: Progress, retrain: tuple[str, float] | None = None) -> Told:
    """Play the story in a home. ``retrain`` names a clean retrain and its GPU-hours. Raises what its commands raise."""
    progress.start("GPUs stand idle", 0)
    cluster = made_up(int(utc_now().timestamp()) // DAY * DAY)
    with tempfile.TemporaryDirectory(prefix="stillhouse-story-") as scratch:
        readings = _read(cluster, Path(scratch))
    window = Window(cluster.end - 7 * DAY, cluster.end)
    used = use_report(readings, _FLEET, window, [])
    levels = all_levels(readings, _FLEET)
    waited = internal_first(levels.filter(pl.col("time").is_between(window.start, window.end, closed="left")))
    series = series_of([SeriesFile("h100", levels.filter(pl.col("pool") == "h100"), {})])[0]
    name, hours = retrain or ("a clean retrain", _RETRAIN_GPU_HOURS)
    placed = place(series, _RETRAIN_GPUS, hours, cluster.end + 7 * DAY)
    progress.say("choosing how much to offer, on four weeks of its own past")
    advised = offer(series, _TERMS, 1.0, LARGE, _FLEET.pools["h100"].floor, [Backfill("collection", 8, Decimal("1.20"))],
                    _FLEET.pools["h100"].cost)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="stillhouse-story-") as scratch:
        refused, lent = _lend(advised, Path(scratch))
    tenants = [Tenant(f"tenant-{number}", 8, 10 * 60, 3600) for number in range(4)]
    drilled = drill(SimulatedCluster(LARGE, tenants, wipe=4 * 60), 48, _PROMISED, 3600)
    steps = (
        _step_use(used),
        _step_inside(waited),
        _step_placed(name, hours, placed),
        _step_offered(advised),
        StoryStep("A tenant, and the way back", "An outsider needs the fleet's word and a second person's.",
                  (refused, lent, f"reclaim drill, simulated: 48 GPUs were back after {drilled['seconds']:.0f} s; "
                   f"{_PROMISED} s were promised: {'kept' if drilled['kept'] else 'NOT kept'}")),
    )  # fmt: skip
    story = Story(
        title="GPUs stand idle",
        made=home.today,
        made_up="The cluster is made up, and so are its prices: four weeks of two pools.",
        conclusion=_conclusion(used, waited, name, hours, placed, advised, drilled),
        steps=steps,
        edges=(),
        touched=(),
        pictures=(states_svg(used["pools"]), _idle_picture(series, advised)),
    )
    page = write_story(story, home.reports / "story-idle")
    progress.finish(str(page))
    best = advised["advice"]
    value = {
        "story": "idle",
        "report": str(page),
        "held_idle": [{"job": one["job"], "gpus": str(one["idle_gpus"]), "ask": one["contact"], "a_week": str(one["cost_a_week"])}
                      for one in used["held_idle"]],
        "waited_gpu_hours": waited["waited_gpu_hours"],
        "others_had_room": waited["others_had_room"],
        "retrain": {"name": name, "gpu_hours": hours, "probability_in_a_week": placed["probability"]},
        "offer": best and best | {"from": day(best["from"]), "to": day(best["to"])},
        "drill_seconds": drilled["seconds"],
        "drill_kept": drilled["kept"],
    }  # fmt: skip
    return Told(page, value, story)


def _read(cluster: Cluster, scratch: Path) -> Readings:
    (scratch / "sacct.txt").write_text(cluster.sacct)
    (scratch / "samples.csv").write_text(cluster.samples)
    jobs = read(scratch / "sacct.txt", Kind.SACCT, Hints())
    return together([jobs, read(scratch / "samples.csv", Kind.TABLE, Hints())])


def _lend(advised: dict[str, Any], scratch: Path) -> tuple[str, str]:
    """Let somebody in, in a home of their own that is made for it: refused while the fleet forbids outsiders, then signed."""
    best = advised["advice"] or {"gpus": 8, "hours": 6}
    end = utc_now() + timedelta(hours=best["hours"])
    lease = Lease(
        pool="h100", gpus=best["gpus"], tenant="a startup", outside=True, start=_text(utc_now()), end=_text(end), notice=60,
        price=str(_TERMS.price), currency="USD", reason="nights that nobody uses",
    )  # fmt: skip
    settings = read_settings(scratch / "home", {})
    create_home(settings)
    with open_home(settings, Silence()) as home:
        settings.fleet.write_text(f"[pools.h100]\ngpus = {LARGE}\n")
        try:
            plan_lease(home, lease)
            said = "NOT refused, although the fleet lets nobody from outside in"
        except PolicyRefusal as refusal:
            said = f"as long as fleet.toml does not say `outside = true`, it is refused: {refusal.detail}"
        settings.fleet.write_text(f"[pools.h100]\ngpus = {LARGE}\noutside = true\n")
        done = propose(home, plan_lease(home, lease)).done
    lent = "were lent under a signature" if done else "wait for a second person"
    ends = day(int(end.timestamp()))
    return said, f"then {best['gpus']} GPUs for {best['hours']} h {lent}; it ends by itself at {ends}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _step_use(used: dict[str, Any]) -> StoryStep:
    lines = [line for line in describe_use(used).splitlines()[1:] if line.strip()]
    return StoryStep(
        "What the GPUs did last week", "Every GPU-second in one state, from sacct and samples.", tuple(lines)
    )


def _step_inside(waited: dict[str, Any]) -> StoryStep:
    return StoryStep(
        "Inside first",
        "Who waited while another pool had GPUs to spare. It removes waiting; the same work would have run earlier.",
        (
            f"jobs waited {waited['waited_gpu_hours']:,.0f} GPU-hours",
            f"another pool could have taken at most {waited['others_had_room']:,.0f} of them, "
            f"{waited['others_had_whole_blocks'] or 0:,.0f} in whole blocks of 8",
        ),
    )


def _step_placed(name: str, hours: float, placed: dict[str, Any]) -> StoryStep:
    probability = "unknown" if placed["probability"] is None else f"{placed['probability']:.0%}"
    done = day(placed["nine_in_ten_by"]) if placed.get("nine_in_ten_by") else "later than the forecast reaches"
    cost = (Decimal(str(hours)) * (_FLEET.pools["h100"].cost or Decimal(0))).quantize(Decimal("0.01"))
    return StoryStep(
        "Where the clean retrain fits",
        f"{name}: {hours:,.2f} GPU-hours on {placed['gpus']} GPUs at once, preemptible, in hours that nobody uses.",
        (
            f"done within a week with probability {probability}, over {placed['scenarios']} scenarios from its own past",
            f"in nine of ten scenarios by {done}",
            f"it would cost {cost:,.2f} USD at the pool's price, and takes nobody's hours",
        ),
    )


def _step_offered(advised: dict[str, Any]) -> StoryStep:
    lines = [f"own work first: {one['gpus']} GPUs for {one['name']}" for one in advised["backfill"]]
    for firm in advised["firm"]:
        if not firm["gpus"]:
            lines.append(f"{firm['hours']} h: offer nothing ({firm.get('why', 'too little is left')})")
            continue
        lines.append(
            f"{firm['hours']} h: {firm['gpus']} GPUs, {firm['income_if_sold']:,.2f} USD if sold, "
            f"{firm['expected_loss']:,.2f} expected "
            f"to be lost again, {firm['worst_case_5_percent']:,.2f} in the worst twentieth"
        )
    lines.append(f"the rest, {advised['interruptible']['gpus']} GPUs, only to who gives them back on request")
    lines += [f"if {one['if']}: {one['gpus']} GPUs" for one in advised["would_change_it"]]
    return StoryStep(
        "What may be leased",
        f"Taking a GPU-hour back costs {_TERMS.penalty:.1f} prices; {advised['ends']}.",
        tuple(lines),
    )


def _conclusion(
    used: dict[str, Any], waited: dict[str, Any], name: str, hours: float, placed: dict[str, Any], advised: dict[str, Any],
    drilled: dict[str, Any],
) -> tuple[str, ...]:  # fmt: skip
    best = advised["advice"]
    held = next(one for one in used["held_idle"] if one["job"] == STALLED_JOB)
    probability = (
        "an unknown probability" if placed["probability"] is None else f"probability {placed['probability']:.0%}"
    )
    leased = (
        f"Then {best['gpus']} GPUs can be offered for {best['hours']} h at a time, an hour ahead; the rest interruptibly."
        if best
        else "Nothing can be promised to tenants."
    )
    return (
        conclusions(used)[0],
        f"Job {held['job']} of {held['team']} holds {held['idle_gpus']} GPUs and uses none, "
        f"{held['cost_a_week']:,.0f} {held['currency']} a week: "
        f"ask {held['contact']}.",
        f"Inside, jobs waited {waited['waited_gpu_hours']:,.0f} GPU-hours; "
        f"lending across pools removes up to {waited['others_had_room']:,.0f}.",
        f"{name} ({hours:,.2f} GPU-hours) fits into hours that nobody used, done within a week with {probability}.",
        f"{leased} GPUs came back in {drilled['seconds'] / 60:.0f} minutes of the {_PROMISED // 60} promised.",
    )


def _idle_picture(series: IdleSeries, advised: dict[str, Any]) -> str:
    """The last ten days, and what is offered from now on."""
    count = min(len(series), 10 * 144)
    first = len(series) - count
    history = pl.DataFrame(
        {"time": [series.at(first + place) * 1000 for place in range(count)], "idle": series.idle[first:]}
    ).fill_nan(None)
    best = advised["advice"]
    offers = [{"start": best["from"] * 1000, "end": best["to"] * 1000, "gpus": best["gpus"]}] if best else []
    return idle_svg(history, offers)
