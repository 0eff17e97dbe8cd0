"""Manifests: names, order, pages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import CorruptObject
from stillhouse.vault.manifests import (
    HOLE,
    EntryKind,
    FileEntry,
    Page,
    Root,
    check_path,
    decode_page,
    decode_root,
    encode_page,
    encode_root,
    escape,
    make_page,
    order,
    unescape,
)

NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(NAMES)
def test_any_name_is_escaped_and_back(name):
    assert unescape(escape(name)) == name
    escape(name).encode()  # it is text that can be written


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_escaping_keeps_names_apart(names):
    assert escape(names[0]) != escape(names[1])


def test_a_folder_comes_before_what_is_in_it_and_that_before_what_follows():
    paths = ["", "a", "a/b", "a/b/c", "a/z", "a.txt", "b"]
    assert sorted(paths, key=order) == paths


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/etc/passwd", "a//b", ".", "a/.", "\\x2e\\x2e/x", "a\\x2fb", "a\\x00"]
)
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(CorruptObject):
        check_path(path)


def _entry(path="a", extents=(), kind=EntryKind.FILE, target=""):
    return FileEntry(path, kind, 0o644, 5, 1, 1, 3, b"d" * 32, extents, target)


def test_a_page_lists_only_the_packs_that_it_needs():
    packs = [bytes([n]) * 32 for n in range(5)]
    page = make_page([_entry("a", (3, 0, 5, HOLE, 0, 7)), _entry("b", (1, 4, 4, 3, 9, 1))], packs)
    assert page.packs == (packs[3], packs[1])
    assert [entry.extents for entry in page.entries] == [(0, 0, 5, HOLE, 0, 7), (1, 4, 4, 0, 9, 1)]
    assert decode_page(encode_page(page), "x") == page


@pytest.mark.parametrize(
    "entry",
    [
        _entry("../x"),
        _entry("a", (1, 0, 5)),
        _entry("a", (-2, 0, 5)),
        _entry("a", (0, 0)),
        _entry("a", kind=EntryKind.SAME, target="../../etc/shadow"),
    ],
)
def test_pages_that_make_no_sense_are_refused(entry):
    with pytest.raises(CorruptObject):
        decode_page(encode_page(Page((b"p" * 32,), (entry,))), "x")


@given(st.binary(max_size=60))
def test_rubbish_is_no_manifest(data):
    for decode in (decode_page, decode_root):
        with pytest.raises(CorruptObject):
            decode(data, "x")


def test_a_root_is_read_as_written():
    root = Root(format=1, pages=(), files=0, bytes=0)
    assert decode_root(encode_root(root), "x") == root
