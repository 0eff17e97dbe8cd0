"""What an offer earns: the newsvendor's payoff over a lease. Pure.

An offer of q GPUs over a lease earns its price for every GPU-hour that is promised, and loses ``penalty`` prices for every
GPU-hour that must be taken back, because fewer than q are idle. Prices are 1. The best offer is the 1/penalty quantile of what is
idle in the lease, pooled: Arrow, Harris, Marschak (1951).
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stillhouse.compute.forecasts.idle_series import BINS_PER_HOUR

Numbers = NDArray[np.float64]


class Question(NamedTuple):
    """For how long GPUs are offered, what taking one back costs (in prices), how long before the lease the offer is fixed.

    Lease and notice are in bins.
    """

    lease: int
    penalty: float
    notice: int

    @property
    def ahead(self) -> int:
        """How many bins after the offer the lease ends."""
        return self.notice + self.lease

    @property
    def name(self) -> str:
        """Such as 6h/5/1h: lease, penalty, notice."""
        return f"{self.lease / BINS_PER_HOUR:g}h/{self.penalty:g}/{self.notice / BINS_PER_HOUR:g}h"


def windows(idle: Numbers, origins: NDArray[np.int64], question: Question) -> Numbers:
    """What was idle in the lease that begins ``notice`` after each origin: one row for each origin."""
    return sliding_window_view(idle, question.lease)[origins + question.notice]


def lowest_of(values: Numbers, penalty: float) -> float:
    """The 1/penalty quantile of sorted values, never between two of them; 0 where there are none."""
    count = len(values)
    return float(values[min(count, max(1, -int(-count // penalty))) - 1]) if count else 0.0


def payoffs(offers: Numbers, leases: Numbers, penalty: float) -> Numbers:
    """GPU-hours of income at price 1, less penalties, for each offer: shapes (n, k) and (n, lease) give (n, k)."""
    taken = np.maximum(offers[:, :, None] - leases[:, None, :], 0).sum(axis=2)
    return np.asarray((offers * leases.shape[1] - penalty * taken) / BINS_PER_HOUR)


def reclaimed(offers: Numbers, leases: Numbers) -> Numbers:
    """GPU-hours that had to be taken back from each offer: shapes (n,) and (n, lease) give (n,)."""
    return np.asarray(np.maximum(offers[:, None] - leases, 0).sum(axis=1) / BINS_PER_HOUR)


def best(leases: Numbers, penalty: float) -> tuple[Numbers, Numbers]:
    """The best offer for each lease in hindsight, and what it earns."""
    count = leases.shape[1]
    place = min(count, max(1, -int(-count // penalty))) - 1
    offers = np.partition(leases, place, axis=1)[:, place]
    return offers, payoffs(offers[:, None], leases, penalty)[:, 0]
