"""Fingerprints, recipes, settings, money, batches, the view, the forming of datasets."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.app.live import LiveView
from stillhouse.app.reporting import wilson
from stillhouse.app.run import spread
from stillhouse.datasets.form import Candidate, content_digest, form, protect
from stillhouse.errors import HomeError, RecipeError
from stillhouse.fingerprint import code_digest, common_ngrams, ngrams, shared_ngram
from stillhouse.generation.batches import Request, plan_batches, seed_of
from stillhouse.nouns import (
    Decision,
    Example,
    Message,
    Task,
    Use,
    Verdict,
    VerdictStatus,
)
from stillhouse.plans.plan import make_plan
from stillhouse.recorder import stamp_set
from stillhouse.settings.home import read_settings
from stillhouse.settings.recipe import parse_recipe
from stillhouse.teachers.collect import Collected, Collection

# --- fingerprints


def test_names_comments_and_layout_do_not_count():
    one = "def add(a, b):\n    '''Add.'''\n    total = a + b  # sum\n    return total\n"
    other = "def plus(x,y):\n        s=x+y\n        return s"
    assert code_digest(one) == code_digest(other)
    assert code_digest(one) != code_digest(one.replace("+", "-"))
    assert code_digest("def f(x): return len(x)") != code_digest("def f(x): return sum(x)"), "free names count"
    assert code_digest("not python (") == code_digest("not   python\n(")


@given(st.text(max_size=60))
def test_any_text_has_a_code_digest(text):
    assert code_digest(text) == code_digest(text)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.sets(st.tuples(*[st.sampled_from("abc")] * 3)))
def test_a_shared_run_is_found_where_there_is_one(letters, known):
    text, grams = " ".join(letters), {**dict.fromkeys(known), ("a",): None}
    shared = shared_ngram(text, grams, {gram[0] for gram in grams}, 3)
    assert (shared is not None) == bool(ngrams(text, 3) & grams.keys())
    assert shared is None or shared in grams


def test_ngrams():
    assert ngrams("", 3) == frozenset()
    assert ngrams("One two", 3) == {("one", "two")}
    assert ngrams("a b c d", 3) == {("a", "b", "c"), ("b", "c", "d")}
    assert common_ngrams(["a b c"] * 5 + ["x y z"], 3, 0.5) == {("a", "b", "c")}


# --- recipes and settings

RECIPE = """
[teacher]
use = "mock"
[prompts]
file = "prompts.jsonl"
[collect]
samples = 2
budget = "5.00"
[dataset]
name = "example"
[train]
student = "smollm2-135m-instruct"
[eval]
suites = ["held-out", "humaneval"]
"""


def recipe(text, folder):
    return parse_recipe(text.encode(), "recipe.toml", folder)


def test_the_recipe_of_the_design_is_read(tmp_path):
    read = recipe(RECIPE, tmp_path)
    assert (read.teacher.use, read.collect.samples, read.budget) == ("mock", 2, Decimal("5.00"))
    assert read.suite == str(tmp_path / "prompts.jsonl")


def test_the_run_is_the_same_where_the_answers_are(tmp_path):
    read = recipe(RECIPE, tmp_path)
    assert recipe(RECIPE.replace("5.00", "9.00"), tmp_path).run == read.run, "a raised budget goes on"
    assert recipe(RECIPE.replace("samples = 2", "samples = 3"), tmp_path).run != read.run


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples = 2", "sample = 2", r"unknown key `sample` in \[collect\]"),
        ("samples = 2", "samples = 0", "samples must be at least 1"),
        ("samples = 2", 'samples = "two"', r"in \[collect.samples\]"),
        ("samples = 2", "temperature = -1", "may not be negative"),
        ('use = "mock"', "", r"missing key `use` in \[teacher\]"),
        ('"5.00"', '"five"', "budget must be an amount"),
        ('"5.00"', '"-5"', "at least 0"),
        ('file = "prompts.jsonl"', "", "either file or suite"),
        ('file = "prompts.jsonl"', 'file = "a"\nsuite = "stillhouse"', "either file or suite"),
        ('name = "example"', 'name = "a b"', "one word"),
        ("[teacher]", "[teacher", "not TOML"),
        ("[eval]", "[evil]", "unknown key `evil`"),
        ("[teacher]", 'folder = "/"\n[teacher]', "unknown field"),
    ],
)
def test_bad_recipes_are_named(tmp_path, old, new, message):
    with pytest.raises(RecipeError, match=message):
        recipe(RECIPE.replace(old, new, 1), tmp_path)


def test_settings_come_from_file_and_environment(tmp_path):
    (tmp_path / "config.toml").write_text(
        '[organisation]\ncompetes_with = ["openai"]\n[log]\ncheckpoints = "elsewhere"\n'
    )
    read = read_settings(tmp_path, {"STILLHOUSE_LEDGER_URL": "postgresql://x", "STILLHOUSE_DURABILITY": "power"})
    assert (read.ledger_url, read.durability) == ("postgresql://x", "power")
    assert read.organisation.competes_with == ("openai",)
    assert read.checkpoints == tmp_path / "elsewhere"
    assert read_settings(None, {"STILLHOUSE_HOME": str(tmp_path / "h")}).home == tmp_path / "h"
    with pytest.raises(HomeError, match="STILLHOUSE_DURABILITY"):
        read_settings(tmp_path, {"STILLHOUSE_DURABILITY": "maybe"})
    (tmp_path / "config.toml").write_text("[organisation]\ncompetes = []\n")
    with pytest.raises(HomeError, match="unknown field"):
        read_settings(tmp_path, {})


# --- batches


@given(st.lists(st.text("ab", max_size=6), max_size=40), st.integers(1, 7), st.randoms())
def test_the_batch_plan_does_not_depend_on_the_order(prompts, size, random):
    requests = [Request(str(n), prompt, n) for n, prompt in enumerate(prompts)]
    plan = plan_batches(requests, size)
    random.shuffle(requests)
    assert plan_batches(requests, size) == plan
    flat = [request for batch in plan for request in batch.requests]
    assert sorted(request.key for request in flat) == sorted(request.key for request in requests)
    assert [len(request.prompt) for request in flat] == sorted(len(request.prompt) for request in flat)


def test_every_sample_has_a_stream_of_its_own():
    seeds = {seed_of(run, prompt, sample) for run in range(3) for prompt in ("a", "b") for sample in range(5)}
    assert len(seeds) == 30


def test_spread_takes_from_everywhere():
    assert spread(list(range(10)), 0) == tuple(range(10))
    assert spread(list(range(10)), 3) == (0, 3, 6)
    assert spread([1], 5) == (1,)


# --- forming a dataset

PASSED = Verdict(VerdictStatus.PASSED, "ok")
FAILED = Verdict(VerdictStatus.FAILED, "no", "test 1")


def candidate(number: int, code: str, verdict: Verdict = PASSED, split: str = "train", family: str = "f") -> Candidate:
    question = Message("user", f"write function number {number} please")
    task = Task(
        id=f"t{number}", messages=(question,), entry_point="f", tests=(Example((1,), 1),), family=family, split=split
    )
    return Candidate(f"k{number}-{code}", task, 0, f"```\n{code}\n```", code, "stop", 7, verdict)


def test_what_is_exported_is_what_is_checked():
    """Held-out words in another message, or in the prose around a harmless code block."""
    clean = candidate(1, "def f(x): return x")
    protected = protect([SECRET], [])
    hidden = SECRET.messages[0].content
    prose = clean._replace(text=f"{hidden}\n{clean.text}")
    system = msgspec.structs.replace(clean.task, messages=(Message("system", hidden), *clean.task.messages))
    assert form([clean], protected, YES).rows
    for sneaky in (prose, clean._replace(task=system)):
        assert list(form([sneaky], protected, YES).funnel[4].dropped) == ["shares words with the held-out"]


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
    made = form(rows, protect([SECRET], []), YES)
    assert [(step.step, step.kept) for step in made.funnel] == [
        ("answers", 6), ("complete", 6), ("verified", 5), ("distinct", 4), ("not held out", 1), ("allowed", 1),
    ]  # fmt: skip
    assert made.funnel[4].dropped == {
        "held-out family": 1, "same code as the held-out": 1, "shares words with the held-out": 1,
    }  # fmt: skip
    assert form(rows, protect([SECRET], []), NO).rows == ()
    assert form(rows, protect([SECRET], []), {}).funnel[-1].dropped == {"denied": 1}, "unknown means no"


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.booleans()), unique=True), st.randoms())
def test_every_candidate_ends_in_exactly_one_place(rows, random):
    found = [candidate(number, f"def f(x): return '{code}'", PASSED if good else FAILED) for number, code, good in rows]
    found = list({one.key: one for one in found}.values())
    made = form(found, protect([], []), YES)
    assert sorted(placed.key for placed in made.placements) == sorted(one.key for one in found)
    assert {placed.key for placed in made.placements if not placed.step} == {row.key for row in made.rows}
    assert sum(sum(step.dropped.values()) for step in made.funnel) + len(made.rows) == len(found)
    random.shuffle(found)
    assert form(found, protect([], []), YES).content_digest == made.content_digest


def test_the_content_digest_is_of_the_content():
    rows = [candidate(1, "def f(x): return x"), candidate(2, "def f(x): return x")]
    assert content_digest(rows) == content_digest(rows[::-1])
    assert content_digest(rows) != content_digest(rows[:1])
    assert content_digest(rows) == content_digest([row._replace(key="other", stamps=9) for row in rows])
    changed = msgspec.structs.replace(PASSED, checks=5)
    assert content_digest(rows) != content_digest([rows[0], rows[1]._replace(verdict=changed)])


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_holds_the_share(passed, more):
    low, high = wilson(passed, passed + more)
    assert 0 <= low <= passed / (passed + more) <= high <= 1


# --- what a collection shows


class Shown:
    """A progress that keeps what it was told."""

    def __init__(self):
        self.done = []

    def start(self, stage, total):
        pass

    def update(self, done, message="", state=None):
        self.done.append(done)


def test_answers_that_come_all_at_once_are_all_shown():
    """They are counted in one value, which is looked at now and then: the next word of a local model brings it up to date."""
    stamps = stamp_set([])
    plan = make_plan("collect", "r", {}, (), Decimal(0), "")
    collection = Collection(plan, (), (), (), frozenset(), stamps, "")
    shown, collected = Shown(), Collected()
    view = LiveView(shown, "t", collection, None)
    collected.answers = 1
    view.show(collected)
    collected.answers = 128
    view.tokens(10)
    assert shown.done[-1] == 128
