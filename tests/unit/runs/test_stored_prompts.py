"""Prompts in the vault: they come back as they were, and what is added costs what it is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import CorruptObject
from stillhouse.runs.stored_prompts import is_prompts, store_prompts, stored_prompts
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects


def stored(objects):
    return sum(objects.size(digest) for digest in objects.list())


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.text(max_size=200), max_size=50).map(lambda lines: "\n".join(lines).encode()),
    )
)
def test_prompts_come_back(data):
    objects = Objects(MemoryBackend())
    inputs = store_prompts(objects, data)
    assert all(map(is_prompts, inputs))
    assert stored_prompts(objects, {**inputs, "policy.toml": objects.put(b"")}) == data


def test_what_is_added_costs_what_it_is():
    source = random.Random(1)
    lines = [b'{"id": "%d", "prompt": "%s"}\n' % (n, source.randbytes(40).hex().encode()) for n in range(60_000)]
    objects = Objects(MemoryBackend())
    store_prompts(objects, b"".join(lines))
    whole = stored(objects)
    for changed in ([*lines, b'{"id": "x", "prompt": "y"}\n'], [*lines[:100], b"{}\n", *lines[100:]]):
        before = stored(objects)
        assert stored_prompts(objects, store_prompts(objects, b"".join(changed))) == b"".join(changed)
        assert stored(objects) - before < whole / 3


def test_one_line_without_an_end_is_cut():
    objects = Objects(MemoryBackend())
    data = random.Random(2).randbytes(10 << 20).replace(b"\n", b" ")
    inputs = store_prompts(objects, data)
    assert len(inputs) >= 3
    assert stored_prompts(objects, inputs) == data


def test_prompts_of_earlier_versions_are_one_object():
    objects = Objects(MemoryBackend())
    assert stored_prompts(objects, {"prompts": objects.put(b"as they were")}) == b"as they were"
    assert stored_prompts(objects, {"config.toml": objects.put(b"")}) is None
    with pytest.raises(CorruptObject):
        stored_prompts(objects, {"prompts/000000": objects.put(b"no zstd")})
