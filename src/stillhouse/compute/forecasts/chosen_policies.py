"""Which policy to follow on each pool, what all of them together would have earned, and how sure that is. Pure.

The baseline is the best single policy of each question, chosen over all pools before the test and frozen. The claim is the paired
difference to it in the test, with an interval from resampled blocks of four days: a block has all its pools together, as what
happens to one happens to its neighbours.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillhouse.compute.forecasts.backtest import FEWEST_BLOCKS, Outcomes, blocks_needed
from stillhouse.compute.forecasts.idle_series import BINS_PER_HOUR
from stillhouse.compute.forecasts.payoffs import Numbers
from stillhouse.compute.forecasts.policies import MIXTURE, SINGLE, ZOO

BLOCK_DAYS = 4
_DRAWS = 2000
_SEED = 0
_LOW, _HIGH = 0.05, 0.95  # a 90 % interval
# From fewer blocks no interval can be drawn that means anything.
_FEWEST_FOR_AN_INTERVAL = 3


class Share(NamedTuple):
    """A share of what could have been earned, and its 90 % interval; None where it cannot be said."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "unknown"
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.0%} to {self.high:+.0%})"
        return f"{self.value:.0%}{interval}"


def choose(outcomes: Outcomes) -> tuple[str, str]:
    """The policy to follow, by what each earned before the test, and why.

    The mixture, unless ten independent blocks of days show that another one is better beyond chance. Until enough leases were
    seen, it offers nothing.
    """
    needed, before, days = blocks_needed(outcomes.question), ~outcomes.in_test, outcomes.days[~outcomes.in_test]
    chosen = MIXTURE, f"weighs {len(ZOO) - 1} policies by what each earned on this pool"
    if outcomes.independent < needed:
        seen = f"{outcomes.independent} independent leases were seen, of {needed} that are needed"
        chosen = MIXTURE, f"unknown: {seen}; it offers nothing until then"
    if len(np.unique(days // BLOCK_DAYS)) < FEWEST_BLOCKS:
        return chosen
    edge = 0.0
    for policy in ZOO:
        gain = outcomes.of(policy)[before] - outcomes.of(MIXTURE)[before]
        sure = float(np.quantile(_resampled(_by_block(gain[:, None], days))[:, 0], _LOW)) > 0
        if sure and gain.sum() > edge:
            edge = float(gain.sum())
            chosen = (
                policy,
                f"earned more than the mixture before the test, in 95 % of resampled blocks of {BLOCK_DAYS} days",
            )
    return chosen


def share_of(outcomes: Outcomes, policy: str) -> Share:
    """What a policy earned in the test, as a share of the best in hindsight."""
    test = outcomes.in_test
    both = np.stack([outcomes.of(policy)[test], outcomes.possible[test]], axis=1)
    return _ratio(_by_block(both, outcomes.days[test]))


def worst_day(outcomes: Outcomes, policy: str) -> float:
    """What the offers of a policy's worst day of the test earned, in GPU-hours at price 1."""
    test = outcomes.in_test
    if not test.any():
        return 0.0
    days = outcomes.days[test]
    return float(np.bincount(days - days.min(), weights=outcomes.of(policy)[test]).min())


def reclaimed_share(outcomes: Outcomes, policy: str) -> float:
    """Of the GPU-hours that a policy promised in the test, how many had to be taken back."""
    column, test = ZOO.index(policy), outcomes.in_test
    promised = outcomes.offers[test, column].sum() * outcomes.question.lease / BINS_PER_HOUR
    return float(outcomes.taken_back[test, column].sum() / promised) if promised else 0.0


def frozen_baseline(all_of: list[Outcomes]) -> str:
    """The single policy that earned most before the test, over the pools of one question."""
    totals = np.sum([outcomes.earned[~outcomes.in_test].sum(axis=0) for outcomes in all_of], axis=0)
    return max(SINGLE, key=lambda policy: float(totals[ZOO.index(policy)]))


def pooled(by_question: dict[str, list[Outcomes]], chosen: dict[tuple[str, str], str]) -> dict[str, Any]:
    """All pools together: the mean over the questions of the share that was earned, beside the frozen baselines."""
    questions, blocks = [], set[int]()
    names: dict[str, str] = {}
    for question, all_of in by_question.items():
        baseline = names[question] = frozen_baseline(all_of)
        sums: dict[int, Numbers] = {}
        for outcomes in all_of:
            test = outcomes.in_test
            columns = [outcomes.of(chosen[outcomes.pool, question]), outcomes.of(baseline), outcomes.possible]
            found = _by_block_named(np.stack(columns, axis=1)[test], outcomes.days[test])
            for block, values in found.items():
                sums[block] = sums.get(block, np.zeros(3)) + values
        questions.append(sums)
        blocks |= set(sums)
    listed = sorted(blocks)
    table = np.array([[sums.get(block, np.zeros(3)) for block in listed] for sums in questions])  # question, block, 3
    ours, theirs = _macro(table.sum(axis=1)[None])
    value: dict[str, Any] = {"policy": "chosen", "value_share": ours[0], "baseline": names,
                             "baseline_value_share": theirs[0], "blocks": len(listed), "block_days": BLOCK_DAYS}  # fmt: skip
    difference = None if ours[0] is None or theirs[0] is None else ours[0] - theirs[0]
    value["difference"] = difference
    intervals = dict.fromkeys(("low", "high", "difference_low", "difference_high"))
    if len(listed) >= _FEWEST_FOR_AN_INTERVAL and difference is not None:
        drawn = np.random.default_rng(_SEED).integers(0, len(listed), (_DRAWS, len(listed)))
        mine, base = _macro(table[:, drawn].sum(axis=2).transpose(1, 0, 2))
        pairs = [(a, b) for a, b in zip(mine, base, strict=True) if a is not None and b is not None]
        own = np.array([a for a, _ in pairs])
        gain = np.array([a - b for a, b in pairs])
        intervals = {
            "low": float(np.quantile(own, _LOW)), "high": float(np.quantile(own, _HIGH)),
            "difference_low": float(np.quantile(gain, _LOW)), "difference_high": float(np.quantile(gain, _HIGH)),
        }  # fmt: skip
    by_cell = {
        question: {"value_share": _share(sums[0], sums[2]), "baseline_value_share": _share(sums[1], sums[2])}
        for question, sums in zip(by_question, table.sum(axis=1), strict=True)
    }
    return {**value, **intervals, "cells": by_cell}


def _macro(sums: Numbers) -> tuple[list[float | None], list[float | None]]:
    """The mean over questions of both shares, for each draw: shape (draws, questions, 3)."""
    mine, base = [], []
    for draw in sums:
        known = draw[draw[:, 2] > 0]
        mine.append(float((known[:, 0] / known[:, 2]).mean()) if len(known) else None)
        base.append(float((known[:, 1] / known[:, 2]).mean()) if len(known) else None)
    return mine, base


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def _by_block_named(values: Numbers, days: NDArray[np.int64]) -> dict[int, Numbers]:
    found: dict[int, Numbers] = {}
    for block in np.unique(days // BLOCK_DAYS):
        found[int(block)] = values[days // BLOCK_DAYS == block].sum(axis=0)
    return found


def _by_block(values: Numbers, days: NDArray[np.int64]) -> Numbers:
    found = _by_block_named(values, days)
    return np.array(list(found.values())) if found else np.empty((0, values.shape[1]))


def _resampled(sums: Numbers) -> Numbers:
    drawn = np.random.default_rng(_SEED).integers(0, len(sums), (_DRAWS, len(sums)))
    return np.asarray(sums[drawn].sum(axis=1))


def _ratio(sums: Numbers) -> Share:
    total = sums.sum(axis=0) if len(sums) else np.zeros(2)
    if total[1] <= 0:
        return Share(None, None, None)
    value = float(total[0] / total[1])
    if len(sums) < _FEWEST_FOR_AN_INTERVAL:
        return Share(value, None, None)
    drawn = _resampled(sums)
    drawn = drawn[drawn[:, 1] > 0]
    shares = drawn[:, 0] / drawn[:, 1]
    return Share(value, float(np.quantile(shares, _LOW)), float(np.quantile(shares, _HIGH)))
