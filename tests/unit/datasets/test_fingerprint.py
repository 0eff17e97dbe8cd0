"""Fingerprints: names and layout do not count, shared words are found."""

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.datasets.fingerprint import code_digest, common_ngrams, ngrams, shared_ngram


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
