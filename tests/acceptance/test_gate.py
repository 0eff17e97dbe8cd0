"""The training-launch gate, the wrapper in the job, and the proxy's log."""

import gzip
import json
import shutil
import sys

import pytest

from tests.acceptance.test_access import import_rival, revoke, rows

JOB = """
import json, sys
from pathlib import Path
import stillhouse
from stillhouse.access.grants import stamp_gate
from stillhouse.nouns import Use
from stillhouse.home.settings import read_settings

with stillhouse.open(sys.argv[1]) as home:
    gate = stamp_gate(home, Use.TRAIN)
"""


@pytest.fixture
def corpora(home):
    """Two datasets, of which one is revoked, exported as files."""
    import_rival(home, rows(home, "january.jsonl", 100, 3), "good", "2026-01-05")
    import_rival(home, rows(home, "february.jsonl", 200, 2), "bad", "2026-02-01")
    home("dataset", "export", "good", "good-out.jsonl")
    home("dataset", "export", "bad", "bad-out.jsonl")
    revoke(home)
    return home


def test_the_gate_is_open_for_what_is_allowed_and_leaves_a_receipt(corpora):
    found = corpora("access", "gate", "good", "good-out.jsonl", "--job", "slurm 4711", "--json").json
    assert found["allowed"]
    assert [one["dataset"] for one in found["datasets"]] == ["good@1", "good@1"]
    assert found["receipt"]["signed_by"] == "home"
    decided = corpora("access", "list", "--json").json["gates"]
    assert [(one["allowed"], one["job"], one["signature"]["by"]) for one in decided] == [(True, "slurm 4711", "home")]


def test_the_gate_is_closed_with_reasons(corpora):
    found = corpora("access", "gate", "good", "bad", "--json", code=3).json
    assert not found["allowed"]
    assert len(found["reasons"]) == 1
    assert "bad: 2 rows: rival: rival revoked access" in found["reasons"][0]
    closed = corpora("access", "gate", "bad-out.jsonl", code=3)
    assert "DENIED" in closed.out


def test_a_file_that_is_no_export_of_this_home_is_refused(corpora):
    """Swapped, appended to, or from somewhere else: its bytes are not those that were written down."""
    good = corpora.folder / "good-out.jsonl"
    shutil.copyfile(corpora.folder / "bad-out.jsonl", good)
    assert "revoked access" in corpora("access", "gate", good, "--json", code=3).json["reasons"][0], (
        "it is known by its bytes"
    )
    good.write_text(good.read_text() + good.read_text())
    found = corpora("access", "gate", good, "--json", code=3).json
    assert "not a recorded export of this home" in found["reasons"][0]
    job = corpora.folder / "linked"
    job.mkdir()
    shutil.copyfile(corpora.folder / "bad-out.jsonl", job / "ours.jsonl")
    (job / "more").symlink_to(corpora.folder)
    assert "is a link" in corpora("access", "gate", job, code=2).err, "a job would follow it"
    (corpora.folder / "job").mkdir()
    assert "holds no file" in corpora("access", "gate", corpora.folder / "job", code=2).err
    assert corpora("access", "gate", "nobody", code=2)


def test_a_closed_home_keeps_the_gate_closed(corpora):
    (corpora.home / "VERSION").write_text("99\n")
    assert corpora("access", "gate", "good", code=None).code != 0


def job(home, more):
    import os
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", JOB + more, str(home.home)], capture_output=True, text=True, cwd=home.folder,
        env={**os.environ, "TQDM_DISABLE": "1"}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_wrapper_passes_allowed_rows_and_stops_at_others(corpora):
    code, out, err = job(
        corpora,
        """
import datasets, torch
good = datasets.load_dataset("json", data_files="good-out.jsonl", split="train")
bad = datasets.load_dataset("json", data_files="bad-out.jsonl", split="train")
print(len(gate.guard(good)))
class Rows(torch.utils.data.Dataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, place): return self.rows[place]
loaded = torch.utils.data.DataLoader(gate.guard(Rows(list(good))), batch_size=None)
print(sum(1 for _ in loaded))
load = lambda rows: list(torch.utils.data.DataLoader(gate.guard(Rows(list(rows))), batch_size=None))
for name, rows in (("hf", lambda: gate.guard(bad)), ("torch", lambda: load(bad)),
                   ("stream", lambda: list(gate.guard(iter([*good, *bad])))), ("bare", lambda: list(gate.rows([{"text": "x"}]))),
                   ("streaming", lambda: list(gate.guard(bad.to_iterable_dataset()))),
                   ("unknown", lambda: gate.check({"stamps": 7})), ("odd", lambda: gate.check("x"))):
    try:
        rows()
    except Exception as failure:
        print(name, type(failure).__name__, failure)
    else:
        print(name, "passed")
""",
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["3", "3"]
    said = {line.split()[0]: line for line in lines[2:]}
    assert set(said) == {"hf", "torch", "stream", "bare", "streaming", "unknown", "odd"}
    assert all("PolicyRefusal" in line for line in said.values()), said
    assert "revoked access" in said["hf"]
    assert "carry no stamps" in said["bare"]
    assert "does not know" in said["unknown"]


def test_columns_are_looked_at_as_a_whole(corpora):
    code, out, err = job(
        corpora,
        """
import pyarrow
from stillhouse.home.ledger import origin_queries
with stillhouse.open(sys.argv[1]) as home:
    ids = list(origin_queries.stamp_sets(home.ledger))
allowed = {id: gate._allows(id) for id in ids}
column = pyarrow.chunked_array([ids, [None, 7], ids[:1]], pyarrow.int64())
print(json.dumps(gate.mask(column).to_pylist() == [*map(allowed.get, ids), False, False, allowed[ids[0]]]))
""",
    )
    assert code == 0, err
    assert out.strip() == "true"


def test_calls_that_are_in_no_record_are_found(home, serve):
    server = serve()
    home.prompts(2)
    home.add_mock(server.url, "mock")
    home("collect", home.recipe())
    now = json.loads(home("status", "--json").out)["counts"]["answers"]
    assert now == 2
    import time

    moment = time.time()
    lines = [
        f"{moment:.3f} 120 10.0.0.5 TCP_TUNNEL/200 900 CONNECT 127.0.0.1:{server.port} - HIER_DIRECT/127.0.0.1 -",
        f"{moment - 86_400:.3f} 120 10.0.0.9 TCP_TUNNEL/200 900 CONNECT 127.0.0.1:{server.port} - HIER_DIRECT/127.0.0.1 -",
        f"{moment:.3f} 55 10.0.0.9 TCP_TUNNEL/200 900 CONNECT api.anthropic.com:443 - HIER_DIRECT/1.2.3.4 -",
        f"{moment:.3f} 55 10.0.0.9 TCP_MISS/200 900 GET http://example.org/ - HIER_DIRECT/1.2.3.4 -",
        json.dumps(
            {"time": "2026-03-01T12:00:00Z", "client": "laptop-7", "host": "openrouter.ai:443", "elapsed_ms": 40}
        ),
        "what is this",
        '{"time": "never", "host": "openrouter.ai"}',
        '{"time": 1e300, "host": "openrouter.ai"}',
        "nan 1 10.0.0.9 TCP_TUNNEL/200 900 CONNECT api.openai.com:443 - HIER_DIRECT/1.2.3.4 -",
        json.dumps({"time": 1772366400000, "client": "laptop-8", "host": "openrouter.ai"}),
        json.dumps(
            {"time": 1772366400000, "client": "laptop-9", "host": "1.2.3.4:443", "server_name": "api.openai.com"}
        ),
    ]
    log = home.write("access.log", "\n".join(lines) + "\n")
    found = home("access", "egress", log, "--json", code=3).json
    assert (found["lines"], found["unreadable"], found["to_teachers"], found["recorded"]) == (11, 4, 6, 1)
    assert {(one["client"], one["host"], one["lab"]) for one in found["unrecorded"]} == {
        ("10.0.0.9", "127.0.0.1", ""),
        ("10.0.0.9", "api.anthropic.com", "anthropic"),
        ("laptop-7", "openrouter.ai", ""),
        ("laptop-8", "openrouter.ai", ""),
        ("laptop-9", "api.openai.com", "openai"),
    }
    clean = home.write("clean.log", lines[0] + "\n")
    home("access", "egress", clean)
    assert home("access", "egress", clean, "--own", "10.0.0.1", code=3), (
        "the same minute, from an address that is not ours"
    )
    assert "cannot be read" in home("access", "egress", "nowhere.log", code=2).err
    whole = gzip.compress(lines[0].encode() * 1000)
    (home.folder / "cut.log.gz").write_bytes(whole[: len(whole) // 2])
    assert "cut off or damaged" in home("access", "egress", home.folder / "cut.log.gz", code=2).err


@pytest.mark.parametrize(
    "line",
    [
        {"ts": 1760000000, "host": "proxy-1", "url": "https://api.openai.com/v1/chat/completions"},
        {"ts": "1760000000", "host": "proxy-1.corp", "sni": "api.openai.com"},
        {"@timestamp": "2025-10-10T10:00:00Z", "host": "proxy-1", "tls": {"client": {"server_name": "api.openai.com"}}},
        {"ts": 1760000000000000, "Host": "api.openai.com:443"},
        {"time": 1760000000000000000, "dst_host": "api.openai.com"},
    ],
)
def test_teachers_are_found_whatever_a_proxy_calls_them(home, line):
    log = home.write("access.log", json.dumps({"client": "10.0.0.1", **line}) + "\n")
    [found] = home("access", "egress", log, "--json", code=3).json["unrecorded"]
    assert (found["host"], found["day"][:7]) == ("api.openai.com", "2025-10")


def test_a_log_of_nothing_is_one_error(home):
    log = home.write("access.log", "what is this\n")
    assert home("access", "egress", log, "--json", code=2).json["error"] == "UsageError"


def test_what_is_in_quarantine_is_not_exported(corpora):
    refused = corpora("dataset", "export", "bad", "again.jsonl", code=3)
    assert "may not be exported to train" in refused.err
    assert not (corpora.folder / "again.jsonl").exists()
    corpora("dataset", "export", "good", "again.jsonl")
