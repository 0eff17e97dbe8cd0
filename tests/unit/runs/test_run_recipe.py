"""What runs decide by themselves."""

from stillhouse.runs.run_recipe import spread


def test_spread_takes_from_everywhere():
    assert spread(list(range(10)), 0) == tuple(range(10))
    assert spread(list(range(10)), 3) == (0, 3, 6)
    assert spread([1], 5) == (1,)
