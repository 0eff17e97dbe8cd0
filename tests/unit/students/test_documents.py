"""What a student reads, and in which order: an algebra, so mostly by property."""

from array import array
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.nouns import Message
from stillhouse.students.documents import (
    BATCH_TOKENS,
    PACK_TOKENS,
    Document,
    Language,
    Record,
    documents,
    plan_steps,
    take_answer_tokens,
)

BYTES = Language(
    render=lambda messages: "".join(message.content for message in messages),
    encode=lambda text: list(text.encode()),
    end=0,
    context=40,
    vocabulary=256,
)
lengths = st.lists(st.tuples(st.integers(1, 700), st.integers(1, 700)), min_size=1, max_size=60)


def record(key: str, prompt: str, response: str) -> Record:
    return Record(key, (Message("user", prompt),), response, 1)


def made(sizes):
    return [Document(str(n), tuple([7] * (prompt + answer)), prompt) for n, (prompt, answer) in enumerate(sizes)]


def test_a_record_becomes_its_prompt_its_answer_and_the_end_of_the_turn():
    found, left_out = documents([record("a", "hi", "yes")], BYTES)
    assert found == [Document("a", array("I", [*b"hi", *b"yes", 0]), 2, 1)]
    assert (found[0].answer_tokens, left_out) == (4, [])


def test_what_cannot_be_learned_whole_is_left_out_with_its_reason():
    records = [record("long", "x" * 20, "y" * 20), record("fits", "x" * 20, "y" * 19), record("empty", "", "y")]
    found, left_out = documents([*records, record("beyond", "x", "\u00ff")], BYTES._replace(vocabulary=190))
    assert [document.key for document in found] == ["fits"]
    reasons = {out.key: out.reason for out in left_out}
    assert "context of 40 tokens" in reasons["long"]
    assert "empty prompt" in reasons["empty"]
    assert "vocabulary of 190" in reasons["beyond"]


@given(lengths, st.integers(1, 3), st.integers(0, 9), st.booleans())
def test_every_document_feeds_one_step_of_every_epoch(sizes, epochs, seed, together):
    found = made(sizes)
    steps = plan_steps(found, epochs=epochs, seed=seed, together=together)
    fed = [key for step in steps for key in step.records]
    assert Counter(fed) == {document.key: epochs for document in found}
    for epoch in range(epochs):
        assert len(set(fed[epoch * len(found) : (epoch + 1) * len(found)])) == len(found), "epochs do not mix"
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert sum(step.tokens for step in steps) == epochs * sum(len(document.tokens) for document in found)
    assert plan_steps(found, epochs=epochs, seed=seed, together=together) == steps


@given(lengths, st.booleans())
def test_nothing_is_larger_than_its_bound_but_a_single_document(sizes, together):
    for step in plan_steps(made(sizes), epochs=1, seed=0, together=together):
        assert step.tokens <= BATCH_TOKENS[1] or len(step.records) == 1
        for pack in step.packs:
            assert len(pack.documents) == 1 or (together and pack.tokens <= PACK_TOKENS)


def test_another_seed_is_another_order():
    found = made([(5, 5)] * 50)
    orders = {tuple(plan_steps(found, epochs=1, seed=seed)[0].records) for seed in range(5)}
    assert len(orders) == 5
    first, second = (
        plan_steps(made([(50, 500)] * 8), epochs=2, seed=0)[:4],
        plan_steps(made([(50, 500)] * 8), epochs=2, seed=0)[-4:],
    )
    assert [step.records for step in first] != [step.records for step in second], "and so is another epoch"


@given(lengths, st.integers(1, 3000), st.integers(0, 5))
def test_as_many_answer_tokens_as_wanted_and_at_most_one_document_more(sizes, limit, seed):
    found = made(sizes)
    kept, left = take_answer_tokens(found, limit, seed)
    assert Counter(d.key for d in kept) + Counter(out.key for out in left) == Counter(d.key for d in found)
    total = sum(document.answer_tokens for document in kept)
    assert total >= min(limit, sum(document.answer_tokens for document in found))
    assert total - kept[-1].answer_tokens < limit
