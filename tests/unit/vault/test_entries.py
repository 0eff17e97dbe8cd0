"""The bytes of a segment: whatever happens to them is cut as torn, or is an error; it is never read as something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import CorruptLog
from stillhouse.vault.entries import GENESIS, frame, read_frames, read_header

PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def segment(payloads):
    data, chain = b"", GENESIS
    for payload in payloads:
        piece, chain = frame(payload, chain)
        data += piece
    return data


def read(data):
    return [found.payload for found in read_frames(data, GENESIS, "test")]


@given(PAYLOADS)
def test_what_was_written_is_read(payloads):
    assert read(segment(payloads)) == payloads


@given(PAYLOADS, st.data())
def test_any_prefix_is_a_torn_tail(payloads, data):
    whole = segment(payloads)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = read(cut)
    assert found == payloads[: len(found)]
    assert segment(found) == cut[: len(segment(found))]


@given(PAYLOADS, st.data())
def test_zeros_where_a_write_did_not_arrive_are_a_torn_tail(payloads, data):
    whole = segment(payloads)
    start = data.draw(st.integers(0, len(whole) - 1))
    found = read(whole[:start] + bytes(len(whole) - start + 64))
    assert found == payloads[: len(found)]


@given(PAYLOADS, st.data())
def test_any_flipped_bit_is_an_error(payloads, data):
    whole = bytearray(segment(payloads))
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    whole[place] ^= 1 << bit
    with pytest.raises(CorruptLog):
        read(bytes(whole))


@given(PAYLOADS, st.data())
def test_a_flipped_bit_before_trailing_zeros_cuts_nothing_that_is_whole(payloads, data):
    """Damage in the middle stays damage, whatever stands at the end of the file."""
    whole = bytearray(segment(payloads) + segment([b"another"]))
    place = data.draw(st.integers(0, len(segment(payloads)) - 1))
    whole[place] ^= 1
    with pytest.raises(CorruptLog):
        read(bytes(whole) + bytes(64))


@given(st.lists(st.binary(min_size=1, max_size=10), min_size=2, max_size=5, unique=True), st.data())
def test_order_is_fixed(payloads, data):
    swapped = data.draw(st.permutations(payloads).filter(lambda p: p != payloads))
    pieces = {}
    chain = GENESIS
    for payload in payloads:
        pieces[payload], chain = frame(payload, chain)
    with pytest.raises(CorruptLog):
        read(b"".join(pieces[payload] for payload in swapped))


def test_a_segment_of_a_later_format_is_refused():
    data, _ = frame(b'{"writer":"w","first":0,"previous_chain":"","previous_pack":"","format":99}', GENESIS)
    with pytest.raises(CorruptLog, match="format 99"):
        read_header(data, "test")
    with pytest.raises(CorruptLog, match="no header"):
        read_header(b"", "test")
