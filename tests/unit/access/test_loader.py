"""The row loader: text that may not be used is found, and no shape of a row breaks it."""

import json

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


TURNS = [ASKED, {"role": "assistant", "content": ANSWER}]
FINE = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*TURNS, {"role": "user", "content": "x"}]},
        {"messages": [*TURNS, {"role": "tool", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt": "Why?", "chosen": ANSWER, "rejected": "no"},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": FINE[1:]},
        {"prompt": "Why?", "completion": ANSWER, "tools": "[1]"},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": ANSWER}], "image": "x"},
        {"messages": json.dumps(TURNS)},
        {"messages": FINE, "prompt": "Why?", "completion": ANSWER},
        {"messages": FINE, "conversations": TURNS},
        {"a": "Why?", "b": ANSWER, "c": "anything else"},
    ],
)
def test_denied_text_is_found_wherever_a_row_has_it(gate, row):
    with pytest.raises(PolicyRefusal, match="text that may not be used"):
        gate.check({**row, "stamps": 1})


@pytest.mark.parametrize(
    "row",
    [
        {"stillhouse": json.dumps({"stamps": 2}), "stamps": 1},
        {"stillhouse.stamps": 2, "stamps": 1},
        {"metadata": {"stillhouse": {"stamps": 2}}, "stamps": 1},
        {"stamps": True},
        {"stamps": "one"},
        {"stamps": 1.5},
    ],
)
def test_stamps_of_an_export_count_first_in_every_form(gate, row):
    with pytest.raises(PolicyRefusal):
        gate.check({"prompt": "How?", "response": "So.", **row})


@pytest.mark.parametrize("stamps", [1, "1", numpy.int64(1), {"stillhouse": json.dumps({"stamps": 1})}])
def test_numbers_of_every_kind_are_read(gate, stamps):
    gate.check({"prompt": "How?", "response": "So.", **(stamps if isinstance(stamps, dict) else {"stamps": stamps})})


GOOD = [{"prompt": "How?", "response": "So.", "stamps": 1}] * 3
BAD = {"prompt": "How?", "response": "So.", "stamps": 2}


def test_what_torch_loads_stays_what_torch_loads(gate):
    torch_data = pytest.importorskip("torch.utils.data")

    class Rows(torch_data.IterableDataset):
        def __init__(self, rows):
            self.rows = rows

        def __iter__(self):
            return iter(self.rows)

    guarded = gate.guard(Rows(GOOD))
    assert len(list(torch_data.DataLoader(guarded, batch_size=None))) == 3
    with pytest.raises(PolicyRefusal):
        list(torch_data.DataLoader(gate.guard(Rows([*GOOD, BAD])), batch_size=None))


@pytest.mark.filterwarnings(
    "ignore:To copy construct from a tensor:UserWarning"
)  # of datasets itself: it formats rows twice
@pytest.mark.parametrize("form", [None, "torch", "numpy", "arrow", "pandas"])
def test_streams_of_datasets_in_every_format(gate, form):
    datasets = pytest.importorskip("datasets")

    def stream(rows):
        return datasets.Dataset.from_list(rows).to_iterable_dataset().with_format(form)

    assert sum(1 for _ in gate.guard(stream(GOOD))) == 3
    with pytest.raises(PolicyRefusal):
        list(gate.guard(stream([*GOOD, BAD])))


def test_a_reader_is_read_once(gate):
    import pyarrow

    def reader(rows):
        return pyarrow.Table.from_pylist(rows).to_reader()

    assert gate.guard(reader(GOOD)).read_all().num_rows == 3
    with pytest.raises(PolicyRefusal):
        gate.guard(reader([*GOOD, BAD])).read_all()


def test_a_frame_with_values_of_several_kinds(gate):
    import pandas

    parts = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, {"role": "assistant", "content": ANSWER}]
    gate.guard(pandas.DataFrame({"messages": [FINE, [{"role": "user", "content": 7}]], "stamps": [1, 1]}))
    with pytest.raises(PolicyRefusal):
        gate.guard(pandas.DataFrame({"messages": [FINE, parts], "stamps": [1, 1]}))
