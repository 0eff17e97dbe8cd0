"""The pace: grows while all goes well, halves when refused, and finds the knee of a server that queues."""

import heapq
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.teachers.pace import Pace, PaceOptions, seconds_of, wait_by_headers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(pace, clock, calls, serve, tokens=100):
    """Run calls against ``serve(moment, in_flight) -> (seconds, refused)``; returns when each started."""
    out: list[tuple[float, int, bool, float]] = []
    starts, left, number = [], calls, 0
    while left or out:
        wait = pace.wait(tokens) if left else float("inf")
        if wait == 0:
            seconds, refused = serve(clock.now, pace.in_flight + 1)
            pace.start(tokens)
            starts.append(clock.now)
            number += 1
            left -= 1
            heapq.heappush(out, (clock.now + seconds, number, refused, seconds))
            continue
        if out and out[0][0] <= clock.now + wait:
            clock.now, _, refused, seconds = heapq.heappop(out)
            pace.end()
            if refused:
                pace.refused(0.0, {})
                left += 1
            else:
                pace.answered(seconds, {})
        else:
            clock.now += wait
    return starts


def test_it_grows_to_what_is_allowed_and_no_further():
    clock = Clock()
    pace = Pace(PaceOptions(200), clock)
    simulate(pace, clock, 3000, lambda moment, busy: (0.2, False))
    assert int(pace.limit) == 200


def test_it_is_halved_once_per_wave_of_refusals_and_recovers():
    clock = Clock()
    pace = Pace(PaceOptions(256), clock)
    simulate(pace, clock, 5000, lambda moment, busy: (0.2, busy > 60))
    assert 20 <= pace.limit <= 64, "it hovers below what the server takes"
    for _ in range(10):
        pace.start(1)
        pace.end()
        pace.refused(0.0, {})
    assert pace.limit >= 10, "ten refusals at one moment are one"


def test_a_server_that_queues_is_not_given_more_than_it_can_do():
    """It does 20 at a time, each 0.5 s; whatever is more waits in its queue."""
    clock, free = Clock(), [0.0] * 20

    def queueing(moment, busy):
        at = max(moment, heapq.heappop(free))
        heapq.heappush(free, at + 0.5)
        return at + 0.5 - moment, False

    pace = Pace(PaceOptions(512), clock)
    starts = simulate(pace, clock, 6000, queueing)
    assert pace.limit < 130, "not five hundred in its queue"
    assert 6000 / (clock.now - starts[0]) > 0.95 * 40, "and it is never idle"


def test_a_long_tail_is_no_queue():
    clock, number = Clock(), 0

    def tailed(moment, busy):
        nonlocal number
        number += 1
        return (2.0 if number % 50 == 0 else 0.2), False

    pace = Pace(PaceOptions(50), clock)
    starts = simulate(pace, clock, 10_000, tailed)
    assert 10_000 / (clock.now - starts[0]) >= 0.95 * 50 / (0.98 * 0.2 + 0.02 * 2)


@pytest.mark.parametrize(("options", "calls"), [(PaceOptions(64, 600, 0), 600), (PaceOptions(64, 0, 60_000), 600)])
def test_limits_a_minute_are_kept(options, calls):
    """600 calls, or calls of 100 tokens against 60,000: both last a minute, but for what may be taken at once."""
    clock = Clock()
    starts = simulate(Pace(options, clock), clock, calls, lambda moment, busy: (0.01, False))
    assert 45 <= starts[-1] - starts[0] <= 61
    for first in starts:
        assert sum(first <= start < first + 60 for start in starts) <= 701, (
            "no minute has more than the limit and a burst"
        )


def test_retry_after_stops_everybody():
    clock = Clock()
    pace = Pace(PaceOptions(10), clock)
    pace.refused(5.0, {})
    assert pace.wait(1) == pytest.approx(5.0)
    clock.now += 5
    assert pace.wait(1) == 0


def test_headers_that_say_nothing_is_left_are_heeded():
    clock = Clock()
    pace = Pace(PaceOptions(10), clock)
    pace.answered(0.1, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1.5s"})
    assert pace.wait(1) == pytest.approx(1.5)


def test_the_forms_of_resets():
    def wait(left, reset, name="x-ratelimit-{}-tokens"):
        return wait_by_headers({name.format("remaining"): left, name.format("reset"): reset})

    assert wait("0", "6m0s") == 60, "longer waits are asked for again"
    assert wait("0", "20ms") == pytest.approx(0.02)
    assert wait("0", "1m2.5s") == 60
    assert wait("0", "3.5") == 3.5
    assert wait("0", "nonsense") == 1.0
    assert wait("7", "6m0s") == 0
    soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat().replace("+00:00", "Z")
    headers = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": soon}
    assert 8 < wait_by_headers(headers) <= 10
    assert wait_by_headers({}) == 0


@given(st.text(max_size=40))
def test_any_retry_after_gives_a_sane_wait(text):
    assert 0 <= seconds_of(text) <= 60
    assert 0 <= wait_by_headers({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": text}) <= 60


def test_a_retry_after_may_be_a_date():
    later = datetime.now(UTC) + timedelta(seconds=20)
    assert 15 < seconds_of(later.strftime("%a, %d %b %Y %H:%M:%S GMT")) <= 20
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (seconds_of("nan"), seconds_of("inf"), seconds_of("-3")) == (0, 60, 0)


@given(st.lists(st.sampled_from("sard"), max_size=200), st.integers(1, 50))
def test_the_limit_stays_between_one_and_the_most(steps, most):
    clock = Clock()
    pace = Pace(PaceOptions(most), clock)
    for step in steps:
        if step == "s" and pace.wait(1) == 0:
            pace.start(1)
        elif step in "ar" and pace.in_flight:
            pace.end()
            pace.answered(0.1, {}) if step == "a" else pace.refused(0.5, {})
        clock.now += 0.3 if step == "d" else 0.0
        assert 1 <= pace.limit <= most
        assert 0 <= pace.in_flight <= most
