"""Rows of every shape that others leave: what they say, and what they say of where they are from."""

import bz2
import gzip
import json
import lzma
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.datasets.corpora import row_files, row_shapes
from stillhouse.datasets.corpora.inventory import take_inventory, what_is_missing
from stillhouse.datasets.corpora.origins import Declared, stamp_of, stamps_of
from stillhouse.datasets.corpora.row_files import files_of, lines_of
from stillhouse.datasets.corpora.row_shapes import ParsedRow, Skipped, read_row
from stillhouse.errors import CorpusUnreadable
from stillhouse.nouns import Channel, Grade, Message, Origin, Stamp, Use
from stillhouse.permission.decide import Policy
from stillhouse.permission.known_names import lab_of_model
from stillhouse.permission.stamp_sets import stamp_set

ASKED = (Message("user", "Hi"),)
CHAT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
COMPLETION = {
    "id": "gen-1", "model": "anthropic/claude-3.7-sonnet", "created": 1744958002, "object": "chat.completion",
    "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}  # fmt: skip
CURATOR = {
    "response_message": "Hello", "response_errors": None, "raw_response": None, "raw_request": None,
    "generic_request": {"model": "gpt-4o-mini", "messages": [CHAT[0]], "original_row": {}, "original_row_idx": 7},
    "created_at": "2026-01-02T03:04:05", "finished_at": "2026-01-02T03:04:06", "finish_reason": "stop",
}  # fmt: skip
DISTILABEL = {
    "instruction": "Hi", "generation": "Hello", "model_name": "gpt-4o-mini",
    "distilabel_metadata": {"statistics_text_generation_0": {"input_tokens": [3], "output_tokens": [2]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "shape", "model"),
    [
        ({"messages": list(CHAT), "model": "m"}, "chat", "m"),
        ({"messages": list(CHAT), "metadata": {"model": "m"}}, "chat", "m"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, CHAT[1]]}, "chat", ""),
        ({"question": "Hi", "response": COMPLETION}, "raw API responses", "anthropic/claude-3.7-sonnet"),
        ({"messages": [CHAT[0]], "response": COMPLETION}, "raw API responses", "anthropic/claude-3.7-sonnet"),
        (CURATOR, "curator", "gpt-4o-mini"),
        ({**CURATOR, "response_message": None, "raw_response": COMPLETION}, "curator", "anthropic/claude-3.7-sonnet"),
        (DISTILABEL, "distilabel", "gpt-4o-mini"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, "ShareGPT", ""),
        ({"prompt": "Hi", "response": "Hello"}, "columns", ""),
        ({"instruction": "Hi", "input": "", "output": "Hello", "generator": "m"}, "columns", "m"),
        (
            {
                "prompt": "Hi",
                "response": {"content": [{"type": "text", "text": "Hello"}], "model": "claude-x", "usage": {}},
            },
            "raw API responses",
            "claude-x",
        ),
    ],
)
def test_shapes(row, shape, model):
    said = read_row(row)
    assert isinstance(said, ParsedRow), said
    assert (said.messages, said.text, said.shape, said.model) == (ASKED, "Hello", shape, model)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [CHAT[0]]}, "the answer is empty"),
        ({"prompt": "Hi", "response": ""}, "the answer is empty"),
        ({"question": "", "response": COMPLETION}, "there is no question"),
        ({"text": "a page of the web"}, "of no known shape"),
        ({}, "of no known shape"),
        ({"messages": "Hi"}, "of no known shape"),
        ({**CURATOR, "response_message": None}, "the answer is empty"),
        (
            {"prompt": "q", "response": "a", "tool_calls": [{"id": 1}]},
            "a row cannot hold calls of tools and their results yet",
        ),
        (
            {**CURATOR, "generic_request": {**CURATOR["generic_request"], "tools": [{"type": "function"}]}},
            "a row cannot hold definitions of tools yet",
        ),
        (
            {
                "question": "q",
                "raw_response": {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]},
            },
            "a row cannot hold several answers to one question yet",
        ),
        ({"question": "q", "answer": "a", "context": ["c"]}, "a row cannot hold a context of an unknown form yet"),
    ],
)
def test_rows_that_say_nothing_are_skipped_with_a_reason(row, reason):
    assert read_row(row) == Skipped(reason)


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"system": "Latin only.", "messages": [*CHAT]}, ["Latin only.", *(turn["content"] for turn in CHAT[:-1])]),
        ({"system_prompt": "Latin only.", "messages": [*CHAT]}, ["Latin only.", *(turn["content"] for turn in CHAT[:-1])]),
        ({"request": {"system": "Latin only.", "messages": [{"role": "user", "content": "q"}]},
          "response": {"content": [{"type": "text", "text": "a"}], "role": "assistant"}}, ["Latin only.", "q"]),
        ({"instruction": "Who?", "context": "Ann was.", "response": "Ann"}, ["Who?\n\nAnn was."]),
        ({"question": "Who?", "context": "Ann was.", "answer": "Ann"}, ["Who?\n\nAnn was."]),
        ({"instruction": "Who?", "input": "Ann was.", "generation": "Ann"}, ["Who?\n\nAnn was."]),
        ({"prompt": "q", "response": "a", "chat_history": [["x", "y"]]}, ["x", "y", "q"]),
        ({"input": "q", "output": "a"}, ["q"]),
    ],
)  # fmt: skip
def test_what_stands_beside_a_question_is_part_of_it(row, messages):
    assert [message.content for message in read_row(row).messages] == messages


def test_values_that_python_has_no_form_for_cost_their_row(tmp_path):
    import pyarrow
    import pyarrow.parquet

    dates = pyarrow.array([1, 2**30, 2], pyarrow.int32()).cast(pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3], "day": dates}), tmp_path / "a.parquet")
    lines = list(lines_of(tmp_path / "a.parquet"))
    assert [line.row["a"] if line.row else None for line in lines] == [1, None, 3]
    assert "a value cannot be read" in lines[1].problem


def test_a_row_that_is_nested_too_deeply_costs_itself():
    part = {"type": "text", "text": "x"}
    for _ in range(2000):
        part = {"type": "thinking", "thinking": [part]}
    assert isinstance(read_row({"messages": [CHAT[0], {"role": "assistant", "content": [part]}]}), Skipped)


def test_a_long_first_line_that_is_broken_costs_that_line(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "_LARGEST_OBJECT", 2000)
    (tmp_path / "a.jsonl").write_text('{"broken\n' + "".join(f'{{"a": {n}}}\n' for n in range(1000)))
    assert sum(line.row is not None for line in lines_of(tmp_path / "a.jsonl")) == 1000


@pytest.mark.parametrize("length", [900, 1999, 2001, 3_000_000])
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_line_that_is_too_long_costs_itself(tmp_path, monkeypatch, length, end):
    """A file may be one line, so its first may be longer; no other is held in memory to be found too long."""
    monkeypatch.setattr(row_files, "_LARGEST_OBJECT", 4000)
    monkeypatch.setattr(row_files, "_LONGEST_LINE", 1000)
    long = '{"a": "' + "x" * length + '"}'
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{long}\n{{"a": 3}}\n{long}{end}')
    found = [
        (line.number, line.problem.partition(" ")[0], line.row is not None) for line in lines_of(tmp_path / "a.jsonl")
    ]
    fits = length < 990
    wrong = "" if fits else "longer"
    assert found == [(1, "", True), (2, wrong, fits), (3, "", True), (4, wrong, fits)]
    (tmp_path / "b.jsonl").write_text(f'{long}\n{{"a": 3}}\n')
    assert [line.row is not None for line in lines_of(tmp_path / "b.jsonl")] == [length < 3990, True]


def test_links_of_a_folder_are_named(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rows" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "rows" / "nowhere").symlink_to(tmp_path / "gone")
    found = {file.path.name: file.left_out for file in files_of(tmp_path / "rows")}
    assert found == {"a.jsonl": "", "folder": "a link that leads to no file", "nowhere": "a link that leads to no file"}


@given(
    st.dictionaries(
        st.sampled_from(["messages", "response", "question", "conversations", "generic_request", "generation", "prompt"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(["role", "content", "choices", "message", "text", "from", "value", "messages", "model"]),
                inner, max_size=3,
            ),
            max_leaves=8,
        ),
    )
)  # fmt: skip
def test_no_row_breaks_the_reader(row):
    assert isinstance(read_row(row), ParsedRow | Skipped)


def test_what_the_response_names_counts():
    said = read_row(
        {"question": "Hi", "api_provider": "OpenRouter", "response": {**COMPLETION, "provider": "Anthropic"}}
    )
    stamp = stamp_of(said, Declared(lab="somebody", channel=Channel.UNKNOWN, model="other"))
    assert (stamp.lab, stamp.model) == ("anthropic", "anthropic/claude-3.7-sonnet")
    assert (stamp.channel, stamp.provider, stamp.day) == (Channel.INTERMEDIARY, "openrouter > Anthropic", "2025-04-18")
    assert stamp.terms == ("OpenRouter/Terms of Service", "Claude.ai/Commercial Terms")
    assert stamp.grade is Grade.DECLARED
    assert (said.finish, said.usage.completion_tokens) == ("length", 2)
    elsewhere = stamp_of(said._replace(provider="DeepInfra"), Declared())
    assert elsewhere.terms == ("OpenRouter/Terms of Service",), (
        "who hosts another's model does not bind by the lab's terms"
    )


def test_what_nobody_says_stays_unknown():
    said = read_row({"prompt": "Hi", "response": "Hello"})
    stamp = stamp_of(said, Declared())
    assert (stamp.origin, stamp.channel, stamp.grade) == (Origin.UNKNOWN, Channel.UNKNOWN, Grade.UNKNOWN)
    assert what_is_missing(stamp) == (
        "who or what wrote it", "which model", "whose model", "how it was reached", "under which terms", "when",
    )  # fmt: skip
    declared = Declared(Origin.HUMAN, terms=("licence/cc-by-4.0",), day="2026-01-01")
    assert what_is_missing(stamp_of(said, declared)) == ()
    known = stamp_of(said, Declared(lab="l", model="m", channel=Channel.OFFICIAL))
    assert (known.origin, known.grade) == (Origin.TEACHER, Grade.DECLARED)


def test_a_service_that_nobody_knows_is_no_channel():
    said = read_row({"question": "Hi", "api_provider": "somewhere", "response": COMPLETION})
    assert stamp_of(said, Declared(channel=Channel.OFFICIAL)).channel is Channel.UNKNOWN


@pytest.mark.parametrize(
    ("model", "lab"),
    [
        ("gpt-4o", "openai"), ("openai/gpt-oss-120b", "openai"), ("claude-3", "anthropic"), ("x-ai/grok-3", "xai"),
        ("meta-llama/llama-3.1-70b", "meta"), ("Qwen/Qwen3-32B", "qwen"), ("deepseek-ai/R1", "deepseek"),
        ("tngtech/DeepSeek-R1T", "tngtech"), ("openrouter/horizon-beta", ""), ("my-own-model", ""),
    ],
)  # fmt: skip
def test_whose_a_model_is_by_its_name(model, lab):
    assert lab_of_model(model) == lab


def test_the_digest_of_a_stamp_without_a_provider_is_that_of_earlier_versions():
    stamp = Stamp(
        Origin.TEACHER, "l", "m", Channel.OFFICIAL, "", ("licence/mit",), "", "2026-01-01", "train", Grade.DECLARED
    )
    from stillhouse.canon import digest_value

    old = {
        "origin": "teacher", "lab": "l", "model": "m", "channel": "official", "account": "", "terms": ["licence/mit"],
        "region": "", "day": "2026-01-01", "purpose": "train", "grade": "declared",
    }  # fmt: skip
    assert stamp_set([stamp]).digest == digest_value([old])


def test_inventory_adds_up():
    unknown = stamps_of(read_row({"prompt": "Hi", "response": "Hello"}), Declared())
    own = stamps_of(
        read_row({"prompt": "Hi", "response": "Hello"}),
        Declared(Origin.TEACHER, "l", "m", Channel.OPEN_WEIGHTS, ("licence/mit",), "2026-01-01"),
    )
    found = take_inventory(
        {unknown.id: 30, own.id: 10}, {unknown.id: unknown, own.id: own}, Policy(), {"of no known shape": 2}
    )
    assert (found.rows, found.unknown.rows, found.unknown.share) == (40, 30, 0.75)
    for shares in (found.by_origin, found.by_lab, found.by_channel, found.by_provider, *found.by_decision.values()):
        assert sum(share.rows for share in shares) == 40
        assert sum(share.share for share in shares) == pytest.approx(1)
    assert {share.what: share.rows for share in found.by_decision[str(Use.TRAIN)]} == {"denied": 30, "allowed": 10}
    assert [entry.rows for entry in found.triage] == [30], "only what is missing and matters"
    assert found.skipped == {"of no known shape": 2}


# --- files


def test_files_of_every_kind(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"prompt": f"q{n}", "response": f"a{n}"} for n in range(600)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": rows}))
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name, opener in (("stream.arrow", pyarrow.ipc.new_stream), ("file.arrow", pyarrow.ipc.new_file)):
        with (tmp_path / name).open("wb") as sink, opener(sink, table.schema) as writer:
            writer.write_table(table)
    for file in sorted(tmp_path.iterdir()):
        assert [line.row for line in lines_of(file)] == rows, file


def test_folders_as_others_leave_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    saved = tmp_path / "saved"
    datasets.Dataset.from_list([{"prompt": "q", "response": "a"}]).save_to_disk(saved)
    (saved / "beside.jsonl").write_text('{"prompt": "q", "response": "b"}\n')
    assert sorted(row["response"] for row in _read(saved)) == ["a", "b"]
    splits = {split: [{"prompt": split, "response": "a"}] for split in ("train", "test")}
    both = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})
    both.save_to_disk(tmp_path / "both")
    found = sorted(row["prompt"] for row in _read(tmp_path / "both"))
    assert found == ["test", "train"]
    curator = tmp_path / "curator"
    curator.mkdir()
    for name in (
        "requests_0.jsonl",
        "responses_0.jsonl",
        "responses_1.jsonl",
        "failed_requests.jsonl",
        "metadata_0.json",
    ):
        (curator / name).write_text(json.dumps(CURATOR) + "\n")
    read = [file.path.name for file in files_of(curator) if not file.left_out]
    assert read == ["responses_0.jsonl", "responses_1.jsonl"]


def _read(folder):
    return [line.row for file in files_of(folder) if not file.left_out for line in lines_of(file.path)]


@pytest.mark.parametrize(
    ("name", "data", "read", "says"),
    [
        ("a.jsonl", b'{"a": 1}\n{"b', 1, "not JSON"),
        ("a.jsonl", b'{"a": 1}\n{"b\n{"a": 2}\n', 2, "not JSON"),
        ("a.jsonl", b'[1]\n{"a": 1}\n', 1, "not a JSON object"),
        ("a.jsonl", b'[]\n{"a": 1}\n{"a": 2}\n', 2, "not a JSON object"),
        ("a.json", b'[{"a": 1},\n{"a": 2\n', 0, "not JSON"),
        ("a.csv", b"a,b\n1,2\nS\xe3o,2\n3,4\n", 2, "not UTF-8"),
        ("a.json", b'{"train": [{"a": 1}], "test": [{"a": 2}, {"a": 3}]}', 1, "it stands under 'test'"),
        ("a.jsonl", b'{"a": "\xff"}\n{"a": 1}\n', 1, "not UTF-8"),
        ("a.json", b"{", 0, "not JSON"),
        ("a.json", b'[1, {"a": 2}]', 1, "not a JSON object"),
        ("a.jsonl.gz", b"not gzip", 0, "not JSON"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd but not zstd", 0, "cannot be read any further"),
        ("a.parquet", b"PAR1 but not really", 0, "cannot be read any further"),
        ("a.arrow", b"ARROW1 but not really", 0, "cannot be read any further"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n3,4\n", 2, "another number of columns"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}\n{"a": 1}\n', 1, "not JSON"),
    ],
)
def test_what_is_broken_costs_itself_alone_and_is_named(tmp_path, name, data, read, says):
    (tmp_path / name).write_bytes(data)
    lines = list(lines_of(tmp_path / name))
    assert sum(line.row is not None for line in lines) == read
    assert says in next(line.problem for line in lines if line.row is None)


def test_a_packed_file_that_is_cut_off_gives_what_it_has(tmp_path):
    rows = b"".join(b'{"a": "%s"}\n' % os.urandom(200).hex().encode() for _ in range(2000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows)[:-9000])
    *read, last = lines_of(tmp_path / "a.jsonl.gz")
    assert 1000 < sum(line.row is not None for line in read) < 2000
    assert "cannot be read any further" in last.problem


@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "ROWS.JSONL.GZ", "rows.json.zst", "rows"])
def test_a_file_is_what_its_bytes_say(tmp_path, name, pack):
    lines = b'{"a": 1}\n{"a": 2}\n'
    (tmp_path / name).write_bytes(pack(lines) if pack else lines)
    assert [line.row for line in lines_of(tmp_path / name)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"data": [{"a": 1}]}', [{"a": 1}]),
        ('{"messages": [{"role": "user"}]}', [{"messages": [{"role": "user"}]}]),
        ('{\n  "version": 1,\n  "rows": [{"a": 1}, {"a": 2}]\n}\n', [{"a": 1}, {"a": 2}]),
        ('{\n "a": 1\n}', [{"a": 1}]),
        ("  [\n{}\n]", [{}]),
    ],
)
def test_one_object_and_what_it_holds(tmp_path, text, rows):
    (tmp_path / "a.json").write_text(text)
    assert [line.row for line in lines_of(tmp_path / "a.json")] == rows


def test_several_frames_and_a_long_window(tmp_path):
    row = b'{"a": "' + os.urandom(8 << 20).hex().encode() + b'"}\n'
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, enable_ldm=True)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    long = packed.compress(row) + packed.flush()
    (tmp_path / "a.jsonl.zst").write_bytes(long + zstandard.compress(b'{"a": 1}\n'))
    assert len(list(lines_of(tmp_path / "a.jsonl.zst"))) == 2


def test_every_file_of_a_folder_is_read_or_named(tmp_path):
    row = b'{"prompt": "q", "response": "a"}\n'
    for name in ("pipeline_a", "state_a", "failed_a", "metadata_a", "requests_a", "stages_a", "dataset_info_a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(row)
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(row))
    (tmp_path / "d.csv").write_text("prompt,response\nq,a\n")
    (tmp_path / "README.md").write_text("# about\n")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.jsonl").write_bytes(row)
    found = {file.path.name: file.left_out for file in files_of(tmp_path)}
    assert {name for name, why in found.items() if not why} == {
        "pipeline_a.jsonl", "state_a.jsonl", "failed_a.jsonl", "metadata_a.jsonl", "requests_a.jsonl", "stages_a.jsonl",
        "dataset_info_a.jsonl", "b.jsonl", "c.json.gz", "d.csv",
    }  # fmt: skip
    assert "no format" in found["README.md"]
    assert (found["empty.jsonl"], found["old.jsonl"]) == ("it is empty", "hidden")


def test_nothing_there(tmp_path):
    with pytest.raises(CorpusUnreadable, match="does not exist"):
        files_of(tmp_path / "nowhere")
    with pytest.raises(CorpusUnreadable, match="holds no file with rows"):
        files_of(tmp_path)


def packed_tables(folder):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["a", "b"], "response": ["c", "d"]})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    for name, writer in (("b.arrow", pyarrow.ipc.new_file), ("c.arrow", pyarrow.ipc.new_stream)):
        with writer(folder / name, table.schema) as to:
            to.write_table(table)
    return [folder / name for name in ("a.parquet", "b.arrow", "c.arrow")]


@pytest.mark.parametrize("packing", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_tables_are_read_packed(tmp_path, packing):
    for path in packed_tables(tmp_path):
        assert [line.row["prompt"] for line in lines_of(path)] == ["a", "b"]
        path.write_bytes(packing(path.read_bytes()))
        assert [line.row["prompt"] for line in lines_of(path) if line.row] == ["a", "b"], path


def test_json_lines_by_the_name_of_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('{"prompt": "a", "response": "b"}\n')
    assert [line.row for line in lines_of(path)] == [{"prompt": "a", "response": "b"}]


def test_every_name_of_a_folder_is_read_or_named(tmp_path):
    (tmp_path / "blank.jsonl").write_text("\n" * 20_000 + '{"prompt": "a", "response": "b"}\n')
    (tmp_path / "empty.jsonl").write_text("\n" * 20_000)
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    found = {file.path.name: file.left_out for file in files_of(tmp_path)}
    assert found == {
        "blank.jsonl": "", "empty.jsonl": "it is empty", "pipe": "neither a file nor a folder",
        "dangling.jsonl": "a link that leads to no file", "loop.jsonl": "a link that leads to no file",
    }  # fmt: skip
    assert len(list(lines_of(tmp_path / "blank.jsonl"))) == 1


WORDS = st.sampled_from(["", "a", "hello there", "<think>x</think> y", "\ud800", "é"])
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "human", "tool", "", None]),
     "content": WORDS | st.none() | st.just([{"type": "text", "text": "part"}])},
    optional={"name": WORDS, "reasoning_content": WORDS},
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {"messages": st.lists(TURNS, max_size=4)},
    optional={
        "model": st.sampled_from(["gpt-4o", "", None, 3, "x"]),
        "id": st.integers(),
        "finish_reason": st.sampled_from(["stop", "length"]),
        "tools": st.just([{"a": 1}]),
        "metadata": st.just({"model": "claude-3"}),
        "timestamp": st.just(1_750_000_000),
        "image": st.just("x.png"),
        **dict.fromkeys(("system", "answer", "thinking", "provider", "context"), WORDS),
    },
)


@given(ROWS)
def test_plain_chats_are_read_as_all_others_are(row):
    """What most rows take as a short cut leads to the same."""
    fast = read_row(row)
    try:
        row_shapes._plain_chat, kept = lambda row: None, row_shapes._plain_chat
        assert read_row(row) == fast
    finally:
        row_shapes._plain_chat = kept
