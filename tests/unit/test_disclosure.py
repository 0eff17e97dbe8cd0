"""That no row of a lab is later than a day: proofs that hold, and every way in which one could lie."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import UsageError
from stillhouse.passport.disclosure import UNKNOWN_DAY, Leaf, Proof, commit, prove, why_not

LABS, DAYS = ["a", "b", "c", "d"], ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]
LEAVES = st.lists(
    st.builds(Leaf, st.sampled_from(LABS), st.sampled_from([UNKNOWN_DAY, *DAYS]), st.integers(0, 9)),
    max_size=12,
    unique_by=lambda leaf: (leaf.lab, leaf.day),
).map(sorted)


def holds(proof: Proof, leaves: list[Leaf]) -> bool:
    committed = commit(leaves)
    return not why_not(proof, committed["root"], committed["leaves"])


@given(LEAVES, st.sampled_from([*LABS, "e", "0"]), st.sampled_from([*DAYS, "2026-02-15"]))
def test_a_proof_exists_just_where_there_is_no_such_row(leaves, lab, after):
    there = any(leaf.lab == lab and leaf.day > after for leaf in leaves)
    if there:
        with pytest.raises(UsageError, match="cannot be proved"):
            prove(leaves, lab, after)
    else:
        assert holds(prove(leaves, lab, after), leaves)


@given(LEAVES, LEAVES, st.sampled_from(LABS), st.sampled_from(DAYS))
def test_a_proof_of_one_list_is_none_of_another(leaves, others, lab, after):
    """Whoever has such a row cannot prove by another list, nor by a proof that claims this list's root."""
    there = any(leaf.lab == lab and leaf.day > after for leaf in leaves)
    try:
        other = prove(others, lab, after)
    except UsageError:
        return
    forged = msgspec.structs.replace(other, **{k: v for k, v in commit(leaves).items() if k in ("root", "leaves")})
    if there:
        assert not holds(other, leaves)
        assert not holds(forged, leaves)


@given(LEAVES.filter(lambda leaves: len(leaves) > 2), st.data())
def test_leaves_that_are_not_neighbours_prove_nothing(leaves, data):
    """Take a pair of honest leaves with something between them: the gap is found, whatever it holds."""
    first = data.draw(st.integers(0, len(leaves) - 3))
    last = data.draw(st.integers(first + 2, len(leaves) - 1))

    def shown(index):
        leaf = leaves[index]
        free = prove(leaves, "~", "2020-01-01") if index == len(leaves) - 1 else None
        if free is not None and free.left is not None:
            return free.left
        from stillhouse.passport.disclosure import _show

        return _show(leaves, index) if leaf else None

    gap = Proof(
        lab=leaves[first].lab, after="2030-01-01", root=commit(leaves)["root"], leaves=len(leaves), left=shown(first),
        right=shown(last),
    )  # fmt: skip
    assert not holds(gap, leaves)


@given(LEAVES.filter(bool), st.sampled_from(["rows", "day", "lab", "index"]), st.data())
def test_a_leaf_that_was_touched_is_not_in_the_list(leaves, what, data):
    proof = prove(leaves, "~", "2026-01-01")
    assert proof.left is not None
    changed = {"rows": proof.left.rows + 1, "day": "2026-09-09", "lab": "A", "index": proof.left.index + 1}[what]
    touched = msgspec.structs.replace(proof.left, **{what: changed})
    assert not holds(msgspec.structs.replace(proof, left=touched), leaves)
    if proof.left.path:
        step = data.draw(st.integers(0, len(proof.left.path) - 1))
        path = list(proof.left.path)
        path[step] = "00" * 32
        assert not holds(
            msgspec.structs.replace(proof, left=msgspec.structs.replace(proof.left, path=tuple(path))), leaves
        )
        short = msgspec.structs.replace(proof.left, path=proof.left.path[:-1])
        assert not holds(msgspec.structs.replace(proof, left=short), leaves)


def test_an_empty_list_proves_everything_and_a_missing_side_only_at_its_end():
    assert holds(prove([], "a", "2026-01-01"), [])
    leaves = [Leaf("a", "2026-01-01", 1), Leaf("b", "2026-01-01", 1)]
    proof = prove(leaves, "a", "2026-01-01")
    assert holds(proof, leaves)
    assert not holds(msgspec.structs.replace(proof, right=None), leaves)
    assert not holds(msgspec.structs.replace(proof, left=None), leaves)
    assert "another list" in why_not(proof, commit(leaves)["root"], 3)


def test_a_row_of_an_unknown_day_cannot_hide_behind_an_early_one():
    leaves = sorted([Leaf("openai", UNKNOWN_DAY, 1), Leaf("openai", "2024-01-01", 1), Leaf("zed", "2024-01-01", 1)])
    with pytest.raises(UsageError, match="cannot be proved"):
        prove(leaves, "openai", "2024-06-01")


@pytest.mark.parametrize("after", ["31-12-2024", "2025-6-01", "never", "", "2025"])
def test_what_is_no_day_proves_nothing(after):
    leaves = [Leaf("openai", "2025-12-01", 1)]
    with pytest.raises(UsageError, match="no day"):
        prove(leaves, "openai", after)
    good = prove(leaves, "openai", "2025-12-31")
    assert holds(good, leaves)
    assert not holds(msgspec.structs.replace(good, after=after), leaves)
    assert not holds(msgspec.structs.replace(good, lab="OpenAI"), leaves)
    assert prove(leaves, "OpenAI", "2025-12-31").lab == "openai"
