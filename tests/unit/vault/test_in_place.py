"""A comparison with a manifest finds exactly what a comparison of two dictionaries finds."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.vault.in_place import FoundFile, RegisteredPlace, examine, register
from stillhouse.vault.manifests import EntryKind, FileEntry, order
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from stillhouse.vault.reading import Reader


class Dictionary:
    """A place in memory: names, and (size, time, digest) of each."""

    def __init__(self, things: dict[str, tuple[int, int, bytes]]) -> None:
        self.things = things

    def found(self):
        for path in sorted(self.things, key=order):
            size, modified, digest = self.things[path]
            entry = FileEntry(path=path, kind=EntryKind.FILE, mode=0, modified=modified, owner=0, group=0, size=size)
            yield FoundFile(entry, lambda digest=digest: digest)

    def registering(self):
        for entry, read in self.found():
            yield msgspec.structs.replace(entry, digest=read())

    def keep(self, page):
        pass

    def before(self, entry):
        return order(entry.path)

    def differs(self, known, present):
        return "size" if known.size != present.size else ""

    def must_read(self, known, present):
        return known.modified != present.modified


NAMES = st.lists(
    st.text("ab.-", min_size=1, max_size=3).filter(lambda name: name not in (".", "..")), min_size=1, max_size=3
)
THINGS = st.dictionaries(
    NAMES.map("/".join),
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([b"1" * 32, b"2" * 32])),
    max_size=30,
)


@given(THINGS, THINGS, st.booleans())
def test_a_comparison_is_exact(before, after, everything):
    objects, place = Objects(MemoryBackend()), Dictionary(before)
    done = register(objects, place)
    assert (done.files, done.bytes) == (len(before), sum(size for size, _, _ in before.values()))
    reader = Reader(objects)
    known = [entry for page in reader.pages(reader.root(done.manifest)) for entry in page.entries]
    assert [entry.path for entry in known] == sorted(before, key=order)
    present: RegisteredPlace = Dictionary(after)
    found = examine(present, iter(known), lambda number: everything)
    read = {
        path for path in before.keys() & after.keys()
        if before[path][0] == after[path][0] and (everything or before[path][1] != after[path][1])
    }  # fmt: skip
    changed = {path for path in before if path not in after or before[path][0] != after[path][0]}
    changed |= {path for path in read if before[path][2] != after[path][2]}
    assert {one.path for one in found.changes} == changed
    assert set(found.new) == after.keys() - before.keys()
    assert (found.files, found.read) == (len(before), len(read))


def test_a_page_that_was_altered_is_found():
    import pytest

    from stillhouse.errors import CorruptObject

    backend = MemoryBackend()
    objects = Objects(backend)
    done = register(objects, Dictionary({"a": (1, 1, b"1" * 32)}))
    reader = Reader(objects)
    page = reader.root(done.manifest).pages[0].digest.replace(":", "-")
    data = bytearray(backend.get(page))
    data[-1] ^= 1
    backend.discard(page)
    backend.put(page, bytes(data))
    with pytest.raises(CorruptObject):
        list(reader.pages(reader.root(done.manifest)))
