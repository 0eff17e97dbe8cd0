"""Golden vectors (RFC 8785, BLAKE3's own) and what must hold of any value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.canon import canonical, digest_bytes, digest_file, digest_value, is_digest, short_integer
from stillhouse.nouns import Message

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ([1e21, 0.1, -0.0, 1.0], b"[1e+21,0.1,0,1]"),
        ({"\u20ac": 1, "\r": 2, "1": 3, "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"): 4}, None),
        ('\x0f\u20ac"\\', '"\\u000f\u20ac\\"\\\\"'.encode()),
        (Message("user", "hi"), b'{"content":"hi","role":"user"}'),
    ],
)
def test_golden(value, expected):
    made = canonical(value)
    assert made == expected if expected else list(json.loads(made)) == ["\r", "1", "\u20ac", "\U0001f600"]


def test_digests_are_those_of_blake3():
    assert digest_bytes(b"") == "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_value({"a": 1}) == "blake3:" + digest_bytes(b'{"a":1}').partition(":")[2]
    assert short_integer("blake3:" + "f" * 64) == 2**63 - 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, {"a": float("nan")}])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(ValueError, match="canonical"):
        canonical(value)


@given(VALUES)
def test_canonical_reads_back_and_is_stable(value):
    made = canonical(value)
    assert json.loads(made) == value
    assert canonical(json.loads(made)) == made


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_order_of_keys_does_not_matter(value):
    assert digest_value(dict(reversed(value.items()))) == digest_value(value)


@given(st.binary(max_size=64), st.integers(0, 511))
def test_any_flipped_bit_changes_the_digest(data, bit):
    changed = bytearray(data or b"\0")
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    assert digest_bytes(bytes(changed)) != digest_bytes(data or b"\0")


def test_files(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert digest_file(tmp_path / "a") == digest_bytes(b"x" * 3_000_000)
    assert is_digest(digest_bytes(b"x"))
    assert not is_digest("sha256:" + "0" * 64)
    assert not is_digest("blake3:xyz")
