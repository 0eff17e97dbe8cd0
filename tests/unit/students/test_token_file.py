"""The tokens of a training: made once, the same when they are found again, and made again where they are not whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.students.documents import documents, in_order
from stillhouse.students.token_file import discard_tokens, read_tokens, write_tokens
from tests.unit.students.test_documents import BYTES, record


def as_lists(found):
    kept, left_out = found
    return [(one.key, list(one.tokens), one.answer, one.stamps) for one in kept], left_out


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=30))
def test_they_are_those_of_the_records(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("t")
    records = [record(str(number), prompt, answer) for number, (prompt, answer) in enumerate(texts)]
    write_tokens(folder, "t", iter(records), BYTES)
    expected, left_out = documents(records, BYTES)
    assert as_lists(read_tokens(folder, "t")) == as_lists((in_order(expected), left_out))


@given(st.permutations(range(12)))
def test_the_order_of_the_files_does_not_count(tmp_path_factory, order):
    """A version whose rows were added one after the other teaches what one that was formed at once does."""
    folder = tmp_path_factory.mktemp("t")
    records = [record(str(n), f"prompt {n}", "answer")._replace(place=(f"task {n % 4}", n % 3)) for n in range(12)]
    write_tokens(folder, "t", (records[n] for n in order), BYTES)
    found, _ = read_tokens(folder, "t")
    assert [one.key for one in found] == [one.key for one in sorted(records, key=lambda one: (one.place, one.key))]


@pytest.fixture
def written(tmp_path):
    write_tokens(tmp_path, "t", [record(str(n), f"prompt {n}", "answer" * n) for n in range(3)], BYTES)
    return tmp_path


def test_those_of_another_training_do_not_count(written):
    assert read_tokens(written, "other") is None


@pytest.mark.parametrize("name", ["tokens.bin", "tokens.json"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:7] + b"\1" + data[8:], lambda data: b"", None]
)
def test_what_is_torn_gone_or_changed_does_not_count(written, name, damage):
    path = written / name
    path.chmod(0o600)
    data = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage(data))
    assert read_tokens(written, "t") is None


def test_nothing_is_left_of_a_plan(written):
    discard_tokens(written)
    assert not written.exists()
