"""Writers and readers of the log, with real files and real processes."""

import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import pytest
import zstandard

from stillhouse import interrupts
from stillhouse.errors import CorruptLog, CorruptObject, StorageError
from stillhouse.vault import writer as writer_module
from stillhouse.vault.checkpoints import audit, load_checkpoints, save_checkpoint
from stillhouse.vault.durability import Durability
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from stillhouse.vault.writer import Position


def open_log(root: Path, segment_bytes: int = 1 << 20) -> Log:
    return Log(root / "log", Objects(LocalBackend(root / "objects")), segment_bytes)


def payloads(log: Log, writer: str = "w0000", start: int = 0) -> list[bytes]:
    return [entry.payload for entry in log.read(writer, start)]


@pytest.fixture
def log(tmp_path):
    return open_log(tmp_path)


def test_entries_are_counted_over_segments_writers_and_a_torn_tail(tmp_path):
    log = open_log(tmp_path, segment_bytes=500)
    assert log.count() == 0
    with log.writer() as one, log.writer() as other:
        for number in range(40):
            (one if number % 3 else other).append(b"%d" % number)
    assert log.count() == sum(head.count for head in log.heads()) == 40
    segment = sorted((tmp_path / "log" / "w0000").glob("*.segment"))[-1]
    segment.write_bytes(segment.read_bytes()[:-5])
    assert log.count() == 39


def test_append_and_read(log):
    with log.writer() as writer:
        assert writer.append(b"a") == Position("w0000", 0)
        assert writer.append_many([b"b", b"c"]) == [Position("w0000", 1), Position("w0000", 2)]
        assert payloads(log) == [b"a", b"b", b"c"], "readers see what is appended at once"
    assert payloads(log, start=2) == [b"c"]
    with log.writer() as writer:
        assert writer.append(b"d") == Position("w0000", 3)
    assert [head.count for head in log.heads()] == [4]
    assert log.count() == 4


def test_power_durability(log):
    with log.writer(Durability.POWER) as writer:
        threads = [threading.Thread(target=lambda n=n: writer.append(b"%d" % n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(payloads(log)) == [b"%d" % n for n in range(8)]


def test_each_process_has_a_writer_of_its_own(log):
    with log.writer() as first, log.writer() as second:
        assert (first.name, second.name) == ("w0000", "w0001")
        first.append(b"a")
        second.append(b"b")
    with log.writer() as again:
        assert again.name == "w0000", "a writer that nobody holds is taken up again"
    assert (payloads(log), payloads(log, "w0001")) == ([b"a"], [b"b"])


def _append_many(root: str, count: int, name: str) -> None:
    with open_log(Path(root), 4096).writer() as writer:
        for number in range(count):
            writer.append(f"{name} {number} {'x' * 50}".encode())


def test_many_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(str(tmp_path), 300, str(n))) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    log = open_log(tmp_path)
    everything = [payload for writer in log.writers() for payload in payloads(log, writer)]
    assert len(everything) == len(set(everything)) == 900
    assert not audit(log, []).problems


def test_segments_are_sealed_into_objects_and_read_back(tmp_path):
    log = open_log(tmp_path, 1000)
    expected = [b"%d" % number * 50 for number in range(200)]
    with log.writer() as writer:
        for payload in expected:
            writer.append(payload)
    assert len(list((tmp_path / "objects").rglob("blake3-*"))) > 5
    assert len(list((tmp_path / "log" / "w0000").glob("*.segment"))) == 1
    assert payloads(log) == expected
    assert payloads(log, start=150) == expected[150:]
    pack = next((tmp_path / "objects").rglob("blake3-*"))
    pack.unlink()
    with pytest.raises(CorruptObject):
        payloads(log)


def test_a_kill_between_sealing_and_removing_changes_nothing(tmp_path):
    log = open_log(tmp_path, 1000)
    folder = tmp_path / "log" / "w0000"
    with log.writer() as writer:
        writer.append(b"a" * 500)
        old = next(folder.glob("*.segment"))
        writer.append(b"b" * 600)
    pack = next((tmp_path / "objects").rglob("blake3-*"))
    old.write_bytes(zstandard.ZstdDecompressor().decompress(pack.read_bytes(), max_output_size=1 << 20))
    assert payloads(log) == [b"a" * 500, b"b" * 600]
    with log.writer() as writer:
        writer.append(b"c")
    assert len(list(folder.glob("*.segment"))) == 1
    assert payloads(log) == [b"a" * 500, b"b" * 600, b"c"]


def test_a_segment_that_is_not_the_one_before_is_never_removed(tmp_path):
    log = open_log(tmp_path, 1000)
    folder = tmp_path / "log" / "w0000"
    with log.writer() as writer:
        writer.append(b"a" * 500)
        old = next(folder.glob("*.segment"))
        kept = old.read_bytes()
        writer.append(b"b" * 600)
    old.write_bytes(kept)
    with pytest.raises(CorruptLog, match="is not the segment before"):
        log.writer()
    assert old.exists()


@pytest.mark.parametrize("broken", ["put", "unlink", "write_whole"])
def test_a_seal_that_fails_loses_nothing(tmp_path, monkeypatch, broken):
    log = open_log(tmp_path, 500)

    def refuse(*arguments, **options):
        raise OSError(24, "Too many open files")

    with log.writer() as writer:
        target = {"put": Objects, "unlink": writer_module.os, "write_whole": writer_module}[broken]
        monkeypatch.setattr(target, broken, refuse)
        for number in range(40):
            writer.append(b"%02d" % number * 20)
        monkeypatch.undo()
        writer.append(b"last")
    assert payloads(log) == [b"%02d" % number * 20 for number in range(40)] + [b"last"]
    with log.writer() as writer:
        writer.append(b"more")
    assert payloads(log)[-2:] == [b"last", b"more"]
    assert not audit(log, []).problems


def test_what_an_interrupted_append_left_is_taken_up(tmp_path, log):
    """Nobody counted it, but it stands in the file, whole: so it is an entry, and the next one follows it."""
    with log.writer() as writer:
        writer.append(b"first")
        end = writer._end
        writer.append(b"uncounted")
        writer._end = end
        writer.append(b"second")
        os.write(writer._file, b"\x05\x00\x00\x00\xfa")
        writer.append(b"third")
    assert payloads(log) == [b"first", b"uncounted", b"second", b"third"]
    assert not audit(log, []).problems


def test_interrupts_wait_until_an_append_is_done(tmp_path):
    """Signals at random moments of real appends and seals: nothing that was acknowledged is missing, nothing is torn."""
    log = open_log(tmp_path, 3000)
    acknowledged: list[bytes] = []
    luck = random.Random(1)
    before = signal.signal(signal.SIGALRM, interrupts.handle)
    struck = 0
    try:
        with log.writer() as writer:
            for round_ in range(100):
                try:
                    signal.setitimer(signal.ITIMER_REAL, luck.uniform(0.00005, 0.002))
                    for number in range(200):
                        payload = b"%d/%d" % (round_, number)
                        with interrupts.shielded():
                            writer.append(payload)
                            acknowledged.append(payload)
                except KeyboardInterrupt:
                    struck += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck > 20
    assert payloads(log) == acknowledged
    assert not audit(log, []).problems


def test_a_torn_tail_is_cut_kept_and_reported(tmp_path, log):
    with log.writer() as writer:
        writer.append(b"first")
        writer.append(b"second")
    segment = next((tmp_path / "log" / "w0000").glob("*.segment"))
    segment.write_bytes(segment.read_bytes()[:-7])
    assert payloads(log) == [b"first"]
    with log.writer() as writer:
        assert writer.torn is not None
        assert (writer.torn.entry, Path(writer.torn.kept_in).stat().st_size) == (1, writer.torn.bytes)
        writer.append(b"third")
    assert payloads(log) == [b"first", b"third"]
    assert not audit(log, []).problems


def test_damage_in_the_middle_is_not_taken_for_a_torn_tail(tmp_path, log):
    with log.writer() as writer:
        writer.append_many([b"first", b"second"])
    segment = next((tmp_path / "log" / "w0000").glob("*.segment"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"first")] ^= 1
    segment.write_bytes(bytes(data))
    with pytest.raises(CorruptLog, match="checksum"):
        payloads(log)
    with pytest.raises(CorruptLog, match="checksum"):
        log.writer()


def test_a_failed_write_leaves_nothing(log, monkeypatch):
    with log.writer() as writer:
        writer.append(b"good")
        real, calls = os.write, iter(range(100))

        def failing(descriptor, data):
            if next(calls) == 0:
                return real(descriptor, bytes(data)[:5])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(StorageError, match="No space left"):
            writer.append(b"lost")
        monkeypatch.setattr(os, "write", real)
        writer.append(b"after")
    assert payloads(log) == [b"good", b"after"]


def test_after_a_failed_fsync_nothing_is_accepted(log, monkeypatch):
    writer = log.writer(Durability.POWER)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(StorageError, match="durable"):
        writer.append(b"a")
    with pytest.raises(StorageError, match="durable"):
        writer.append(b"b")
    monkeypatch.undo()
    with pytest.raises(StorageError, match="durable"):
        writer.close()
    log.writer().close()


def test_a_commit_that_cannot_even_begin_is_a_failure_too(log, monkeypatch):
    writer = log.writer(Durability.POWER)

    def refuse(descriptor):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    with pytest.raises(StorageError, match="Too many open files"):
        writer.append(b"a")
    monkeypatch.undo()
    with pytest.raises(StorageError, match="durable"):
        writer.close()


def test_following_reads_only_what_is_new(tmp_path):
    log, writer_log = open_log(tmp_path, 2000), open_log(tmp_path, 2000)
    seen: list[bytes] = []
    with writer_log.writer() as writer:
        for number in range(60):
            writer.append(b"%d" % number * 40)
            if number % 7 == 0:
                seen += [entry.payload for entry in log.follow("w0000", len(seen))]
        seen += [entry.payload for entry in log.follow("w0000", len(seen))]
    assert seen == [b"%d" % number * 40 for number in range(60)]


class TestCheckpoints:
    """What a checkpoint kept elsewhere proves."""

    @pytest.fixture
    def checked(self, tmp_path, log):
        with log.writer() as writer:
            writer.append_many([b"first", b"second"])
            save_checkpoint(log, "2026-01-01T00:00:00Z", tmp_path / "elsewhere")
            writer.append(b"third")
        return load_checkpoints(tmp_path / "elsewhere")

    def test_consistent(self, log, checked):
        proof = audit(log, checked)
        assert (proof.entries, proof.covered, proof.problems) == (3, 2, ())

    def test_a_rewritten_log_is_found_out(self, tmp_path, log, checked):
        for file in (tmp_path / "log" / "w0000").glob("*.segment"):
            file.unlink()
        with log.writer() as writer:
            writer.append_many([b"first", b"forged", b"third"])
        assert not audit(log, []).problems, "without the checkpoint nobody could tell"
        assert "is not the one of the checkpoint" in audit(log, checked).problems[0]

    def test_a_shortened_log_is_found_out(self, tmp_path, log, checked):
        for file in (tmp_path / "log" / "w0000").glob("*.segment"):
            file.unlink()
        with log.writer() as writer:
            writer.append(b"first")
        assert "1 entries, but the checkpoint" in audit(log, checked).problems[0]

    def test_a_missing_writer_is_found_out(self, tmp_path, log, checked):
        (tmp_path / "log" / "w0000").rename(tmp_path / "gone")
        assert "0 entries, but the checkpoint" in audit(log, checked).problems[0]

    def test_a_torn_checkpoint_is_an_error(self, tmp_path, checked):
        file = next((tmp_path / "elsewhere").iterdir())
        file.chmod(0o644)
        file.write_bytes(b"{")
        with pytest.raises(CorruptLog, match="cannot be read"):
            load_checkpoints(tmp_path / "elsewhere")


def test_an_append_that_was_taken_back_after_it_was_read(tmp_path):
    """Another process read a whole frame of an append that then failed: it may not go on from there."""
    objects = Objects(MemoryBackend())
    one, other = (Log(tmp_path / "log", objects) for _ in range(2))
    with one.writer() as own:
        own.append(b"first")
        (segment,) = (tmp_path / "log" / "w0000").glob("*.segment")
        size = segment.stat().st_size
        own.append(b"taken back")
    assert [entry.payload for entry in other.follow("w0000", 0)] == [b"first", b"taken back"]
    with segment.open("r+b") as file:
        file.truncate(size)
    with one.writer() as own:
        own.append(b"other text")
    with other.writer() as own:
        own.append(b"last")
    assert [entry.payload for entry in Log(tmp_path / "log", objects).read("w0000")] == [
        b"first",
        b"other text",
        b"last",
    ]


def test_a_segment_is_sealed_at_so_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "SEGMENT_ENTRIES", 10)
    log = Log(tmp_path / "log", Objects(MemoryBackend()))
    for start in range(0, 100, 25):  # by several processes, each of which begins where the one before ended
        with log.writer() as own:
            for number in range(start, start + 25):
                own.append(b"%d" % number)
    assert len(log.packs("w0000")) >= 9
    assert [entry.payload for entry in log.read("w0000")] == [b"%d" % number for number in range(100)]
