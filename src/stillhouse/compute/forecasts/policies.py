"""How many GPUs to offer: a small zoo of policies, each simple enough to explain to whoever owns the GPUs. Pure.

No single one wins on every pool, so all are back-tested and one is chosen for each pool. ``offers`` sees what was idle before its
origin, and nothing else; the harness passes a copy that ends there.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillhouse.compute.forecasts.idle_series import BINS_PER_DAY, BINS_PER_HOUR
from stillhouse.compute.forecasts.payoffs import Numbers, Question, lowest_of

_WEEK = 7 * BINS_PER_DAY
# Residuals and boosting learn from the last four weeks: older ones say more about another fleet than about this one.
_LEARNED = 4 * _WEEK
# Every half hour of them: neighbours say the same.
_STRIDE = BINS_PER_HOUR // 2
# Boosting is refitted weekly; the rest daily. It changes little, and takes most of the time.
_REFIT_BOOSTED = _WEEK
_SEED = 0
# A penalty of 1 loses nothing: the whole of what is idle, less what the model needs to be one.
_HIGHEST = 0.99

SINGLE = (
    "nothing",
    "static",
    "idle-now",
    "trailing-1d",
    "trailing-3d",
    "trailing-7d",
    "last-week",
    "residual",
    "boosted",
)
MEAN, CAUTIOUS, CONFORMAL, MIXTURE = "mean", "cautious", "conformal", "mixture"
ZOO = (*SINGLE, MEAN, CONFORMAL, CAUTIOUS, MIXTURE)


class Past(NamedTuple):
    """What was idle before the origin, and the origin's own bin counted from the first reading."""

    idle: Numbers
    first_weekday_bin: int

    @property
    def origin(self) -> int:
        """The bin of the origin, which is the first that is not known."""
        return len(self.idle)


class Zoo:
    """Every policy but the mixture, for one pool and question. ``fit`` is called daily at most, ``offers`` at each origin."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._residuals: Numbers = np.empty(0)
        self._static: float | None = None
        self._boosted: Any = None
        self._boosted_at = 0
        self._conformal = _AdaptiveLevel(question)

    def fit(self, past: Past) -> None:
        """Learn from what is known at an origin."""
        if self._static is None:
            self._static = lowest_of(_known(past.idle), self.question.penalty)
        self._residuals = _residuals(past.idle, self.question)
        if self._boosted is None or past.origin - self._boosted_at >= _REFIT_BOOSTED:
            self._boosted, self._boosted_at = _boosted(past, self.question), past.origin

    def offers(self, past: Past) -> Numbers:
        """How many GPUs each policy offers at an origin, in the order of ZOO without the mixture."""
        question, idle = self.question, past.idle
        now = _last(idle)
        trailing = [lowest_of(_known(idle[-days * BINS_PER_DAY :]), question.penalty) for days in (1, 3, 7)]
        start = past.origin + question.notice - _WEEK
        week = _known(idle[max(start, 0) : start + question.lease]) if start + question.lease > 0 else np.empty(0)
        last_week = lowest_of(week, question.penalty) if len(week) else trailing[2]
        residual = now + lowest_of(self._residuals, question.penalty) if len(self._residuals) else 0.0
        boosted = self._predicted(past)
        conformal = self._conformal.offer(past, now, self._residuals)
        all_of = [0.0, self._static or 0.0, now, *trailing, last_week, residual, boosted,
                  (trailing[2] + residual + boosted) / 3, conformal, min(residual, trailing[1])]  # fmt: skip
        most = float(np.nanmax(idle)) if np.isfinite(idle).any() else 0.0
        return np.asarray(np.floor(np.clip(np.array(all_of), 0.0, most)))

    def _predicted(self, past: Past) -> float:
        if self._boosted is None:
            return 0.0
        return float(self._boosted.predict(_features(past.idle, np.array([past.origin]), past.first_weekday_bin))[0])


class _AdaptiveLevel:
    """Residual quantiles at a level that moves against its own errors. Gibbs and Candès, 2021 (arXiv 2106.00170)."""

    # A hundredth of the error an hour: it forgets a bad day within a week.
    _RATE = 0.01

    def __init__(self, question: Question) -> None:
        self._question = question
        self._level = 1 / question.penalty
        self._open: list[tuple[int, float]] = []

    def offer(self, past: Past, now: float, residuals: Numbers) -> float:
        question = self._question
        while self._open and self._open[0][0] + question.ahead <= past.origin:
            origin, offered = self._open.pop(0)
            lease = past.idle[origin + question.notice : origin + question.ahead]
            if np.isfinite(lease).all():
                missed = float((lease < offered).mean())
                self._level = min(max(self._level + self._RATE * (1 / question.penalty - missed), 0.0), 0.5)
        if not len(residuals):
            return 0.0
        place = min(int(self._level * len(residuals)), len(residuals) - 1)
        offered = float(np.floor(max(now + residuals[place], 0.0)))
        self._open.append((past.origin, offered))
        return offered


def _known(values: Numbers) -> Numbers:
    return np.sort(values[np.isfinite(values)])


def _last(idle: Numbers) -> float:
    """What was idle last; 0 where the last hour was not recorded: who does not know offers nothing."""
    recent = idle[-BINS_PER_HOUR:]
    recent = recent[np.isfinite(recent)]
    return float(recent[-1]) if len(recent) else 0.0


def _residuals(idle: Numbers, question: Question) -> Numbers:
    """By how much what is idle changed from an origin to the bins of its lease, sorted."""
    starts = np.arange(max(1, len(idle) - _LEARNED), len(idle) - question.ahead + 1, _STRIDE)
    if not len(starts):
        return np.empty(0)
    leases = starts[:, None] + question.notice + np.arange(0, question.lease, _STRIDE)
    found = (idle[leases] - idle[starts - 1][:, None]).ravel()
    return _known(found)


def _features(idle: Numbers, origins: NDArray[np.int64], first_weekday_bin: int) -> Numbers:
    """The last level, means and minima of the last hours and day, the hour and the weekday."""
    filled = np.where(np.isfinite(idle), idle, 0.0)
    sums = np.concatenate([[0.0], np.cumsum(filled)])
    columns = [filled[origins - 1]]
    columns += [
        (sums[origins] - sums[np.maximum(origins - span, 0)]) / span
        for span in (BINS_PER_HOUR, 6 * BINS_PER_HOUR, BINS_PER_DAY)
    ]
    columns += [
        np.array([filled[max(origin - span, 0) : origin].min() for origin in origins])
        for span in (6 * BINS_PER_HOUR, BINS_PER_DAY)
    ]
    columns.append((origins + first_weekday_bin) % BINS_PER_DAY / BINS_PER_HOUR)
    columns.append((origins + first_weekday_bin) // BINS_PER_DAY % 7)
    return np.stack(columns, axis=1)


def _boosted(past: Past, question: Question) -> Any:
    """Gradient-boosted quantiles of what is idle within a lease; None where there is too little to learn from."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    idle = past.idle
    origins = np.arange(max(BINS_PER_DAY, len(idle) - _LEARNED), len(idle) - question.ahead + 1, BINS_PER_HOUR)
    if len(origins) < 10 * BINS_PER_DAY // BINS_PER_HOUR // 5:  # two days
        return None
    chosen = np.random.default_rng(_SEED).integers(0, question.lease, (len(origins), 4)) + question.notice
    wanted = idle[origins[:, None] + chosen].ravel()
    features = np.repeat(_features(idle, origins, past.first_weekday_bin), 4, axis=0)
    known = np.isfinite(wanted)
    if known.sum() < 100:
        return None
    model = HistGradientBoostingRegressor(
        loss="quantile", quantile=min(1 / question.penalty, _HIGHEST), max_iter=60, max_leaf_nodes=8, min_samples_leaf=40,
        random_state=_SEED,
    )  # fmt: skip
    return model.fit(features[known], wanted[known])
