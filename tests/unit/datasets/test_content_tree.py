"""What stands for the rows of a dataset: the same in any order, however much is held in memory; another for other rows."""

import random

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.datasets import content_tree
from stillhouse.datasets.content_tree import ContentTree


def digests(numbers):
    # Digests that end in zero bytes, too: arrays of text would cut them off.
    return [blake3(str(number).encode()).digest()[: 32 - number % 3].ljust(32, b"\0") for number in numbers]


def root(rows):
    tree = ContentTree()
    for row in rows:
        tree.add(row)
    return tree.root()


@given(st.lists(st.integers(0, 10_000), max_size=300), st.integers(1, 50), st.sampled_from([0, 5, 1000]), st.randoms())
def test_it_is_the_same_in_any_order_and_any_memory(numbers, held, few, chance):
    rows = digests(numbers)
    whole = root(rows)
    chance.shuffle(rows)
    before = content_tree._AT_ONCE, content_tree._FEW
    content_tree._AT_ONCE, content_tree._FEW = held, few
    try:
        assert root(rows) == whole
    finally:
        content_tree._AT_ONCE, content_tree._FEW = before


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.data())
def test_other_rows_have_another(numbers, data):
    rows = digests(numbers)
    whole = root(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    changed = bytearray(rows[at])
    changed[data.draw(st.integers(0, 31))] ^= 1
    others = [[*rows[:at], bytes(changed), *rows[at + 1 :]], rows[:at] + rows[at + 1 :], [*rows, rows[at]]]
    assert whole not in {root(other) for other in others}


def test_it_names_its_scheme():
    assert root(digests(range(5))).startswith("blake3-tree:") and root([]) != root(digests([1]))
    assert root(random.Random(1).sample(digests(range(100)), 100)) == root(digests(range(100)))
