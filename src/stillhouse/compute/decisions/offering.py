"""How many GPUs of a pool to offer now, for how long and at which notice, and what that is worth. Advice; nothing is offered.
Pure.

The order is fixed: own preemptible work first, then firm leases, then interruptible ones in what is left. A price that was
not entered is not invented: without it, only numbers of GPUs come out.
"""

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from stillhouse.compute.decisions.job_replay import Work, replay
from stillhouse.compute.forecasts.backtest import Split, blocks_needed, run, split_of
from stillhouse.compute.forecasts.chosen_policies import choose
from stillhouse.compute.forecasts.idle_series import BINS_PER_HOUR, STEP, IdleSeries
from stillhouse.compute.forecasts.payoffs import Question
from stillhouse.compute.forecasts.policies import ZOO

_CENT = Decimal("0.01")
FIRM_HOURS = (6, 24, 72, 168)
_WORST = 0.05

# Before anybody from outside is let in; nothing of it is done by this program.
CHECKLIST = (
    "nodes of their own: no other tenant, and none of your jobs, on the same machine",
    "a network of their own, without a route to yours; no shared storage, no shared secrets",
    "before and after: wipe disks and GPU memory, compare firmware with what was there",
    "who the tenant is (KYC), and whether export control and sanctions lists allow it",
    "logs of who had which node when; whom they call at night; what happens if a node is not given back",
    "a reclaim drill within the last month, whose time is below the notice",
)


class Terms(NamedTuple):
    """What is entered, each apart: prices are money for a GPU-hour, None is not known.

    Taking a GPU-hour back costs the refund of its price, what the agreement says on top (``sla``), and what the delay of own
    work costs (``own_delay``). ``interruptible`` is the price of what can be taken back at notice. ``fee`` is the market's
    share.
    """

    price: Decimal
    sla: Decimal
    own_delay: Decimal
    fee: Decimal = Decimal(0)
    interruptible: Decimal | None = None
    currency: str = "USD"

    @property
    def net(self) -> Decimal:
        """What a GPU-hour that is sold earns."""
        return self.price * (1 - self.fee)

    @property
    def penalty(self) -> float:
        """What taking back a GPU-hour costs, in prices: what was paid is refunded, and the rest comes on top."""
        return float((self.price + self.sla + self.own_delay) / self.net) if self.net else float("inf")


class Backfill(NamedTuple):
    """Own preemptible work that could use idle GPUs: how many at once, and what a GPU-hour of it is worth."""

    name: str
    gpus: int
    worth: Decimal


def offer(
    series: IdleSeries, terms: Terms, notice_hours: float, capacity: int, floor: int, backfill: list[Backfill],
    own_cost: Decimal | None, work: Work | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What to do with what stands idle in one pool now. ``floor`` are GPUs that are not lent: floors, and what is lent already.

    ``work`` are the jobs of its past, where they are known: by them it is said how much longer own jobs would have waited.
    """
    room = max(capacity - floor, 0)
    latest = series.idle[np.isfinite(series.idle)]
    now = int(min(latest[-1], room)) if len(latest) else 0
    own = sorted(
        (one for one in backfill if one.worth >= (terms.interruptible or terms.net)), key=lambda one: -one.worth
    )
    taken, left = [], now
    for one in own:
        gpus = min(one.gpus, left)
        left -= gpus
        if gpus:
            taken.append({"name": one.name, "gpus": gpus, "worth": one.worth})
    firm = [_firm(series, hours, notice_hours, terms, min(left, room), own_cost) for hours in FIRM_HOURS]
    worth = (one for one in firm if one["gpus"] and one["value_an_hour"] > 0)
    best = max(worth, key=lambda one: one["value_an_hour"], default=None)
    return {
        "pool": series.pool,
        "as_of": series.at(len(series)),
        "idle_now": now,
        "floor": floor,
        "backfill": taken,
        "firm": firm,
        "advice": best
        and {
            "gpus": best["gpus"],
            "hours": best["hours"],
            "from": best["from"],
            "to": best["to"],
            "why": "it earns most an hour, after what it is expected to lose",
            "at_this_price": _at_this_price(best["break_even_fill"]),
        },
        "own_jobs": _own_jobs(work, capacity, best["gpus"] if best else 0),
        "interruptible": _interruptible(series, terms, left - (best["gpus"] if best else 0)),
        "would_change_it": _sensitivity(series, terms, notice_hours, best["hours"] if best else 24, left),
        "ends": "a lease ends by default, without anybody's doing",
        "outside_tenants_need": list(CHECKLIST),
    }


def _own_jobs(work: Work | None, capacity: int, gpus: int) -> dict[str, Any]:
    """How much longer own jobs of the past would have waited with so many GPUs fewer, for ever: more than a lease that ends
    costs.
    """
    if work is None or not len(work.arrived) or not gpus:
        return {"added_wait": "unknown: no jobs of this pool were imported" if gpus else "none: nothing is lent"}
    fits = work.gpus <= capacity - gpus
    before, after = (replay(work, size).waits(work)[fits] for size in (capacity, capacity - gpus))
    hours = (int(work.arrived.max()) - int(work.arrived.min())) / 3600
    waited = float(((after - before) * work.gpus[fits]).sum() / 3600)
    return {
        "added_wait_hours_a_job": round(float((after - before).mean() / 3600), 3) if fits.any() else 0.0,
        "added_wait_gpu_hours_per_leased": round(waited / (gpus * hours), 4) if hours else None,
        "jobs_that_would_not_fit": int((~fits).sum()),
    }


def idle_ahead(series: IdleSeries, question: Question) -> dict[str, Any]:
    """How many GPUs of a pool can be promised from now on, by which policy, and why."""
    latest = series.idle[np.isfinite(series.idle)]
    value: dict[str, Any] = {
        "pool": series.pool,
        "as_of": series.at(len(series)),
        "idle_now": int(latest[-1]) if len(latest) else 0,
    }
    seen, needed = int(np.isfinite(series.idle).sum()) // question.ahead, blocks_needed(question)
    if seen < needed:
        return value | {
            "gpus": 0,
            "policy": "nothing",
            "why": f"unknown: {seen} independent leases, and {needed} are needed",
        }
    policy, why, gpus, (mean, worst) = _now(series, question)
    return value | {"gpus": gpus, "policy": policy, "why": why, "loss_per_hour_before": round(mean, 4),
                    "worst_twentieth": round(worst, 4)}  # fmt: skip


def _firm(
    series: IdleSeries, hours: int, notice_hours: float, terms: Terms, most: int, own_cost: Decimal | None
) -> dict[str, Any]:
    """A firm lease of some hours: the chosen policy's number, its income if it is sold, and how bad it can get."""
    question = _question(hours, notice_hours, terms.penalty)
    start = series.at(len(series)) + question.notice * STEP
    value: dict[str, Any] = {"hours": hours, "notice_hours": notice_hours, "penalty": round(question.penalty, 2),
                             "from": start, "to": start + hours * 3600, "gpus": 0, "value_an_hour": Decimal(0)}  # fmt: skip
    seen, needed = int(np.isfinite(series.idle).sum()) // question.ahead, blocks_needed(question)
    if seen < needed:
        return value | {"why": f"unknown: {seen} independent leases of {hours} h were seen, and {needed} are needed"}
    policy, why, gpus, losses = _now(series, question)
    gpus = min(gpus, most)
    income = (terms.net * gpus * hours).quantize(_CENT)
    # What a lease of one GPU lost at worst, scaled: the mean of the worst twentieth of what was offered before.
    worst = Decimal(str(round(losses[1], 4))) * terms.net * gpus * hours
    expected = Decimal(str(round(losses[0], 4))) * terms.net * gpus * hours
    return value | {
        "gpus": gpus,
        "policy": policy,
        "why": why,
        "income_if_sold": income,
        "expected_loss": expected.quantize(_CENT),
        "worst_case_5_percent": (income - worst).quantize(_CENT),
        "value_an_hour": ((income - expected) / hours).quantize(_CENT),
        "break_even_fill": _break_even(own_cost, gpus, hours, income - expected),
    }


def _at_this_price(fill: float | None) -> str:
    """What a price means beside the pool's own cost."""
    if fill is None:
        return "whether it pays for the GPUs is unknown: the pool has no price in fleet.toml"
    if fill > 1:
        return "sold out, it earns less than these GPU-hours cost; they are paid for whether they are used or not"
    return f"it pays for these GPU-hours where {fill:.0%} of such offers are sold"


def _break_even(own_cost: Decimal | None, gpus: int, hours: int, gain: Decimal) -> float | None:
    """Which share of such offers must be sold to pay what these GPU-hours cost; None where their cost is not known."""
    if own_cost is None or not gpus or gain <= 0:
        return None
    return round(float(own_cost * gpus * hours / gain), 4)


def _now(series: IdleSeries, question: Question) -> tuple[str, str, int, tuple[float, float]]:
    """The chosen policy, why, what it offers now, and what a promised GPU-hour lost before: on average, and in the worst
    twentieth.
    """
    split = Split(split_of(series).first, len(series))
    outcomes = run(series, question, split)
    policy, why = choose(outcomes)
    column = ZOO.index(policy)
    last = outcomes.latest
    promised = outcomes.offers[:, column] * question.lease / BINS_PER_HOUR
    made = promised > 0
    lost = outcomes.taken_back[made, column] * question.penalty / promised[made]
    if not len(lost):
        return policy, why, int(last[column]), (0.0, 0.0)
    worst = np.sort(lost)[-max(1, round(len(lost) * _WORST)) :]
    return policy, why, int(last[column]), (float(lost.mean()), float(worst.mean()))


def _interruptible(series: IdleSeries, terms: Terms, left: int) -> dict[str, Any]:
    """What is left, lent until the owner wants it back. At risk is the hour of notice alone."""
    if left <= 0:
        return {"gpus": 0, "why": "nothing is left"}
    if terms.interruptible is None:
        return {"gpus": left, "why": "no price for interruptible GPUs was entered", "income_an_hour_if_sold": None}
    income = (terms.interruptible * (1 - terms.fee) * left).quantize(_CENT)
    return {"gpus": left, "why": "given back on request", "income_an_hour_if_sold": income}


def _sensitivity(series: IdleSeries, terms: Terms, notice_hours: float, hours: int, most: int) -> list[dict[str, Any]]:
    """What the number would be if taking back cost half or twice as much."""
    found = []
    for words, factor in (("taking back costs half", 0.5), ("taking back costs twice as much", 2.0)):
        question = _question(hours, notice_hours, max(terms.penalty * factor, 1.0))
        enough = int(np.isfinite(series.idle).sum()) // question.ahead >= blocks_needed(question)
        found.append({"if": words, "hours": hours, "gpus": min(_now(series, question)[2], most) if enough else 0})
    return found


def _question(hours: float, notice_hours: float, penalty: float) -> Question:
    return Question(round(hours * BINS_PER_HOUR), penalty, round(notice_hours * BINS_PER_HOUR))
