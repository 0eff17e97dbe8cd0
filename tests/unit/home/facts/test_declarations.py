"""A fact is declared once, on its own class: what it lacks is found when it is declared."""

import pytest
from sqlalchemy import MetaData

from stillhouse import approvals
from stillhouse.errors import HomeNewer
from stillhouse.home import facts
from stillhouse.home.facts.declarations import Always, Table
from stillhouse.home.ledger import projection
from stillhouse.permission import acts


def test_a_fact_that_declares_no_tables_is_none():
    with pytest.raises(TypeError, match="does not say which tables"):

        class Silent(facts.Fact, frozen=True, tag="silent"):
            word: str


@pytest.fixture
def declare():
    """Declare a fact with a table, beside those that were declared so before."""
    metadata = MetaData()

    def declared(*tables, **fields):
        kind = type(
            "Declared", (facts.Fact,), {"__annotations__": fields, "tables": tables}, frozen=True, tag="declared"
        )
        return [projection._filled(kind, table, metadata) for table in kind.tables]

    return declared


@pytest.mark.parametrize(
    ("table", "fields"),
    [
        (Table("t"), {"writer": str}),  # which would hide where the entry is from
        (Table("t", columns={"x": "word", "y": "nothing.there"}), {"word": str}),
        (Table("t", flat=("word",)), {"word": facts.BatchedCall, "key": str}),
    ],
)
def test_columns_that_cannot_be(declare, table, fields):
    with pytest.raises(TypeError):
        declare(table, **fields)


def test_facts_that_share_a_table_agree_on_it(declare):
    declare(Table("t", columns={"how": Always("in")}), word=str)
    declare(Table("t", columns={"how": Always("out")}), word=str)
    with pytest.raises(TypeError, match="other columns"):
        declare(Table("t"), word=str)


def test_rows():
    fact = facts.Asked(at="now", by="me", run="r", teacher="t", keys=("a", "b"), worst_case_usd="1", lease="l")
    rows = projection.rows_of(fact)
    shared = {"run": "r", "teacher": "t", "worst_case_usd": "1", "lease": "l"}
    names = [[column.name for column in row.table.columns] for row in rows]
    assert all(one[:4] == ["writer", "number", "place", "at"] for one in names)
    filled = [dict(zip(one[4:], row.values, strict=True)) for one, row in zip(names, rows, strict=True)]
    assert filled == [{**shared, "key": "a"}, {**shared, "key": "b"}]
    assert facts.decode(facts.encode(fact)) == fact
    with pytest.raises(TypeError):
        projection.rows_of("something else")


def test_every_act_has_a_fact_that_calls_it_by_its_tag():
    declared = {}
    for kind in facts.KINDS:
        if kind.act:
            [table] = [table for table in kind.tables if table.name == "acts"]
            declared[facts.type_of(kind, kind.act)] = table.columns["kind"].text
    assert declared == {act.content: act.tag for act in acts.ACTS}
    assert len({act.tag for act in acts.ACTS}) == len(acts.ACTS)


def test_every_act_is_handled():
    assert {handling.content for handling in approvals.HANDLINGS.values()} == {act.content for act in acts.ACTS}


def test_an_act_of_an_unknown_kind_is_never_passed_over():
    with pytest.raises(HomeNewer, match="PolicyChange"):
        acts.act_called("PolicyChange")
