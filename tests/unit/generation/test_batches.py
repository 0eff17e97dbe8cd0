"""Batches of local generation: the plan does not depend on the order."""

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of


@given(st.lists(st.text("ab", max_size=6), max_size=40), st.integers(1, 7), st.randoms())
def test_the_batch_plan_does_not_depend_on_the_order(prompts, size, random):
    requests = [GenerationRequest(str(n), prompt, n) for n, prompt in enumerate(prompts)]
    plan = plan_batches(requests, size)
    random.shuffle(requests)
    assert plan_batches(requests, size) == plan
    flat = [request for batch in plan for request in batch.requests]
    assert sorted(request.key for request in flat) == sorted(request.key for request in requests)
    assert [len(request.prompt) for request in flat] == sorted(len(request.prompt) for request in flat)


def test_every_sample_has_a_stream_of_its_own():
    seeds = {seed_of(run, prompt, sample) for run in range(3) for prompt in ("a", "b") for sample in range(5)}
    assert len(seeds) == 30
