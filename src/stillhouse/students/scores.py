"""Scores with intervals: pass@k, and the paired difference of two models on the same tasks. Pure."""

import random
from collections.abc import Mapping, Sequence
from math import comb
from typing import NamedTuple

from stillhouse.nouns import Estimate

# Enough that the ends of a 95 % interval move by less than a percent between seeds; a second for 500 tasks.
RESAMPLES = 2000
_SEED = 20210707  # of the paper below; any would do, but it must not change between two looks at the same answers


class Counted(NamedTuple):
    """One task's answers: how many, and how many of them passed."""

    family: str
    answers: int
    passed: int


def pass_at_k(answers: int, passed: int, k: int) -> float:
    """The chance that at least one of ``k`` answers passes: the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).

    Raises ValueError where there are fewer than ``k`` answers.
    """
    if not 1 <= k <= answers:
        raise ValueError(f"pass@{k} needs at least {k} answers to a task, and there are {answers}")
    return 1.0 - comb(answers - passed, k) / comb(answers, k)


def score(tasks: Mapping[str, Counted], k: int) -> Estimate:
    """Mean pass@k over tasks, with an interval that resamples families and then tasks within them."""
    values = {name: pass_at_k(task.answers, task.passed, k) for name, task in tasks.items()}
    return mean(values, {name: task.family for name, task in tasks.items()}, SHARE)


def paired_difference(before: Mapping[str, Counted], after: Mapping[str, Counted], k: int) -> Estimate:
    """Mean of the differences in pass@k (after minus before) over the tasks that both were asked.

    The interval resamples families and tasks, and takes both scores of a task together. Raises ValueError where no task is
    shared.
    """
    shared = {name: task for name, task in before.items() if name in after}
    if not shared:
        raise ValueError("the two have no task in common")
    values = {
        name: pass_at_k(after[name].answers, after[name].passed, k) - pass_at_k(task.answers, task.passed, k)
        for name, task in shared.items()
    }
    return mean(values, {name: task.family for name, task in shared.items()}, DIFFERENCE)


# Between which ends a value of a task can lie.
SHARE, DIFFERENCE, UNBOUNDED = (0.0, 1.0), (-1.0, 1.0), None


def mean(values: Mapping[str, float], families: Mapping[str, str], bounds: tuple[float, float] | None) -> Estimate:
    """The mean of any value over tasks, with an interval that resamples families and then tasks within them.

    What no task showed can still be: with ``n`` tasks, a share of up to ``1 - 0.025 ** (1 / n)`` of all tasks may be of a kind
    that is not among them (exactly binomial: Clopper and Pearson 1934 at the ends). Where values have ``bounds``, the interval
    reaches as far as that share, at its worst, would move the mean; so a handful of tasks that agree proves nothing.
    """
    by_family: dict[str, list[float]] = {}
    for name in sorted(values):
        by_family.setdefault(families[name], []).append(values[name])
    middle = sum(values.values()) / len(values)
    found = _bootstrap(list(by_family.values()), middle)
    if bounds is None:
        return found
    unseen = 1 - 0.025 ** (1 / len(values))
    low, high = ((1 - unseen) * middle + unseen * end for end in bounds)
    return Estimate(middle, min(found.low, low), max(found.high, high))


def affordable(tasks: int, answers: int) -> tuple[int, int]:
    """How many tasks, and samples of each, so many answers are best spent on.

    All tasks before more samples, since tasks differ more than answers to one do; but at least a few of each, for pass@k.
    """
    few, many = 4, 16
    if answers < few * tasks:
        return max(1, answers // few), max(1, min(few, answers))
    return tasks, min(many, answers // tasks)


def _bootstrap(families: Sequence[Sequence[float]], middle: float) -> Estimate:
    """Percentile interval of the mean over tasks, resampled in two stages; the same answers always give the same one."""
    generator = random.Random(_SEED)  # noqa: S311 - statistics, no secret
    means = []
    for _ in range(RESAMPLES):
        drawn = [
            value
            for family in generator.choices(families, k=len(families))
            for value in generator.choices(family, k=len(family))
        ]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return Estimate(middle, min(middle, means[int(0.025 * RESAMPLES)]), max(middle, means[int(0.975 * RESAMPLES) - 1]))
