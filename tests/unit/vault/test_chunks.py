"""Where bytes are cut."""

import io
import json
import os
import random
import struct

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.vault import chunks

CUTTERS = {"lines": chunks.cut_lines, "rolling": chunks.cut_rolling}


def cut_in_pieces(cutter, data: bytes, sizes: list[int]) -> list[int]:
    """All cuts of some bytes that come in pieces, as a snapshot reads them."""
    cuts, base, carried, place = [], 0, b"", 0
    sizes = [*sizes, len(data)]
    while True:
        size = sizes.pop(0) if sizes else len(data)
        piece, place = data[place : place + size], place + size
        last = place >= len(data)
        buffer = memoryview(carried + piece)
        found = cutter(buffer, last)
        cuts += [base + cut for cut in found]
        carried = bytes(buffer[found[-1] :]) if found else bytes(buffer)
        base = cuts[-1] if cuts else 0
        if last:
            return cuts


@pytest.mark.parametrize("name", CUTTERS)
@given(st.binary(max_size=3000), st.integers(1, 60))
def test_cuts_ascend_and_cover_everything(name, data, repeats):
    data = data * repeats
    cuts = CUTTERS[name](memoryview(data), True)
    assert cuts == sorted(set(cuts))
    assert (cuts[-1] if cuts else 0) == len(data)
    assert 0 not in cuts


@given(st.lists(st.text(max_size=4000), max_size=40))
def test_lines_are_never_cut_apart(lines):
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    cuts = chunks.cut_lines(memoryview(data), True)
    assert all(data[cut - 1 : cut] == b"\n" for cut in cuts)


def test_long_lines_are_chunks_of_their_own():
    lines = [json.dumps({"n": n, "text": "x" * 3000}) + "\n" for n in range(50)]
    data = "".join(lines).encode()
    assert len(chunks.cut_lines(memoryview(data), True)) == 50


def test_an_edit_leaves_the_chunks_of_other_records_as_they_were():
    draw = random.Random(1)
    lines = [json.dumps({"n": n, "text": draw.randbytes(draw.randint(10, 1500)).hex()}) + "\n" for n in range(2000)]

    def parts(lines):
        data = "".join(lines).encode()
        cuts = chunks.cut_lines(memoryview(data), True)
        return {data[start:end] for start, end in zip([0, *cuts], cuts, strict=False)}

    before = parts(lines)
    for n in range(0, 2000, 100):
        lines[n] = json.dumps({"n": n, "text": "edited"}) + "\n"
    lines.insert(1234, '{"n": "new"}\n')
    new = parts(lines) - before
    assert sum(map(len, new)) < 0.05 * sum(map(len, lines))


@pytest.mark.parametrize("size", [chunks.LARGEST, chunks.LARGEST + 1, 3 * chunks.LARGEST])
def test_a_line_without_an_end_is_bounded(size):
    data = memoryview(b"a" * size)
    cuts = chunks.cut_lines(data, True)
    assert max(end - start for start, end in zip([0, *cuts], cuts, strict=False)) <= chunks.LARGEST
    assert cuts[-1] == size


@pytest.mark.parametrize("name", CUTTERS)
def test_pieces_are_cut_like_the_whole(name):
    """A file is read in pieces of one size, so the same file is always cut alike; in pieces of others lines are, too."""
    draw = random.Random(3)
    data = b"".join(draw.randbytes(draw.randint(1, 4000)).replace(b"\n", b"") + b"\n" for _ in range(2000))
    cutter = CUTTERS[name]
    whole = cutter(memoryview(data), True)
    pieces = cut_in_pieces(cutter, data, [1_000_000] * 4)
    assert pieces[-1] == whole[-1]
    assert len(set(whole) - set(pieces)) <= 6


def test_tensors_are_cut_where_they_begin():
    header = {"a": {"dtype": "U8", "shape": [7000], "data_offsets": [0, 7000]}}
    header |= {"b": {"dtype": "U8", "shape": [3000], "data_offsets": [7000, 10000]}, "__metadata__": {"x": "y"}}
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + os.urandom(10000)
    cutter = chunks.cutter_for(io.BytesIO(data), len(data))
    assert cutter(memoryview(data), True) == [8 + len(text), 8 + len(text) + 7000, len(data)]


def written_gguf(path, alignment):
    """A file as the format's own library writes it, and where its tensors lie by the library's own reader."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    writer.add_token_list(["a", "word", "\u00e9"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("nested", [[1, 2], [3]]) if alignment > 32 else writer.add_bool("flag", True)
    for name in "abc":
        writer.add_tensor(name, numpy.frombuffer(os.urandom(4 * 2500), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [tensor.data_offset for tensor in gguf.GGUFReader(path).tensors]


@pytest.mark.parametrize("alignment", [32, 256])
def test_gguf_is_cut_at_its_tensors(tmp_path, alignment):
    path = tmp_path / "model.gguf"
    starts = written_gguf(path, alignment)
    data = path.read_bytes()
    with open(path, "rb", buffering=0) as file:
        cutter = chunks.cutter_for(file, len(data))
        assert file.tell() == 0 and not file.closed
    cuts = cutter(memoryview(data), True)
    assert [cut for cut in cuts if cut != len(data)] == starts and len(starts) == 3


def test_millions_of_parts_cost_no_time_and_no_chunks():
    """A file may say anything: that its parts are a byte each, too."""
    count = 200_000
    data = b"GGUF" + struct.pack("<IQQ", 3, count, 0)
    data += b"".join(struct.pack("<QIIQ", 0, 0, 0, n) for n in range(count)) + os.urandom(count)
    cuts = chunks.cutter_for(io.BytesIO(data), len(data))(memoryview(data), True)
    assert cuts[-1] == len(data) and len(cuts) < len(data) / 4096


@given(st.integers(0, 400), st.binary(max_size=30))
def test_a_damaged_header_of_gguf_is_cut_somehow(place, damage):
    strings = b"".join(struct.pack("<Q", 4) + b"name" for _ in range(5))
    data = (
        b"GGUF" + struct.pack("<IQQ", 3, 2, 1) + struct.pack("<Q", 4) + b"name" + struct.pack("<IIQ", 9, 8, 5) + strings
    )
    data += b"".join(struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 8, 0, n) for n in (0, 32)) + os.urandom(100)
    broken = data[:place] + damage + data[place + len(damage) :]
    cuts = chunks.cutter_for(io.BytesIO(broken), len(broken))(memoryview(broken), True)
    assert cuts[-1] == len(broken) and cuts == sorted(set(cuts))


def test_parquet_is_cut_at_its_column_chunks():
    table = pyarrow.table({"a": list(range(40_000)), "b": [str(n) for n in range(40_000)]})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, row_group_size=10_000)
    data = buffer.getvalue()
    file = io.BytesIO(data)
    cutter = chunks.cutter_for(file, len(data))
    assert file.tell() == 0
    cuts = cutter(memoryview(data), True)
    assert len(cuts) == 1 + 8 + 1  # the magic, four groups of two columns, the footer
    assert cuts[-1] == len(data)


@pytest.mark.parametrize(
    "head",
    [b"PAR1", b"PAR1" + b"x" * 100, struct.pack("<Q", 50) + b"{not json" + b"x" * 100, struct.pack("<Q", 2) + b"{}"],
)
def test_what_only_looks_like_a_known_format_is_cut_somehow(head):
    cutter = chunks.cutter_for(io.BytesIO(head), len(head))
    assert cutter(memoryview(head), True)[-1] == len(head)
