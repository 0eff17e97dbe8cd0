"""What each policy would have earned on a pool's own past: every hour an offer, each from what was known at that hour alone.

The harness gives a policy a copy of the series that ends at the origin, so no later reading can be looked at. The part before the
test chooses; the test measures. Overlapping leases are not independent: every interval is of whole days or blocks of days, never
of origins.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillhouse.compute.forecasts.idle_series import BINS_PER_DAY, BINS_PER_HOUR, STEP, IdleSeries
from stillhouse.compute.forecasts.mixture import Mixture
from stillhouse.compute.forecasts.payoffs import Numbers, Question, best, payoffs, reclaimed, windows
from stillhouse.compute.forecasts.policies import ZOO, Past, Zoo

# Fewer independent leases than this say nothing about the next one.
FEWEST_BLOCKS = 10
# The first offers are made after a third of what comes before the test, and three days at least.
_LEAST_HISTORY = 3 * BINS_PER_DAY
# Where the test begins, if the files do not say: this share of the series is before it.
_BEFORE_TEST = 0.6
_BOUNDARY_BETWEEN = (0.4, 0.8)
# 1970-01-01 was a Thursday.
_FIRST_WEEKDAY = 3
HOUR_ORIGINS = BINS_PER_HOUR


class Split(NamedTuple):
    """From which bin on offers are made, and from which on they are the test."""

    first: int
    test: int


class Outcomes(NamedTuple):
    """What came of every offer for one pool and question: rows are origins, columns the policies of ZOO."""

    pool: str
    question: Question
    origins: NDArray[np.int64]
    days: NDArray[np.int64]
    in_test: NDArray[np.bool_]
    offers: Numbers
    earned: Numbers
    taken_back: Numbers
    possible: Numbers
    independent: int  # leases before the test that do not overlap
    latest: Numbers  # what each policy offers at the end of the series

    def of(self, policy: str) -> Numbers:
        """What a policy earned at each origin."""
        return self.earned[:, ZOO.index(policy)]


def split_of(series: IdleSeries, test_from: int | None = None) -> Split:
    """Where the test begins: as said, else where a file begins nearest to three fifths of the series, else there."""
    count = len(series)
    near = [one for one in series.boundaries if _BOUNDARY_BETWEEN[0] <= one / count <= _BOUNDARY_BETWEEN[1]]
    test = int(count * _BEFORE_TEST)
    if near:
        test = min(near, key=lambda one: abs(one / count - _BEFORE_TEST))
    if test_from is not None:
        test = min(max((test_from - series.start) // STEP, 0), count)
    return Split(min(max(test // 3, _LEAST_HISTORY), test), test)


def pasts(series: IdleSeries, first: int, last: int) -> Iterator[Past]:
    """What is known at each hour from a bin on: a copy of what came before it, so that nothing later can be reached."""
    weekday = series.start // STEP + _FIRST_WEEKDAY * BINS_PER_DAY
    for origin in range(first, last + 1, HOUR_ORIGINS):
        known = series.idle[:origin].copy()
        known.setflags(write=False)
        yield Past(known, int(weekday % (7 * BINS_PER_DAY)))


Offering = Callable[[Question], Callable[[Past], Numbers]]


def zoo_and_mixture(question: Question) -> Callable[[Past], Numbers]:
    """The whole zoo: refitted once a day, then asked at every origin."""
    zoo, mixture = Zoo(question), Mixture(question)
    fitted = -BINS_PER_DAY

    def offers(past: Past) -> Numbers:
        nonlocal fitted
        # Nothing was recorded for a week: nothing is offered, and nothing is computed.
        if not np.isfinite(past.idle[-7 * BINS_PER_DAY :]).any():
            return np.zeros(len(ZOO))
        if past.origin - fitted >= BINS_PER_DAY:
            zoo.fit(past)
            fitted = past.origin
        single = zoo.offers(past)
        # Somebody who has seen too few leases promises nothing; what is learned meanwhile counts from then on.
        enough = past.origin // question.ahead >= blocks_needed(question)
        mixed = mixture.offer(past, single)
        return np.append(single, mixed if enough else 0.0)

    return offers


def blocks_needed(question: Question) -> int:
    """How many independent leases must have been seen before anything can be promised.

    A loss of ``penalty`` prices is worth risking where it happens to one in ``penalty``: so many must have been seen to say so.
    """
    return max(FEWEST_BLOCKS, round(question.penalty) - 1)


def run(series: IdleSeries, question: Question, split: Split, offering: Offering = zoo_and_mixture) -> Outcomes:
    """Offer at every hour, and see what came of it. Leases with a bin that was not recorded are left out."""
    last = len(series) - question.ahead
    offers = offering(question)
    # The last origins, whose leases reach beyond what is known, are the ones that count today.
    first = split.first + (len(series) - split.first) % HOUR_ORIGINS
    made = [offers(past) for past in pasts(series, first, len(series))]
    origins = np.arange(first, last + 1, HOUR_ORIGINS)
    all_offers = np.array(made[: len(origins)]).reshape(len(origins), len(ZOO))
    leases = windows(series.idle, origins, question) if len(origins) else np.empty((0, question.lease))
    known = np.isfinite(leases).all(axis=1)
    # A lease that reaches into the test belongs to neither part.
    known &= (origins + question.ahead <= split.test) | (origins >= split.test)
    origins, all_offers, leases = origins[known], all_offers[known], leases[known]
    taken = np.stack([reclaimed(all_offers[:, k], leases) for k in range(len(ZOO))], axis=1)
    return Outcomes(
        pool=series.pool,
        question=question,
        origins=origins,
        days=series.days_of(origins),
        in_test=origins >= split.test,
        offers=all_offers,
        earned=payoffs(all_offers, leases, question.penalty),
        taken_back=taken,
        possible=best(leases, question.penalty)[1] if len(leases) else np.empty(0),
        latest=made[-1] if made else np.zeros(len(ZOO)),
        independent=int(np.isfinite(series.idle[: split.test]).sum()) // question.ahead,
    )
