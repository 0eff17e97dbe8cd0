"""Which nights and weekends are free: what surely enough stood idle at each time of the week, over the last four weeks. Pure."""

import numpy as np

from stillhouse.compute.forecasts.idle_series import BINS_PER_DAY, BINS_PER_HOUR, STEP, IdleSeries
from stillhouse.compute.forecasts.payoffs import lowest_of

_LEARNED = 28 * BINS_PER_DAY
# 1970-01-01 was a Thursday.
_FIRST_WEEKDAY = 3
_DAY_BEGINS, _DAY_ENDS = 8, 20  # hours in UTC
TIMES = ("weekdays by day", "weekdays by night", "weekends")


def free_hours(series: IdleSeries, penalty: float) -> dict[str, int | None]:
    """GPUs that were idle but for one in ``penalty`` of the readings, by time of the week in UTC; None where nothing was read."""
    first = max(0, len(series) - _LEARNED)
    bins = series.start // STEP + np.arange(first, len(series))
    weekend = (bins // BINS_PER_DAY + _FIRST_WEEKDAY) % 7 >= 5
    hour = bins % BINS_PER_DAY // BINS_PER_HOUR
    by_day = (hour >= _DAY_BEGINS) & (hour < _DAY_ENDS)
    found: dict[str, int | None] = {}
    for name, which in zip(TIMES, (~weekend & by_day, ~weekend & ~by_day, weekend), strict=True):
        idle = series.idle[first:][which]
        known = np.sort(idle[np.isfinite(idle)])
        found[name] = int(lowest_of(known, penalty)) if len(known) else None
    return found
