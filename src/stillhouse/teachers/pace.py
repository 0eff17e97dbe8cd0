"""How many calls at a time, and when the next may start, for one endpoint and model. Decides only: it neither waits nor sends.

The number of calls grows while all goes well and halves where the teacher refuses (AIMD, Chiu and Jain 1989): it doubles per
round trip until the first refusal, then grows by one. A server that queues instead of refusing is known by answers that take
much longer without coming any faster; then the number shrinks to what it can really do at a time. What a provider's headers
say about what is left, and until when to wait, is heeded before it has to refuse.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from stillhouse.clock import utc_now

# Where a teacher's limits are not known: enough to be quick, few enough not to start with a storm of refusals.
_FIRST = 32
# An answer takes so many times as long as at best, and no more come per second: they wait in a queue.
_QUEUED, _GAIN = 3.0, 1.1
_SHRINK = 0.75
# So many windows are remembered; before the best of them is forgotten, where answers take longer than at best, it is
# measured again with half as many calls, as servers change, too.
_REMEMBERED, _MEASURED_ANEW, _LONGER = 50, 40, 1.5
LONGEST_WAIT = 60.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class PaceOptions(NamedTuple):
    """The most calls at a time, and how many requests and tokens a minute at most (0: no such limit)."""

    most: int
    requests_a_minute: int = 0
    tokens_a_minute: int = 0


class Pace:
    """The state of one endpoint. ``clock`` is in seconds and never goes back."""

    def __init__(self, options: PaceOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = options.most, clock
        self.limit = float(min(options.most, _FIRST))
        self.in_flight = 0
        self._starting = True
        self._resume = 0.0
        self._requests = _Bucket(options.requests_a_minute, clock())
        self._tokens = _Bucket(options.tokens_a_minute, clock())
        self._eased = 0.0
        self._window = _Window(clock(), self.limit)
        self._windows = 0
        self._best = _Best()

    def wait(self, tokens: int) -> float:
        """Seconds until a call of about so many tokens may start: 0 is now, infinity once another has ended."""
        if self.in_flight >= int(self.limit):
            return float("inf")
        moment = self._clock()
        return max(0.0, self._resume - moment, self._requests.wait(1, moment), self._tokens.wait(tokens, moment))

    def start(self, tokens: int) -> None:
        """A call starts."""
        moment = self._clock()
        self.in_flight += 1
        self._requests.take(1, moment)
        self._tokens.take(tokens, moment)

    def end(self) -> None:
        """A call is over, whatever came of it."""
        self.in_flight -= 1

    def answered(self, seconds: float, headers: Mapping[str, str]) -> None:
        """An answer came."""
        if self.in_flight >= int(self.limit) - 1:  # what is not used to the full says nothing of more
            self.limit = min(self._most, self.limit + (1.0 if self._starting else 1.0 / max(1.0, self.limit)))
        if headers:
            self._heed(headers)
        self._window.add(seconds)
        if len(self._window.seconds) >= self._window.size:
            self._look()

    def refused(self, retry_after: float, headers: Mapping[str, str]) -> None:
        """The teacher said "too many": once per wave, half as many; and nobody starts before it is time."""
        moment = self._clock()
        if moment >= self._eased:
            self.limit = max(1.0, self.limit / 2)
            self._eased = moment + max(retry_after, 1.0)
        self._starting = False
        self._resume = max(self._resume, moment + min(LONGEST_WAIT, retry_after))
        if headers:
            self._heed(headers)

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Where nothing is left, nothing starts before there is more again."""
        wait = wait_by_headers(headers)
        if wait:
            self._resume = max(self._resume, self._clock() + wait)

    def _look(self) -> None:
        """At the end of a window: do more calls at a time still bring more answers?"""
        moment = self._clock()
        rate, typical = self._window.rate(moment), median(self._window.seconds)
        self._windows += 1
        if typical > _QUEUED * self._best.seconds and rate < _GAIN * self._best.rate and self.limit > self._best.limit:
            self.limit, self._starting = max(self._best.limit, self.limit * _SHRINK), False
        elif self._windows % _MEASURED_ANEW == 0 and typical > _LONGER * self._best.seconds:
            self.limit = max(1.0, self.limit / 2)
        self._best.see(typical, rate, self.limit)
        self._window = _Window(moment, self.limit)


class _Window:
    """The last answers: about one for each call at a time."""

    def __init__(self, since: float, limit: float) -> None:
        self._since, self.size = since, max(16, int(limit))
        self.seconds: list[float] = []

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def rate(self, moment: float) -> float:
        return len(self.seconds) / max(1e-6, moment - self._since)


class _Best:
    """The shortest typical answer, the highest rate, and with how many calls at a time it was reached."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque(maxlen=_REMEMBERED)

    def see(self, seconds: float, rate: float, limit: float) -> None:
        self._seen.append((seconds, rate, limit))

    @property
    def seconds(self) -> float:
        return min((seconds for seconds, _, _ in self._seen), default=float("inf"))

    @property
    def rate(self) -> float:
        return max((rate for _, rate, _ in self._seen), default=0.0)

    @property
    def limit(self) -> float:
        """The least with which nearly the highest rate was reached."""
        return min((limit for _, rate, limit in self._seen if rate * _GAIN >= self.rate), default=1.0)


class _Bucket:
    """A token bucket of one minute's allowance, of which a sixth may be taken at once."""

    def __init__(self, a_minute: int, moment: float) -> None:
        self._rate, self._full = a_minute / 60.0, max(1.0, a_minute / 6.0)
        self._level, self._at = self._full, moment

    def wait(self, amount: float, moment: float) -> float:
        """Seconds until so much may be taken; more than the bucket holds may be taken when it is full."""
        if not self._rate:
            return 0.0
        level = min(self._full, self._level + (moment - self._at) * self._rate)
        wait = (min(amount, self._full) - level) / self._rate
        return wait if wait > 1e-6 else 0.0  # less than a clock can tell

    def take(self, amount: float, moment: float) -> None:
        if self._rate:
            self._level = min(self._full, self._level + (moment - self._at) * self._rate) - amount
            self._at = moment


_LEFT = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)


def wait_by_headers(headers: Mapping[str, str]) -> float:
    """Seconds to wait by the headers of OpenAI's and Anthropic's dialects: 0 while there is something left of everything."""
    waits = [0.0]
    for remaining, reset in _LEFT:
        if headers.get(remaining, "1").strip() in ("0", "0.0"):
            waits.append(_until(headers.get(reset, "")))
    return min(LONGEST_WAIT, max(waits))


def _until(text: str) -> float:
    """``1s``, ``6m0s``, ``20ms``, ``1.5`` or a moment of RFC 3339, as seconds from now; 1 where it says nothing."""
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", text)
    try:
        if parts:
            return sum(float(number) * _UNITS[unit] for number, unit in parts)
        if "T" in text:
            return max(0.0, (datetime.fromisoformat(text) - utc_now()).total_seconds())
        return max(0.0, float(text))
    except (ValueError, TypeError):
        return 1.0


def seconds_of(retry_after: str) -> float:
    """A Retry-After header in seconds (a number, or a date of RFC 9110), within reason; 0 where there is none."""
    try:
        return min(LONGEST_WAIT, max(0.0, float(retry_after)))
    except ValueError:
        pass
    try:
        moment = datetime.strptime(retry_after, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return min(LONGEST_WAIT, max(0.0, (moment - utc_now()).total_seconds()))
