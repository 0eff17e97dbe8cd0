"""What a database can hold: rows that need no cleaning are told from those that do, and cleaning them would change nothing."""

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.home.ledger.clean import clean, fits, may_be_odd
from stillhouse.home.ledger.projection import tables

TEXTS = st.sampled_from(["", "a", "é" * 300, "☃" * 900, "a" * 2000, "x" * 9000, "\U0001f600" * 700])
NUMBERS = st.sampled_from([0, -1, 2**31, 2**53, 2**53 + 1, -(2**63), 2**63, 2**80])
REALS = st.sampled_from([0.0, -1.5, 1e308, float("inf"), float("-inf"), float("nan")])


@given(st.data(), st.sampled_from([tables.answers, tables.stamp_sets, tables.verdicts, tables.calls, tables.unviewed]))
def test_what_fits_is_as_it_was(data, table):
    kinds = {"String": TEXTS, "Text": TEXTS, "Float": REALS}
    values = tuple(data.draw(kinds.get(type(column.type).__name__, NUMBERS)) for column in table.columns)
    if fits(table, values):
        assert clean(table, values) == values
    else:
        assert fits(table, clean(table, values)) or clean(table, clean(table, values)) == clean(table, values)


def test_entries_with_what_no_database_holds_are_told_by_their_bytes():
    assert (
        may_be_odd(b'{"text":"a\\u0000b"}')
        and may_be_odd(b'{"text":"\\ud800"}')
        and not may_be_odd('{"t":"é"}'.encode())
    )
