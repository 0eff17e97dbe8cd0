"""The filter of datasets: every candidate is kept, or dropped with a reason."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.datasets.candidates import ListSource
from stillhouse.datasets.filter import Candidate, Examiner, content_digest_before_2026_12, content_of, protect
from stillhouse.datasets.forming import FormingRules, form
from stillhouse.engine.inline_engine import InlineEngine
from stillhouse.nouns import Decision, Example, FunnelStep, Message, Task, Use, Verdict, VerdictStatus

PASSED = Verdict(VerdictStatus.PASSED, "ok")
FAILED = Verdict(VerdictStatus.FAILED, "no", "test 1")


def candidate(number: int, code: str, verdict: Verdict = PASSED, split: str = "train", family: str = "f") -> Candidate:
    question = Message("user", f"write function number {number} please")
    task = Task(
        id=f"t{number}", messages=(question,), entry_point="f", tests=(Example((1,), 1),), family=family, split=split
    )
    return Candidate(f"k{number}-{code}", task, 0, f"```\n{code}\n```", code, "stop", 7, verdict)


class Made(NamedTuple):
    rows: tuple[str, ...]
    drops: tuple[str, ...]
    funnel: tuple[FunnelStep, ...]
    content_digest: str


def filtered(candidates, protected, decisions):
    """Keys of rows and of what was dropped."""
    with tempfile.TemporaryDirectory() as folder:
        rules = FormingRules(Examiner(protected), decisions)
        with form([ListSource(candidates)], rules, InlineEngine(), Path(folder)) as formed:
            placed = list(formed.placed())
            rows = tuple(one.key for one in placed if not one.step)
            return Made(rows, tuple(one.key for one in placed if one.step), formed.funnel, formed.content_digest)


def test_what_is_exported_is_what_is_checked():
    """Held-out words in another message, or in the prose around a harmless code block."""
    clean = candidate(1, "def f(x): return x")
    protected = protect([SECRET], [])
    hidden = SECRET.messages[0].content
    prose = clean._replace(text=f"{hidden}\n{clean.text}")
    system = msgspec.structs.replace(clean.task, messages=(Message("system", hidden), *clean.task.messages))
    assert filtered([clean], protected, YES).rows
    for sneaky in (prose, clean._replace(task=system)):
        assert list(filtered([sneaky], protected, YES).funnel[4].dropped) == ["shares words with the held-out"]


YES, NO = {7: Decision(Use.TRAIN, True, "yes")}, {7: Decision(Use.TRAIN, False, "no")}
SECRET = Task(id="secret", messages=(Message("user", "the quick brown fox jumps over the lazy dog at noon today"),),
              solution="def g(a):\n    return a * 1234 + 1", split="held-out")  # fmt: skip


def test_the_funnel_drops_in_order_with_reasons():
    twin = candidate(1, "def f(y): return y")._replace(key="twin", sample=1)
    rows = [
        candidate(1, "def f(x): return x"),
        twin,
        candidate(2, "def f(x): return 2", FAILED),
        candidate(3, "def f(b):\n    return b * 1234 + 1"),
        candidate(4, "def f(x): return 4", split="held-out"),
        candidate(5, "# the quick brown fox jumps over the lazy dog at noon today\ndef f(x): return 5"),
    ]
    made = filtered(rows, protect([SECRET], []), YES)
    assert [(step.step, step.kept) for step in made.funnel] == [
        ("answers", 6), ("complete", 6), ("verified", 5), ("distinct", 4), ("not held out", 1), ("allowed", 1),
    ]  # fmt: skip
    assert made.funnel[4].dropped == {
        "held-out family": 1, "same code as the held-out": 1, "shares words with the held-out": 1,
    }  # fmt: skip
    assert filtered(rows, protect([SECRET], []), NO).rows == ()
    assert filtered(rows, protect([SECRET], []), {}).funnel[-1].dropped == {"denied": 1}, "unknown means no"


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.booleans()), unique=True), st.randoms())
def test_every_candidate_ends_in_exactly_one_place(rows, random):
    found = [candidate(number, f"def f(x): return '{code}'", PASSED if good else FAILED) for number, code, good in rows]
    found = list({one.key: one for one in found}.values())
    made = filtered(found, protect([], []), YES)
    ended = [*made.drops, *made.rows]
    assert sorted(ended) == sorted(one.key for one in found)
    assert sum(sum(step.dropped.values()) for step in made.funnel) + len(made.rows) == len(found)
    random.shuffle(found)
    assert filtered(found, protect([], []), YES).content_digest == made.content_digest


@pytest.mark.parametrize("content_digest", [content_digest_before_2026_12, lambda rows: sorted(map(content_of, rows))])
def test_the_content_digest_is_of_the_content(content_digest):
    rows = [candidate(1, "def f(x): return x"), candidate(2, "def f(x): return x")]
    assert content_digest(rows) == content_digest(rows[::-1])
    assert content_digest(rows) != content_digest(rows[:1])
    assert content_digest(rows) == content_digest([row._replace(key="other", stamps=9) for row in rows])
    changed = msgspec.structs.replace(PASSED, checks=5)
    assert content_digest(rows) != content_digest([rows[0], rows[1]._replace(verdict=changed)])
