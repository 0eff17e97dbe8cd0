"""Batches: many calls at once, never submitted twice by themselves, settled by what the provider says of each call."""

import json
import time
from decimal import Decimal

import pytest

from stillhouse.teachers import batch
from tests.batch_server import BatchServer


@pytest.fixture(params=["openai", "anthropic"])
def kind(request):
    return request.param


@pytest.fixture
def provider(serve):
    return BatchServer(serve)


def add(home, provider, kind, *prices):
    words = ["teacher", "add", "mock", "--kind", kind, "--model", "m", "--lab", "testlab", "--channel", "open-weights"]
    url = provider.url if kind == "openai" else provider.url.removesuffix("/v1")
    home(*words, "--terms", "licence/apache-2.0", "--base-url", url, *(prices or ("--unmetered",)))


def test_a_batch_is_collected(home, provider, kind):
    add(home, provider, kind)
    home.prompts(30)
    provider.broken = {3}
    done = home("collect", home.recipe(batch=True, samples=2), "--json").json
    assert (done["answers"], done["failed"], done["paid"]) == (59, 1, 59)
    assert (len(provider.batches), len(provider.paid())) == (1, 60)
    provider.broken = set()
    again = home("collect", home.recipe(batch=True, samples=2), "--json").json
    assert (again["answers"], again["paid"], len(provider.paid())) == (60, 1, 61), (
        "only what failed, and only on purpose"
    )
    assert home("doctor", "--json").json


def test_a_kill_while_it_waits_costs_nothing(home, provider, kind):
    provider.ends = False
    add(home, provider, kind)
    home.prompts(5)
    process = home.start("collect", home.recipe(batch=True), "--json")
    assert provider.taken.wait(30)
    time.sleep(1)
    process.kill()
    process.communicate()
    provider.ends = True
    done = home("collect", home.recipe(batch=True), "--json").json
    assert (done["answers"], len(provider.batches)) == (5, 1)


def test_a_batch_whose_acceptance_was_never_seen_is_found_and_not_submitted_again(home, provider, kind):
    provider.lose = True
    add(home, provider, kind)
    home.prompts(5)
    ran = home("collect", home.recipe(batch=True), "--json", code=1)
    assert "submits nothing twice" in ran.err
    provider.lose = False
    done = home("collect", home.recipe(batch=True), "--json").json
    assert (done["answers"], len(provider.batches)) == (5, 1), "it is the one that was taken"


def test_an_unknown_fate_stays_pending(home, provider, kind):
    """Refused on the way: the listing does not show it, but it is too early to be sure."""
    provider.refuse = True
    add(home, provider, kind)
    home.prompts(5)
    home("collect", home.recipe(batch=True), code=1)
    provider.refuse = False
    ran = home("collect", home.recipe(batch=True), "--json", code=1)
    assert "outcome is not known yet" in ran.err
    assert provider.batches == {}, "nothing is submitted again by itself"


def test_what_surely_never_arrived_is_asked_again(home, provider, kind, monkeypatch):
    """A quarter of an hour later the listing is proof. Here the quarter of an hour is short."""
    provider.refuse = True
    add(home, provider, kind, "--price-in", "0", "--price-out", "1000")
    home.prompts(5)
    recipe = home.recipe(batch=True, budget="0.1", max_tokens=10)
    home("collect", recipe, code=1)
    provider.refuse = False
    code = "import datetime, sys; from stillhouse.teachers import batch; batch.ARRIVES_WITHIN = datetime.timedelta(0); "
    code += "from stillhouse.cli.main import main; sys.exit(main(sys.argv[1:]))"
    import subprocess
    import sys

    command = [sys.executable, "-c", code, "collect", str(recipe), "--json"]
    subprocess.run(command, cwd=home.folder, env=home.environment, check=False, capture_output=True)
    done = home("collect", recipe, "--json").json
    assert (done["answers"], done["unsettled"]) == (5, 0)
    assert len(provider.paid()) == 5


def test_money_of_a_batch_is_held_until_it_is_settled(home, provider, kind):
    provider.ends = False
    add(home, provider, kind, "--price-in", "0", "--price-out", "1000", "--batch-share", "0.5")
    home.prompts(5)
    recipe = home.recipe(batch=True, budget="0.05", max_tokens=10)
    process = home.start("collect", recipe, "--json")
    assert provider.taken.wait(30)
    process.kill()
    process.communicate()
    provider.ends = True
    home.prompts(6)
    home("collect", recipe, "--json", code=None)
    final = home("collect", recipe, "--json").json
    assert final["answers"] == 6, "what the first five did not cost pays for the sixth"
    assert Decimal(final["spent"]) == Decimal("0.015")


def test_a_batch_of_another_recipe_is_not_bought_again(home, provider, kind):
    """The recipe changes while a batch is under way: what the batch holds is waited for, by batch or by single calls."""
    provider.ends = False
    add(home, provider, kind, "--price-in", "0", "--price-out", "1000")
    home.prompts(5)
    options = {"budget": "1", "max_tokens": 10}
    process = home.start("collect", home.recipe(batch=True, **options), "--json")
    assert provider.taken.wait(30)
    time.sleep(1)
    process.kill()
    process.communicate()
    provider.ends = True
    alone = home("collect", home.recipe(samples=1, seed=0, dataset="other", **options), "--json", code=1)
    assert "a batch that is under way holds it" in alone.err
    assert len(provider.paid()) == 5, "single calls leave alone what a batch holds"
    done = home("collect", home.recipe(batch=True, samples=2, **options), "--json").json
    assert (done["answers"], len(provider.paid())) == (10, 10)
    assert len(set(provider.paid())) == 10


def test_a_call_that_is_batched_again_is_charged_to_its_new_lease(home, provider, kind):
    """The first batch's calls fail; the second asks them again: what that did not cost is free again."""
    add(home, provider, kind, "--price-in", "0", "--price-out", "1000")
    home.prompts(5)
    recipe = home.recipe(batch=True, budget="0.05", max_tokens=10)
    provider.broken = {0, 1, 2}
    assert home("collect", recipe, "--json").json["answers"] == 2
    provider.broken = set()
    done = home("collect", recipe, "--json").json
    assert (done["answers"], done["spent"], done["unsettled"]) == (5, "0.025000", 0)
    home.prompts(7)
    assert home("collect", recipe, "--json").json["answers"] == 7, "0.025 is spent, and two more fit"


def _without_id(line):
    said = json.loads(line)
    return json.dumps({**said, "custom_id": None}).encode() + b"\n"


@pytest.mark.parametrize(
    ("written", "lost"),
    [
        (lambda lines: b"\xef\xbb\xbf" + b"".join(lines), 0),
        (lambda lines: b"".join(lines).replace(b"\n", b"\r\n"), 0),
        (lambda lines: b"\n\n" + b"\n".join(lines), 0),
        (lambda lines: b"".join(lines).rstrip(), 0),
        (lambda lines: b"".join([*lines, lines[0]]), 0),
        (lambda lines: b"".join([*reversed(lines)]), 0),
        (lambda lines: b"".join([b"{not json\n", *lines[1:]]), 1),
        (lambda lines: b"".join([lines[0][:20] + b"\n", *lines[1:]]), 1),
        (lambda lines: b"".join([_without_id(lines[0]), *lines[1:]]), 1),
        (lambda lines: b"".join([b'["a", "list"]\n', b"5\n", b"null\n", *lines[1:]]), 1),
        (lambda lines: b"".join([b"\xff\xfe\xfd\n", *lines[1:]]), 1),
        (lambda lines: b"".join([b'{"custom_id": 7}\n', b'{"error": {"message": "x"}}\n', *lines[1:]]), 1),
        (
            lambda lines: b"".join([lines[0].replace(b"}", b', "logprob": -Infinity, "x": "\\ud83d"}', 1), *lines[1:]]),
            0,
        ),
    ],
)
def test_an_odd_line_of_results_costs_no_other(home, provider, kind, written, lost):
    provider.written = written
    add(home, provider, kind)
    home.prompts(4)
    done = home("collect", home.recipe(batch=True), "--json", code=None).json
    assert done["answers"] == 4 - lost
    provider.written = b"".join
    assert home("doctor", "--json").json


def test_a_batch_that_failed_says_why_in_the_provider_s_words(home, provider):
    add(home, provider, "openai")
    home.prompts(3)
    provider.failed = "Enqueued token limit reached for m. Limit: 90,000 enqueued tokens."
    ran = home("collect", home.recipe(batch=True), code=None)
    assert ran.code != 0
    assert "Enqueued token limit reached" in ran.err + ran.out


def test_groups_keep_within_what_providers_take(monkeypatch):
    from tests.conformance.test_teachers import asks

    monkeypatch.setattr(batch, "_CALLS", 4)
    monkeypatch.setattr(batch, "_BYTES", 2000)
    sizes = [len(group) for group in batch._groups(asks(10), lambda ask: b"x" * 100)]
    assert sizes == [4, 4, 2]
    assert [len(group) for group in batch._groups(asks(5), lambda ask: b"x" * 900)] == [1, 1, 1, 1, 1]


def test_a_teacher_without_batches_is_refused(home):
    home.add_replay(home.recording([{"task": "t0", "text": "x"}]))
    home.prompts(1)
    assert "takes no batches" in home("collect", home.recipe("recorded", batch=True), code=2).err
