"""The row loader: text that may not be used is found, and no shape of a row breaks it."""

import numpy
import pytest

from stillhouse.access.loader import StampGate
from stillhouse.conversations.text_marks import text_mark, turns_mark
from stillhouse.errors import PolicyRefusal
from stillhouse.nouns import Decision, Use

ANSWER = " ".join(f"word{number}" for number in range(50))
DENIED = {(turns_mark([("user", "Why?")]), text_mark(ANSWER))}
ASKED = {"role": "user", "content": "Why?"}


@pytest.fixture
def gate():
    return StampGate(Use.TRAIN, {1: Decision(use=Use.TRAIN, allowed=True, reason="its licence")}, DENIED)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED], "response": ANSWER},
        {"messages": [ASKED, {"role": "assistant", "content": ANSWER}]},
        {
            "messages": ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "why"}),
            "response": ANSWER,
        },
        {"messages": numpy.array([ASKED], dtype=object), "response": ANSWER},
        {"messages": [ASKED], "response": ANSWER.replace(" ", "\n")},
    ],
)
def test_denied_text_under_allowed_stamps_is_found(gate, row):
    with pytest.raises(PolicyRefusal, match="text that may not be used"):
        gate.check({**row, "stamps": 1})


@pytest.mark.parametrize("messages", [None, "Why?", ["Why?"], [None], {"role": "user"}, 7, [["user", "Why?"]], []])
@pytest.mark.parametrize("more", [{}, {"response": None}, {"response": "because"}, {"text": "anything"}])
def test_rows_of_other_shapes_pass_by_their_stamps(gate, messages, more):
    row = {"messages": messages, **more, "stamps": 1}
    assert gate.check(row) is row


LATER = [{"role": "user", "content": "And then?"}, {"role": "assistant", "content": "Nothing."}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "response": ANSWER},
        {"prompt": "Why?", "completion": ANSWER},
        {"instruction": "Why?", "output": ANSWER},
        {"question": "Why?", "answer": ANSWER},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": ANSWER}]},
        {"messages": [ASKED, {"role": "assistant", "content": ANSWER}, *LATER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}], "response": ANSWER},
    ],
)
def test_denied_text_is_found_in_every_shape_that_an_import_reads(gate, row):
    with pytest.raises(PolicyRefusal, match="text that may not be used"):
        gate.check({**row, "stamps": 1})


def tables(rows):
    import pandas
    import pyarrow

    return [pandas.DataFrame(rows), pyarrow.Table.from_pylist(rows)]


def splits(rows):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(rows)
    return [datasets.DatasetDict(train=made), {"train": made}]


@pytest.mark.parametrize("made", [tables, splits])
def test_tables_and_splits_are_looked_at_whole(gate, made):
    good = [{"prompt": "How?", "response": "So.", "stamps": 1}] * 3
    for dataset in made(good):
        assert type(gate.guard(dataset)) is type(dataset)
    for bad in ({"stamps": 2}, {"prompt": "Why?", "response": ANSWER}):
        for dataset in made([*good, {**good[0], **bad}]):
            with pytest.raises(PolicyRefusal):
                gate.guard(dataset)
