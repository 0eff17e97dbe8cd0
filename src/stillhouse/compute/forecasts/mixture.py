"""An online mixture: policies and parts of them, weighed by what each would have earned in the leases that are over. Pure.

Exponential weights (Hedge: Freund and Schapire, 1997) with forgetting. Payoffs are concave in the offer, so the mean of
offers earns at least the mean of what they earn. It begins with the cautious ones: until there is evidence, a wrong high
offer costs many times what a wrong low one does. As long as its own offers would have lost, it makes none.
"""

import numpy as np

from stillhouse.compute.forecasts.payoffs import Numbers, Question, best, payoffs
from stillhouse.compute.forecasts.policies import CAUTIOUS, ZOO, Past

# Frozen before the first run on the test weeks; chosen on the validation part of ../shared/data/fleet (see RESULTS.md).
_RATE = 20.0
_HALF_LIFE = 700  # hourly origins: about a month
_PRIOR = 120.0  # origins of evidence for earning nothing, so that a few lucky ones do not decide
_HEAD_START = 2.0  # of the cautious ones, in log weight
_PARTS = (0.25, 0.5, 0.75, 1.0)
# What it would have earned itself is remembered for ten days: as long as that is a loss, it offers nothing.
_OWN_HALF_LIFE = 240


class Mixture:
    """The mixture for one pool and question; it keeps what every expert offered until it can be scored."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._open: list[tuple[int, Numbers, float]] = []
        names = [name for name in ZOO if name != "mixture"]
        self._place = {name: place for place, name in enumerate(names)}
        self._sums = np.zeros(0)
        self._weight = self._income = 0.0
        self._scored = 0
        self._own = 0.0

    def offer(self, past: Past, offers: Numbers) -> float:
        """How many GPUs to offer, given what the policies of the zoo offer now."""
        self._score(past)
        experts, head_start = self._experts(offers)
        if len(self._sums) != len(experts):
            self._sums = np.zeros(len(experts))
        weights = np.exp(_RATE * (self._mean() - self._mean().max()) + head_start)
        offered = float(np.floor(weights @ experts / weights.sum()))
        self._open.append((past.origin, experts, offered))
        return offered if self._own >= 0 else 0.0

    def _experts(self, offers: Numbers) -> tuple[Numbers, Numbers]:
        """Nothing, and parts of each policy and of some minima; and the log weight that each begins with."""
        value = {name: float(offers[place]) for name, place in self._place.items()}
        three_and_now = min(value["idle-now"], value["trailing-3d"])
        longest = min(value[CAUTIOUS], value["trailing-7d"])
        careful = [value[CAUTIOUS], three_and_now, longest]
        others = [
            value[name] for name in ("trailing-3d", "trailing-7d", "residual", "boosted", "idle-now", "conformal")
        ]
        experts = np.floor(np.outer([*careful, *others], _PARTS).ravel())
        start = np.repeat([0.0] * len(careful) + [-_HEAD_START] * len(others), len(_PARTS))
        return np.concatenate([[0.0], experts]), np.concatenate([[0.0], start])

    def _mean(self) -> Numbers:
        """What each earned, as a share of what could have been earned."""
        if not self._scored:
            return np.zeros_like(self._sums)
        usual = max(self._income / max(self._weight, 1e-9), 1e-9)
        return self._sums / (self._income + _PRIOR * usual)

    def _score(self, past: Past) -> None:
        question, kept = self._question, 0.5 ** (1 / _HALF_LIFE)
        while self._open and self._open[0][0] + question.ahead <= past.origin:
            origin, experts, offered = self._open.pop(0)
            lease = past.idle[origin + question.notice : origin + question.ahead]
            self._sums, self._weight, self._income = self._sums * kept, self._weight * kept, self._income * kept
            self._own *= 0.5 ** (1 / _OWN_HALF_LIFE)
            if np.isfinite(lease).all():
                earned = payoffs(np.append(experts, offered)[None, :], lease[None, :], question.penalty)[0]
                self._sums, self._own = self._sums + earned[:-1], self._own + float(earned[-1])
                self._income += float(best(lease[None, :], question.penalty)[1][0])
                self._weight += 1
                self._scored += 1
