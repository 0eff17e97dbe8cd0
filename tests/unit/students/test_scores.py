"""pass@k and the paired difference: against brute force, and against simulations whose truth is known."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.students.scores import Counted, affordable, paired_difference, pass_at_k, score


@given(st.integers(1, 8), st.data())
def test_pass_at_k_equals_counting(answers, data):
    passed, k = data.draw(st.integers(0, answers)), data.draw(st.integers(1, answers))
    draws = list(itertools.combinations([True] * passed + [False] * (answers - passed), k))
    assert pass_at_k(answers, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_too_few_answers_are_said_so():
    with pytest.raises(ValueError, match="needs at least 5 answers"):
        pass_at_k(4, 2, 5)


def simulated(seed: int, shift: float, families: int = 12, tasks: int = 10, answers: int = 8):
    luck = random.Random(seed)
    before, after = {}, {}
    for family in range(families):
        level = luck.uniform(0.1, 0.6)
        for task in range(tasks):
            rate = min(0.95, max(0.02, luck.gauss(level, 0.15)))
            for table, chance in ((before, rate), (after, min(1.0, rate + shift))):
                passed = sum(luck.random() < chance for _ in range(answers))
                table[f"{family}/{task}"] = Counted(str(family), answers, passed)
    return before, after


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not():
    found = [paired_difference(*simulated(seed, 0.15), 1) for seed in range(8)]
    assert sum(one.low > 0 for one in found) >= 7
    nothing = [paired_difference(*simulated(seed, 0.0), 1) for seed in range(12)]
    assert sum(one.low <= 0 <= one.high for one in nothing) >= 9


def test_the_interval_is_wider_than_one_that_ignores_families():
    """Tasks of a family resemble each other: taking them for independent would promise too much."""
    tasks = {f"{f}/{t}": Counted(str(f), 4, 4 if f < 3 else 0) for f in range(6) for t in range(20)}
    alone = {name: task._replace(family=name) for name, task in tasks.items()}
    wide, narrow = score(tasks, 1), score(alone, 1)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_all_or_none():
    none = score({str(n): Counted("f", 4, 0) for n in range(20)}, 1)
    every = score({str(n): Counted("f", 4, 4) for n in range(20)}, 1)
    assert (none.mean, none.low, round(none.high, 4)) == (0.0, 0.0, 0.1684)  # Clopper-Pearson for 0 of 20
    assert (every.mean, round(every.low, 4), every.high) == (1.0, 0.8316, 1.0)


@given(
    st.dictionaries(
        st.text(max_size=3), st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.data()), min_size=1, max_size=5
    )
)
def test_an_estimate_holds_its_mean_and_is_repeatable(tasks):
    counted = {name: Counted(f, n, data.draw(st.integers(0, n))) for name, (f, n, data) in tasks.items()}
    found = score(counted, 1)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert score(counted, 1) == found
    same = paired_difference(counted, counted, 1)
    assert same.mean == 0
    assert same.low == -same.high < 0, "that they never differed on a few tasks does not say that they are equal"


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_a_handful_of_tasks_that_agree_proves_nothing(tasks):
    before = {str(n): Counted("f", 4, 0) for n in range(tasks)}
    after = {str(n): Counted("f", 4, 1) for n in range(tasks)}
    found = paired_difference(before, after, 1)
    assert found.mean == 0.25
    assert found.low < 0 < found.high
    alone = score(after, 1)
    assert alone.low < 0.25 < alone.high


def test_nothing_in_common():
    with pytest.raises(ValueError, match="no task in common"):
        paired_difference({"a": Counted("f", 1, 1)}, {"b": Counted("f", 1, 1)}, 1)


@pytest.mark.parametrize(
    ("tasks", "answers", "expected"),
    [
        (99, 10_000, (99, 16)),
        (99, 800, (99, 8)),
        (99, 396, (99, 4)),
        (99, 60, (15, 4)),
        (99, 3, (1, 3)),
        (99, 1, (1, 1)),
    ],
)
def test_answers_go_to_tasks_before_samples(tasks, answers, expected):
    assert affordable(tasks, answers) == expected
    assert expected[0] * expected[1] <= max(answers, 1)
