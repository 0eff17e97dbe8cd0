"""Single entries of the log by position: what ``Log.read`` gives, however they are asked for, whatever happens meanwhile."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import CorruptLog, CorruptObject
from stillhouse.vault import entry_reader, writer
from stillhouse.vault.entry_reader import EntryReader
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from stillhouse.vault.writer import Position


def written(log):
    return {entry.position: entry.payload for name in log.writers() for entry in log.read(name)}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=300)), min_size=1, max_size=60),
    st.integers(200, 3000),
    st.randoms(),
    st.integers(1, 5),
)
def test_entries_are_those_that_were_written(tmp_path_factory, appended, segment_bytes, order, looks):
    """Several chains and segments; looked at while they grow, in any order, with room for one pack."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(entry_reader, "_KEPT_BYTES", 1)
    log = Log(tmp_path_factory.mktemp("log"), Objects(MemoryBackend()), segment_bytes)
    reader = EntryReader(log)
    with monkeypatch.context(), log.writer() as first, log.writer() as second:
        for number, (which, payload) in enumerate(appended):
            (first, second)[which].append(payload)
            if number % looks == 0:
                expected = written(log)
                places = list(expected)
                order.shuffle(places)
                assert list(reader.payloads(places)) == [expected[place] for place in places]
    expected = written(log)
    assert list(reader.payloads(expected)) == list(expected.values())
    reader.close()


def test_a_segment_that_was_sealed_meanwhile_stays_readable(tmp_path):
    log = Log(tmp_path / "log", Objects(LocalBackend(tmp_path / "objects")), 2000)
    with log.writer() as own:
        own.append(b"first")
        reader = EntryReader(log)
        assert list(reader.payloads([Position("w0000", 0)])) == [b"first"]
        for _ in range(100):
            own.append(random.randbytes(100))
        assert len(log.packs("w0000")) > 2
        expected = written(log)
        assert list(reader.payloads(expected)) == list(expected.values())


@pytest.mark.parametrize("alike", [True, False])
def test_large_packs(tmp_path, alike):
    """Packs are compressed in blocks: the first one is larger than the header that is looked for in it."""
    log = Log(tmp_path / "log", Objects(LocalBackend(tmp_path / "objects")), 1 << 20)
    with log.writer() as own:
        for number in range(100):
            own.append(b"%d" % number + (b"x" * 50_000 if alike else random.randbytes(50_000)))
    assert len(log.packs("w0000")) > 2
    expected = written(log)
    assert list(EntryReader(log).payloads(expected)) == list(expected.values())


def test_an_entry_that_is_longer_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(entry_reader, "_SCANNED", 256)
    log = Log(tmp_path / "log", Objects(MemoryBackend()))
    with log.writer() as own:
        for size in (10, 5000, 10, 244 - 32, 212, 0, 9000):
            own.append(b"x" * size)
        expected = written(log)
        assert list(EntryReader(log).payloads(reversed(expected))) == list(reversed(expected.values()))


def test_what_is_not_there_is_told(tmp_path):
    log = Log(tmp_path / "log", Objects(MemoryBackend()))
    with log.writer() as own:
        own.append(b"one")
        for position in (Position("w0000", 1), Position("w0001", 0)):
            with pytest.raises(CorruptLog, match=r"no entry 1 of w0000|no writer w0001"):
                list(EntryReader(log).payloads([position]))


def test_damage_is_told(tmp_path):
    objects = Objects(LocalBackend(tmp_path / "objects"))
    log = Log(tmp_path / "log", objects, 1000)
    with log.writer() as own:
        for number in range(30):
            own.append(b"entry %d " % number * 10)
    (open_segment,) = writer.segments(tmp_path / "log" / "w0000")
    path = tmp_path / "log" / "w0000" / open_segment
    expected = written(log)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match="checksum"):
        list(EntryReader(log).payloads([list(expected)[-1]]))
    pack = next(path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-1] + b"?")
    with pytest.raises((CorruptLog, CorruptObject)):
        list(EntryReader(log).payloads(expected))
