"""Marks by which text and code are found again: what changes them, and what does not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.conversations.requests import request_mark
from stillhouse.conversations.text_marks import code_mark, text_mark, turns_mark

CODE = """def largest(values, default):
    found = default
    for value in values:
        if value > found and value % 2 == 0:
            found = max(value, len(values))
    return found
"""
NAMES = ("largest", "values", "default", "found", "value")
NEW_NAMES = st.lists(st.from_regex(r"[a-z]{2}_[a-z0-9]{1,8}", fullmatch=True), min_size=5, max_size=5, unique=True)


@given(NEW_NAMES, st.sampled_from(["", "  # why", "\n    # a line of its own"]), st.sampled_from([2, 4, 8]))
def test_names_comments_and_layout_change_no_code_s_mark(names, comment, indent):
    other = re.sub(r"\w+", lambda word: dict(zip(NAMES, names, strict=True)).get(word[0], word[0]), CODE)
    other = other.replace("\n", f"{comment}\n").replace("    ", " " * indent)
    assert code_mark(f"Sure.\n\n```python\n{other}\n```\nDone.") == code_mark(CODE) != ""


@pytest.mark.parametrize(
    ("old", "new"),
    [("> found", ">= found"), ("max(", "min("), ("% 2", "% 3"), ("value, len", "found, len"), ("and", "or")],
)
def test_what_it_does_changes_its_mark(old, new):
    assert code_mark(CODE.replace(old, new)) != code_mark(CODE)


@pytest.mark.parametrize("text", ["", "Yes.", "def f(x): return x + 1", "```python\nprint(1)\n```", "word " * 100])
def test_little_code_and_none_has_no_mark(text):
    assert code_mark(text) == ""


@given(st.text(alphabet="'\"`/*#\\\n ax=(.0", max_size=3000))
def test_any_text_has_its_marks(text):
    for each in (text, f"def f\n{text}", f"```{text}\n"):
        assert re.fullmatch("[0-9a-f]{32}|", code_mark(each))
        assert re.fullmatch("[0-9a-f]{32}|", text_mark(each))


@pytest.mark.parametrize("piece", ["'\\", '"\\', "/*", "'''", "```\n", "//", "#", "\\", ". ", "'a"])
def test_hostile_code_ends(piece):
    """What takes a quadratic reader minutes; the suite's limit of time is the check."""
    code_mark("def f\n" + piece * 1_000_000)


TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=20)), min_size=1, max_size=4)


@given(TURNS, st.sampled_from(["messages", "input"]), st.booleans(), st.booleans())
def test_a_request_is_marked_as_its_turns_are(turns, field, parts, system):
    import msgspec

    said = [{"role": role, "content": [{"type": "text", "text": text}] if parts else text} for role, text in turns]
    body = {"model": "m", field: said} | ({"system": "Be brief."} if system else {})
    assert request_mark(msgspec.json.encode(body).decode()) == turns_mark(turns)


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "1", "null", '{"messages": 3}', '{"messages": [1, null]}', "[" * 100_000]
)
def test_a_request_that_asks_nothing_has_no_mark(body):
    assert request_mark(body) == ""


LONG = " ".join(f"word{number}" for number in range(60))
OPENINGS = [
    "<think></think>",
    "<think>Let me see.\n```python\nx = 1\n```\n</think>\n\n",
    "<|channel|>analysis<|message|>Hm.<|end|>",
]


@pytest.mark.parametrize("thought", OPENINGS)
def test_what_was_thought_aloud_changes_no_mark(thought):
    assert text_mark(thought + LONG) == text_mark(LONG) != ""
    assert code_mark(thought + CODE) == code_mark(CODE) != ""
    turns = [("user", "Why?"), ("assistant", LONG), ("user", "And?")]
    assert turns_mark([turns[0], ("assistant", thought + LONG), turns[2]]) == turns_mark(turns)


def test_a_short_answer_is_known_by_what_was_thought_before_it():
    thought = f"<think>{LONG}</think>Yes."
    assert text_mark(thought) == text_mark(thought.replace(" ", "\n")) != ""
    assert text_mark(thought.replace("word7", "else")) != text_mark(thought)


@pytest.mark.parametrize(
    "wrapped",
    [
        "<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>{}<|end_of_solution|>",
        "<think>hm</think><answer>{}</answer>",
        "{}<|im_end|>",
        "{}</s>",
        "<s>[INST] {} [/INST]",
        "```markdown\n{}\n```",
        "Assistant: {}",
        "### Response:\n{}",
        "**Answer:** {}",
    ],
)
def test_what_stands_around_an_answer_changes_no_mark(wrapped):
    assert text_mark(wrapped.format(LONG)) == text_mark(LONG)


@pytest.mark.parametrize(
    ("old", "new"),
    [("word", "wo\u00adrd"), ("word", "w\u200bord"), (" ", "_"), (" ", "&nbsp;"), (" ", "<br>"), ("word", "wo-\nrd")],
)
def test_what_stands_between_letters_changes_no_mark(old, new):
    assert text_mark(LONG.replace(old, new)) in (text_mark(LONG), ""), new
    if " " in LONG.replace(old, new) or "\n" in LONG.replace(old, new):
        assert text_mark(LONG.replace(old, new)) != ""


def test_questions_are_known_with_whose_they_are_written_before_them():
    for asked in ("Question: Why is this so?", "### Instruction:\nWhy is this so?", "Human: why is this so"):
        assert turns_mark([("user", asked)]) == turns_mark([("user", "Why is this so?")])
