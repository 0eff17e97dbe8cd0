"""What sacct writes, with every trap that its readers fell into."""

import contextlib
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.compute.importers.gres import gpus_of_gres, gpus_of_tres, nodes_of
from stillhouse.compute.importers.slurm_jobs import FIELDS, read_json, read_parsable
from stillhouse.compute.readings import PARTS, Ended, together
from stillhouse.errors import CorpusUnreadable


def line(**values):
    given = {
        "JobIDRaw": "1",
        "JobID": "1",
        "User": "ann",
        "Account": "vision",
        "Partition": "h100",
        "State": "COMPLETED",
        "Submit": "2026-06-01T00:00:00",
        "Eligible": "2026-06-01T00:00:00",
        "Start": "2026-06-01T01:00:00",
        "End": "2026-06-01T02:00:00",
        "ElapsedRaw": "3600",
        "AllocTRES": "gres/gpu=8",
    }
    return "|".join((given | values).get(name, "") for name in FIELDS)


def read(*lines, **more):
    return read_parsable([one + "\n" for one in lines], "pool", **more)


def only(readings):
    assert readings.jobs.height == 1, readings.left_out
    return readings.jobs.row(0, named=True)


@pytest.mark.parametrize(
    "tres,gpus",
    [
        ("billing=8,cpu=96,gres/gpu:h100=8,gres/gpu=8,mem=1T,node=1", 8),
        ("gres/gpu:h100=4,gres/gpu:a100=2,gres/gpu=6", 6),
        ("gres/gpu:h100=4", 4),
        ("gres/gpu=8", 8),
        ("gres/gpu:1g.10gb=7,gres/gpu=7", 1),
        ("gres/gpu:a100_3g.20gb=2", 6 / 7),
        ("gres/gpu=4,gres/gpu:h100=2", 4),
        ("cpu=4,mem=8G", 0),
        ("", 0),
        ("gres/gpumem=1,gres/gpuutil=5", 0),
    ],
)
def test_gpus_are_counted_once(tres, gpus):
    assert gpus_of_tres(tres).parts == gpus * PARTS


@pytest.mark.parametrize(
    "gres,gpus",
    [
        ("gpu:h100:8(S:0-1)", 8),
        ("gpu:8", 8),
        ("gpu:a100:4(S:0,1),nvme:1", 4),
        ("(null)", 0),
        ("gpu:1g.10gb:7", 1),
        ("", 0),
    ],
)
def test_gpus_of_a_node(gres, gpus):
    assert gpus_of_gres(gres).parts == gpus * PARTS


def test_nodes_are_expanded():
    assert nodes_of("gpu[01-03,7],login1") == ("gpu01", "gpu02", "gpu03", "gpu7", "login1")
    assert nodes_of("r[1-2]n[1-2]") == ("r1n1", "r1n2", "r2n1", "r2n2")
    assert nodes_of("None assigned") == ()


def test_a_bar_in_free_text_moves_no_column():
    job = only(read(line(Comment="a | b || c", WCKey="llm")))
    assert job["parts"] == 8 * PARTS and job["project"] == "llm"
    heading = "JobID|JobName|State|Start|End|ElapsedRaw|AllocTRES"
    row = "9|my|odd|name|COMPLETED|2026-06-01T01:00:00|2026-06-01T02:00:00|3600|gres/gpu=2"
    assert only(read(heading, row))["parts"] == 2 * PARTS
    two = read("JobID|JobName|State|Start|End|ElapsedRaw|AllocTRES|Comment", row + "|said|more")
    assert two.jobs.height == 0 and sum(two.left_out.values()) == 1, (
        "which bar is whose cannot be told: said, not guessed"
    )


def test_steps_are_no_jobs_and_say_how_busy_the_gpus_were():
    found = read(
        line(),
        line(JobIDRaw="1.batch", JobID="1.batch", TRESUsageInAve="cpu=1,gres/gpuutil=400"),
        line(JobIDRaw="1.extern", JobID="1.extern", TRESUsageInAve="gres/gpuutil=0"),
    )
    assert only(found)["mean_use"] == 0.5, "a sum over eight GPUs in percent"


def test_requeued_runs_are_runs_and_duplicates_are_not():
    first = line(State="REQUEUED", End="2026-06-01T01:30:00", ElapsedRaw="1800")
    second = line(Start="2026-06-01T03:00:00", End="2026-06-01T04:00:00")
    once = read(first, second)
    assert sorted(once.jobs["ended"]) == [Ended.COMPLETED, Ended.PREEMPTED]
    running = read(line(Start="2026-06-01T03:00:00", End="Unknown", State="RUNNING", ElapsedRaw="60"))
    both = together([running, once])
    assert both.jobs.height == 2 and both.left_out == {"a job that another row says, too": 1}
    assert both.jobs.filter(pl.col("ended") == Ended.RUNNING).height == 0, "what has ended is newer"


def test_arrays_and_heterogeneous_jobs_are_several():
    found = read(*(line(JobIDRaw=str(n), JobID=id) for n, id in ((11, "7_1"), (12, "7_2"), (13, "8+0"), (14, "8+1"))))
    assert found.jobs["job"].to_list() == ["7_1", "7_2", "8+0", "8+1"]


def test_suspended_time_is_not_held():
    assert only(read(line(ElapsedRaw="3000")))["suspended"] == 600


@pytest.mark.parametrize(
    "start,end,elapsed",
    [
        ("2026-10-25T02:30:00", "2026-10-25T02:10:00", 2400),  # put back while it ran
        ("2026-10-25T02:30:00", "2026-10-25T03:30:00", 7200),
        ("2026-10-25T02:30:00", "2026-10-25T02:50:00", 1200),
        ("2026-10-25T01:30:00", "2026-10-25T02:30:00", 7200),
        ("2026-03-29T01:30:00", "2026-03-29T03:30:00", 3600),  # put forward
    ],
)
def test_clocks_that_are_put_back(start, end, elapsed):
    job = only(read(line(Start=start, End=end, ElapsedRaw=str(elapsed)), zone="Europe/Berlin"))
    assert job["end"] - job["start"] == elapsed and job["suspended"] == 0


def test_times_as_seconds_and_with_an_offset():
    job = only(read(line(Start="1780275600", End="2026-06-01T04:00:00+02:00")))
    assert job["end"] - job["start"] == 3600


def test_what_cannot_be_read_costs_the_others_nothing():
    found = read(
        line(),
        "1|2|3",
        line(JobIDRaw="2", JobID="2", End="2026-06-01T00:30:00"),
        line(JobIDRaw="3", JobID="3", AllocTRES="cpu=1"),
        line(JobIDRaw="4", JobID="4", AllocTRES="gres/gpu=many"),
        line(JobIDRaw="5", JobID="5", End="Unknown", State="FAILED"),
        line(JobIDRaw="6", JobID="6", ElapsedRaw="-5"),
    )
    assert found.jobs.height == 1
    assert found.left_out == {
        "a line with too few fields": 1,
        "a job without GPUs": 1,
        "a count of GPUs that cannot be read": 1,
        "a job that ends before it starts": 2,
        "a job that has ended, without the time": 1,
    }


def test_a_job_that_waits_asks_for_gpus():
    job = only(read(line(State="PENDING", Start="Unknown", End="Unknown", AllocTRES="", ReqTRES="gres/gpu=16")))
    assert job["parts"] == 16 * PARTS and job["start"] is None and job["ended"] == Ended.PENDING


def test_it_says_which_columns_are_missing():
    with pytest.raises(CorpusUnreadable, match="Start"):
        read("JobID|State|AllocTRES")


def json_job(version):
    """A job as Slurm's JSON had it in 22.05, and as it has it since 23.11."""
    number = (
        (lambda value: value)
        if version == "22.05"
        else (lambda value: {"set": True, "infinite": False, "number": value})
    )
    unset = 0 if version == "22.05" else {"set": False, "infinite": False, "number": 0}
    return {
        "job_id": 7,
        "user": "ann",
        "account": "vision",
        "partition": "h100",
        "qos": "normal",
        "nodes": "n[1-2]",
        "state": {"current": "COMPLETED" if version == "22.05" else ["COMPLETED"], "reason": "None"},
        "time": {
            "submission": 1780272000,
            "eligible": 1780272000,
            "start": 1780275600,
            "end": 1780279200,
            "elapsed": 3600,
            "limit": number(600),
        },
        "tres": {
            "allocated": [
                {"type": "cpu", "name": "", "id": 1, "count": 8},
                {"type": "gres", "name": "gpu", "id": 1001, "count": 8},
                {"type": "gres", "name": "gpu:h100", "id": 1002, "count": 8},
            ]
        },
        "array": {"job_id": 0, "task_id": unset, "task": ""},
        "het": {"job_id": 0, "job_offset": unset},
        "wckey": {"wckey": "", "flags": []},
        "steps": [{"tres": {"requested": {"average": [{"type": "gres", "name": "gpuutil", "count": 200}]}}}],
    }


@pytest.mark.parametrize("version", ["22.05", "25.05"])
def test_json_of_old_and_new_versions(version):
    job = only(read_json(json.dumps({"jobs": [json_job(version)]}).encode(), "pool"))
    assert (job["parts"], job["limit"], job["mean_use"]) == (8 * PARTS, 36_000, 0.25)
    assert job["nodes"] == ["n1", "n2"] and job["end"] - job["start"] == 3600


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=200), max_size=20))
def test_any_text_is_read_or_left_out(lines):
    found = read(*lines) if any(lines) else None
    assert found is None or (found.jobs["parts"] > 0).all()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["jobs", "state", "current", "time", "start", "tres", "allocated", "type", "count", "job_id"]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_is_read_or_refused(value):
    with contextlib.suppress(CorpusUnreadable):
        read_json(json.dumps({"jobs": value}).encode(), "pool")


def test_a_started_job_whose_start_cannot_be_read_is_left_out_by_name():
    found = read(
        line(Start="2026-06-01T0O:00:00"),
        line(JobIDRaw="2", JobID="2", State="RUNNING", Start="Unknown", End="Unknown"),
    )
    assert found.jobs.height == 0 and sum(found.left_out.values()) == 2


@pytest.mark.parametrize("count", ["9" * 30, "1000000000", "1e9", "-4", "4.5"])
def test_a_count_that_cannot_be_costs_the_others_nothing(count):
    found = read(line(), line(JobIDRaw="2", JobID="2", AllocTRES=f"gres/gpu={count}"))
    assert found.jobs.height == 1 and found.left_out == {"a count of GPUs that cannot be read": 1}
