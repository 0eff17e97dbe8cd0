"""The back-test: nobody looks ahead, the maths is the newsvendor's, and too little history promises nothing."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.compute.forecasts import backtest
from stillhouse.compute.forecasts.backtest_report import backtest as report
from stillhouse.compute.forecasts.backtest_report import followed_cells
from stillhouse.compute.forecasts.chosen_policies import choose, frozen_baseline, share_of, worst_day
from stillhouse.compute.forecasts.idle_series import BINS_PER_DAY, IdleSeries, series_of
from stillhouse.compute.forecasts.payoffs import Question, best, lowest_of, payoffs, windows
from stillhouse.compute.forecasts.policies import ZOO
from stillhouse.compute.importers.trace_layouts import read_series
from stillhouse.errors import CorpusUnreadable, UsageError
from stillhouse.home.progress import Silence

LEASE = Question(lease=36, penalty=5, notice=0)


@functools.cache
def outcomes_of(gaps=0):
    return backtest.run(wave(gaps=gaps), LEASE, backtest.split_of(wave()))


def wave(days=24, pool="p", gaps=0, seed=0):
    """A pool that is idle at night, with noise."""
    bins = np.arange(days * BINS_PER_DAY)
    idle = 20 + 12 * np.sin(bins / BINS_PER_DAY * 2 * np.pi) + np.random.default_rng(seed).normal(0, 2, len(bins))
    idle = np.clip(np.floor(idle), 0, 40)
    if gaps:
        idle[np.random.default_rng(1).choice(len(bins), gaps, replace=False)] = np.nan
    return IdleSeries(pool, 1_700_006_400, idle)


def test_a_policy_that_looks_ahead_fails():
    """Whatever it does with what it is given, nothing of the origin or later is in it."""
    series = wave(12)
    split = backtest.split_of(series)
    seen = []

    def peeking(question):
        def offers(past):
            seen.append((past.origin, len(past.idle)))
            with pytest.raises(IndexError):
                past.idle[past.origin]
            assert past.idle.base is None, "no view of what comes later hides behind it"
            with pytest.raises(ValueError, match="read-only"):
                past.idle[0] = 1
            return np.zeros(len(ZOO))

        return offers

    backtest.run(series, LEASE, split, peeking)
    assert seen and all(origin == known for origin, known in seen)


def test_offers_before_a_change_are_the_same_whatever_comes_after():
    """The same by its outcome: another future changes no offer that was made before it."""
    series = wave(14)
    change = 10 * BINS_PER_DAY
    other = series.idle.copy()
    other[change:] = 0
    split = backtest.Split(4 * BINS_PER_DAY, 9 * BINS_PER_DAY)
    one, two = (backtest.run(IdleSeries("p", series.start, idle), LEASE, split) for idle in (series.idle.copy(), other))
    before = one.origins <= change
    assert before.sum() > 100 and (one.offers[before] == two.offers[before]).all()
    assert (one.offers[~before] != two.offers[~before]).any()


@given(
    st.lists(st.integers(0, 50), min_size=36, max_size=36),
    st.sampled_from([1.0, 2.0, 5.0, 20.0]),
)
def test_the_best_offer_is_best(lease, penalty):
    leases = np.array([lease], dtype=float)
    offers, earned = best(leases, penalty)
    every = payoffs(np.arange(0, 52, dtype=float)[None, :], leases, penalty)[0]
    assert earned[0] == pytest.approx(every.max())
    assert payoffs(offers[:, None], leases, penalty)[0, 0] == pytest.approx(every.max())
    assert offers[0] == lowest_of(np.sort(leases[0]), penalty)


def test_nothing_never_loses_and_nothing_earns_more_than_hindsight():
    outcomes = outcomes_of()
    assert (outcomes.of("nothing") == 0).all()
    assert (outcomes.earned <= outcomes.possible[:, None] + 1e-9).all()
    assert share_of(outcomes, "mixture").value > 0.5, "a night is no secret"
    assert worst_day(outcomes, "nothing") == 0


def test_gaps_are_left_out_and_cost_nothing():
    outcomes = outcomes_of(20)
    whole = outcomes_of()
    assert 0 < len(outcomes.origins) < len(whole.origins) and np.isfinite(outcomes.earned).all()


def test_a_series_too_short_promises_nothing():
    outcomes = backtest.run(wave(8), Question(lease=144, penalty=20, notice=0), backtest.split_of(wave(8)))
    policy, why = choose(outcomes)
    assert policy == "mixture" and why.startswith("unknown")
    assert (outcomes.offers[:, ZOO.index("mixture")] == 0).all()
    with pytest.raises(UsageError, match="long enough"):
        report([wave(1)], [Question(lease=1008, penalty=5, notice=0)], None, Silence())


def test_the_test_begins_where_a_file_does():
    series = wave(10)
    assert backtest.split_of(series).test == int(0.6 * len(series))
    series.boundaries = (5 * BINS_PER_DAY, 9 * BINS_PER_DAY)
    assert backtest.split_of(series).test == 5 * BINS_PER_DAY
    assert backtest.split_of(series, series.at(7 * BINS_PER_DAY)).test == 7 * BINS_PER_DAY


def test_no_lease_is_of_both_parts():
    series = wave(8)
    split = backtest.split_of(series)
    outcomes = backtest.run(series, LEASE, split)
    reaches = (outcomes.origins < split.test) & (outcomes.origins + LEASE.ahead > split.test)
    assert not reaches.any()


def test_the_report_has_what_programs_read():
    found = report([wave(8, "a"), wave(8, "b", seed=3)], [LEASE, Question(36, 20, 6)], None, Silence())
    assert {cell["pool"] for cell in found["cells"]} == {"a", "b"}
    assert len(found["cells"]) == 2 * 2 * len(ZOO)
    assert set(found["cells"][0]) == {
        "pool",
        "lease",
        "penalty",
        "notice",
        "policy",
        "value_share",
        "low",
        "high",
        "worst_day",
        "reclaimed_share",
    }
    assert len(followed_cells(found)) == 4
    pooled = found["pooled"]
    assert pooled["difference"] == pytest.approx(pooled["value_share"] - pooled["baseline_value_share"])
    assert set(pooled["baseline"]) == {"6h/5/0h", "6h/20/1h"}


def test_the_baseline_is_chosen_before_the_test():
    outcomes = outcomes_of()
    swapped = outcomes._replace(earned=np.where(outcomes.in_test[:, None], -outcomes.earned, outcomes.earned))
    assert frozen_baseline([outcomes]) == frozen_baseline([swapped])


def test_windows_begin_after_the_notice():
    idle = np.arange(100, dtype=float)
    assert windows(idle, np.array([10]), Question(3, 5, 6))[0].tolist() == [16, 17, 18]


def write(path, text):
    path.write_text(text)
    return path


def test_layouts(tmp_path):
    ours = write(
        tmp_path / "a.csv", "time,idle\n2026-01-01 00:00:00,5\n2026-01-01 00:05:00,3\n2026-01-01 00:10:00,x\n,4\n"
    )
    philly = write(tmp_path / "b.csv", "time,active,total\n2026-01-01 00:00:00,300,420\n")
    helios = write(tmp_path / "c.csv", "time,total_gpu_num,running_gpu_num,idle_gpu_num\n2026-01-01 00:00:00,64,59,5\n")
    files = [file for path in (ours, philly, helios) for file in read_series(path)]
    assert [file.pool for file in files] == ["a", "b", "c"]
    assert [series.idle.tolist() for series in series_of(files)] == [[3], [120], [5]]
    assert files[0].left_out == {"a row without a time": 1, "a row without a number of idle GPUs": 1}
    with pytest.raises(CorpusUnreadable, match="idle"):
        read_series(write(tmp_path / "d.csv", "time,other\n1,2\n"))


def test_files_of_one_pool_continue_a_series(tmp_path):
    (tmp_path / "later").mkdir()
    first = write(tmp_path / "p.csv", "time,idle\n2026-01-01 00:00:00,5\n")
    second = write(tmp_path / "later" / "p.csv", "time,idle\n2026-01-02 00:00:00,7\n")
    (series,) = series_of([*read_series(second), *read_series(first)])
    assert len(series) == BINS_PER_DAY + 1 and series.boundaries == (BINS_PER_DAY,)
    assert np.isnan(series.idle[1:-1]).all(), "what lies between is not known"


def test_what_lost_is_not_offered_again_at_once():
    """A pool that was idle for two weeks and is taken every other day from then on."""
    idle = np.full(30 * BINS_PER_DAY, 32.0)
    for day in range(15, 30, 2):
        idle[day * BINS_PER_DAY : (day + 1) * BINS_PER_DAY] = 0
    question = Question(lease=36, penalty=20, notice=0)
    outcomes = backtest.run(
        IdleSeries("p", 1_700_006_400, idle), question, backtest.Split(4 * BINS_PER_DAY, 18 * BINS_PER_DAY)
    )
    assert outcomes.of("mixture")[outcomes.in_test].sum() > outcomes.of("idle-now")[outcomes.in_test].sum()
    late = outcomes.origins > 22 * BINS_PER_DAY
    assert (outcomes.offers[late, ZOO.index("mixture")] == 0).mean() > 0.9
