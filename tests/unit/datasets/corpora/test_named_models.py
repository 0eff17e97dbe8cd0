"""A row's model, wherever it is named."""

import json

import pytest

from stillhouse.datasets.corpora.row_shapes import read_row

PAIR = {"prompt": "Hi?", "response": "Yes, of course."}
SHARE = {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]}
CHAT = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]}
PLACES = {
    "model": lambda row: {**row, "model": "gpt-4o"}, "Model": lambda row: {**row, "Model": "gpt-4o"},
    "model_id": lambda row: {**row, "model_id": "gpt-4o"}, "engine": lambda row: {**row, "engine": "gpt-4o"},
    "generated_by": lambda row: {**row, "generated_by": "openai/gpt-4o-2024-08-06"},
    "a list": lambda row: {**row, "model": ["gpt-4o"]}, "an object": lambda row: {**row, "model": {"name": "gpt-4o"}},
    "metadata": lambda row: {**row, "metadata": {"model": "gpt-4o"}},
    "metadata as text": lambda row: {**row, "metadata": json.dumps({"model": "gpt-4o"})},
    "beside an open one": lambda row: {**row, "model": "qwen3-32b", "teacher": "gpt-4o"},
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("row", [PAIR, SHARE, CHAT], ids=["pair", "sharegpt", "chat"])
def test_a_closed_model_is_seen_wherever_it_is_named(row, place):
    assert "gpt-4o" in read_row(PLACES[place](row)).model


def test_the_answer_s_own_turn_names_it():
    turns = [*CHAT["messages"][:-1], {**CHAT["messages"][-1], "model": "claude-sonnet-4-5"}]
    assert read_row({"messages": turns}).model == "claude-sonnet-4-5"


@pytest.mark.parametrize("value", ["a human annotator", "", None, 3, [], {}, "x" * 10_000, ["", None]])
def test_what_is_no_model_names_none(value):
    for name in ("generated_by", "engine", "model_id", "metadata"):
        assert read_row({**PAIR, name: value}).model == ""


def test_a_name_that_nobody_knows_stays_what_the_row_calls_it():
    assert read_row({**PAIR, "model": "rival-1"}).model == "rival-1"
    assert read_row({**CHAT, "model": "rival-1"}).model == "rival-1"


@pytest.mark.parametrize("column", ["response", "generation"])
def test_an_answer_that_is_json_and_speaks_of_a_model_is_not_by_it(column):
    question = {"response": "prompt", "generation": "instruction"}[column]
    assert read_row({question: "Write a config.", column: '{"model": "gpt-4o", "temperature": 0}'}).model == ""
