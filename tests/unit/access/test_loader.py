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
