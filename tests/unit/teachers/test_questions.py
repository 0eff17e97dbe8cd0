"""What is asked next: never more than there is room for, and in the end as much as was wanted or could be had."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.canon import digest_value
from stillhouse.conversations.prompts import prompt_digest
from stillhouse.nouns import Channel, Message, Parameters, Task, Teacher, TeacherKind
from stillhouse.teachers.questions import Questions, key_of_ask, teacher_identity, unique

TEACHER = Teacher(
    name="t", kind=TeacherKind.OPENAI, model="m", lab="l", channel=Channel.OFFICIAL, terms=("licence/mit",)
)
PARAMETERS = Parameters(16, 0.5, 3)


def tasks(count, turns=()):
    return [Task(id=f"t{n}", messages=(Message("user", f"q{n}"),), turns=turns) for n in range(count)]


def run(questions, good, random):
    """Answer in random order; returns how often each key was asked. At no moment is more open than there is room for."""
    waiting, asked, accepted = list(questions.more()), Counter(), 0
    while waiting:
        assert not questions.rows or accepted + len(waiting) <= questions.rows
        ask = waiting.pop(random.randrange(len(waiting)))
        asked[ask.key] += 1
        ok = good(ask)
        accepted += ok and questions.task_of(ask) is not None
        waiting += questions.after(ask, f"answer to {ask.key}", accepted=ok)
    return asked


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 3), st.integers(0, 12), st.integers(0, 15), st.randoms())
def test_enough_and_no_more(count, samples, until, rows, candidates, random):
    verdicts = {}

    def good(ask):
        return verdicts.setdefault(ask.key, random.random() < 0.4)

    questions = Questions(TEACHER, tasks(count), PARAMETERS, samples, until=until, rows=rows, candidates=candidates)
    asked = run(questions, good, random)
    assert max(asked.values(), default=0) <= 1, "nothing is asked twice"
    assert len(asked) <= min(count * samples, candidates or count * samples)
    assert len(questions.last) == len(asked)
    by_task = Counter(ask.task for ask in questions.last if verdicts[ask.key])
    assert all(passed <= (until or samples) for passed in by_task.values())
    assert not rows or questions.accepted <= rows
    enough = bool(rows) and questions.accepted == rows
    exhausted = len(asked) == min(count * samples, candidates or count * samples)
    all_until = bool(until) and all(
        by_task[f"t{n}"] == min(until, samples) or sum(a.task == f"t{n}" for a in questions.last) == samples
        for n in range(count)
    )
    assert enough or exhausted or all_until or not (rows or until)


@given(st.integers(1, 4), st.integers(1, 3), st.randoms())
def test_turns_follow_their_answers(count, samples, random):
    questions = Questions(TEACHER, tasks(count, ("and then?", "why?")), PARAMETERS, samples)
    assert questions.adaptive
    asked = run(questions, lambda ask: True, random)
    assert len(asked) == count * samples * 3
    for ask in questions.last:
        assert [m.role for m in ask.messages] == ["user", "assistant", "user", "assistant", "user"]
        assert ask.messages[-1].content == "why?"
        assert ask.messages[1].content.startswith("answer to ")


def test_what_the_log_has_is_taken_whatever_its_place():
    questions = Questions(TEACHER, tasks(3), PARAMETERS, 4, rows=2)
    known = [ask for ask in questions.all_first_turns() if (ask.task, ask.sample) == ("t2", 3)]
    questions.pause()
    questions.take(known[0])
    assert questions.after(known[0], "x", accepted=True) == []
    questions.resume()
    assert len(questions.more()) == 1, "one of two is there already"


def test_a_sample_that_the_log_has_hides_no_other_of_its_task():
    questions = Questions(TEACHER, tasks(1), PARAMETERS, 3, until=3)
    last = list(questions.all_first_turns())[2]
    questions.take(last)
    assert sorted(ask.sample for ask in questions.more()) == [0, 1]


def test_plain_sampling_is_not_adaptive():
    questions = Questions(TEACHER, tasks(2), PARAMETERS, 3)
    assert not questions.adaptive
    assert [(ask.task, ask.sample) for ask in questions.all_first_turns()][:3] == [("t0", 0), ("t1", 0), ("t0", 1)]


def test_keys_are_those_of_earlier_versions():
    """A key must never change by itself: what was bought under it would be bought again."""
    task = tasks(1)[0]
    before = digest_value(
        [teacher_identity(TEACHER), prompt_digest(task.messages),
         {"max_tokens": 16, "temperature": 0.5, "seed": 3, "stop_at_code": False}, 0]
    )  # fmt: skip
    assert next(Questions(TEACHER, [task], PARAMETERS, 1).all_first_turns()).key == before
    more = Parameters(16, 0.5, 3, more={"logprobs": True})
    assert key_of_ask(teacher_identity(TEACHER), prompt_digest(task.messages), more, 0) != before


def test_unique_keeps_the_first():
    first, second = list(Questions(TEACHER, tasks(1), PARAMETERS, 2).all_first_turns())
    assert unique([first, second, first]) == (first, second)
