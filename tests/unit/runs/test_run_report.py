"""What reports compute."""

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.runs.run_report import wilson


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_holds_the_share(passed, more):
    low, high = wilson(passed, passed + more)
    assert 0 <= low <= passed / (passed + more) <= high <= 1
