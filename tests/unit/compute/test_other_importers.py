"""Nodes, metrics, Kubernetes, bills and plain tables, with the traps of each."""

import gzip
import json
from decimal import Decimal

import polars as pl
import pytest

from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.accounting.costs import Cost
from stillhouse.compute.importers.delimited import read_delimited
from stillhouse.compute.importers.focus import read_focus, write_focus
from stillhouse.compute.importers.gpu_metrics import METRICS
from stillhouse.compute.importers.kubernetes import read_objects
from stillhouse.compute.importers.prometheus import read_answer
from stillhouse.compute.importers.rental_prices import read_prices
from stillhouse.compute.importers.slurm_nodes import read_nodes
from stillhouse.compute.importers.trace_layouts import read_trace_jobs, table_of
from stillhouse.compute.readings import PARTS, Ended, Rung
from stillhouse.errors import CorpusUnreadable

T = 1_780_272_000


def nodes(*listed, **more):
    return json.dumps({"nodes": listed, **more}).encode()


NODE = {"name": "n1", "partitions": ["h100"], "gres": "gpu:h100:8(S:0-1)", "tres": "cpu=96,gres/gpu=8,gres/gpu:h100=8"}


@pytest.mark.parametrize(
    "state,up",
    [
        ("idle", True),
        ("allocated", True),
        ("mixed", True),
        ("idle*", False),
        ("down", False),
        ("idle+drain", False),
        (["IDLE"], True),
        (["IDLE", "DRAIN"], False),
        (["MIXED", "PLANNED"], True),
        (["DOWN", "NOT_RESPONDING"], False),
        (["IDLE", "MAINTENANCE", "RESERVED"], False),
        ("idle~", False),
        (["ALLOCATED", "COMPLETING"], True),
    ],
)
def test_which_nodes_are_up(state, up):
    row = read_nodes(nodes(NODE | {"state": state}), time=5_000_000_00).capacity.row(0, named=True)
    assert (row["up"], row["parts"], row["gpu_type"]) == (up, 8 * PARTS, "h100")


def test_a_snapshot_of_nodes():
    moment = {"set": True, "infinite": False, "number": 1_780_272_000}
    found = read_nodes(nodes(NODE | {"state": ["IDLE"]}, {"name": "login", "gres": ""}, "no node", last_update=moment))
    assert found.capacity["time"].to_list() == [1_780_272_000]
    assert found.left_out == {"a node without GPUs": 1, "a node that cannot be read": 1}
    with pytest.raises(CorpusUnreadable, match="when it was taken"):
        read_nodes(nodes(NODE))


def answer(*series, **more):
    data = {"resultType": "matrix", "result": [{"metric": labels, "values": values} for labels, values in series]}
    return json.dumps({"status": "success", "data": data, **more}).encode()


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_name_of_a_metric_means_a_share(name):
    """The same GPU, half busy, under old and new names: a ratio is no percent."""
    full = METRICS[name].full
    watts = METRICS[name].rung is Rung.POWER
    value = 300 * full if watts else full / 2
    found = read_answer(
        answer(({"__name__": name, "UUID": "g", "Hostname": "n"}, [[T, str(value)]])), "p", idle_watts=100
    )
    row = found.samples.row(0, named=True)
    assert row["use"] == pytest.approx(1.0 if watts else 0.5) and row["rung"] == METRICS[name].rung


def test_labels_and_slices_and_nonsense():
    mig = {
        "__name__": "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "UUID": "g",
        "instance": "n1:9400",
        "GPU_I_ID": "3",
        "GPU_I_PROFILE": "1g.10gb",
        "hpc_job": "42",
    }
    found = read_answer(
        answer(
            (mig, [[T, "0.5"], [T + 60, "NaN"], [T + 120, "55"], [T + 180, "+Inf"]]),
            ({"__name__": "up", "instance": "n1"}, [[T, "1"]]),
            ({"__name__": "DCGM_FI_DEV_GPU_UTIL"}, [[T, "1"]]),
            ({"__name__": "DCGM_FI_DEV_POWER_USAGE", "gpu": "0"}, [[T, "70"]]),
        ),
        "p",
    )
    row = found.samples.row(0, named=True)
    assert (row["node"], row["gpu"], row["parts"], row["job"]) == ("n1", "g/3", PARTS // 7, "42")
    assert sum(found.left_out.values()) == 6 and found.samples.height == 1
    for bad in (b"{", b"{}", b'{"status": "error", "error": "too many points"}'):
        with pytest.raises(CorpusUnreadable):
            read_answer(bad, "p")


def pod(name="a", phase="Running", gpus="2", **status):
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "vision", "creationTimestamp": "2026-06-01T00:00:00Z", "labels": {}},
        "spec": {
            "nodeName": "n1",
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": gpus}}}, {"resources": {}}],
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-06-01T01:00:00Z"}],
            **status,
        },
    }


def ended(at):
    return {"containerStatuses": [{"state": {"terminated": {"finishedAt": at}}}]}


def test_kubernetes():
    mig = pod("mig")
    mig["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/mig-3g.40gb": "1"}}
    first = pod("init", gpus="1")
    first["spec"]["initContainers"] = [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]
    waiting = {
        "kind": "Workload",
        "metadata": {"name": "w", "namespace": "nlp", "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {"queueName": "q", "podSets": [{"count": 3, "template": {"spec": pod()["spec"]}}]},
        "status": {},
    }
    admitted = waiting | {"status": {"conditions": [{"type": "Admitted", "status": "True"}]}}
    node = {
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"pool": "h100"}},
        "spec": {},
        "status": {
            "capacity": {"nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-06-01T02:00:00Z"}],
        },
    }
    items = [
        pod(),
        pod("b", "Succeeded", **ended("2026-06-01T03:00:00Z")),
        pod("c", "Failed", reason="Evicted", **ended("2026-06-01T02:00:00Z")),
        pod("d", "Succeeded"),
        pod("e", gpus="0"),
        mig,
        first,
        waiting,
        admitted,
        node,
        {"kind": "Service"},
        7,
        pod("f", "Succeeded", **ended("2026-06-01T00:30:00Z")),
    ]
    found = read_objects(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}).encode(), "p")
    jobs = {row["job"]: row for row in found.jobs.iter_rows(named=True)}
    assert set(jobs) == {f"vision/{name}" for name in ("a", "b", "c", "mig", "init")} | {"nlp/w"}
    assert (
        jobs["vision/a"]["pool"] == "h100"
        and jobs["vision/a"]["parts"] == 2 * PARTS
        and jobs["vision/a"]["end"] is None
    )
    assert jobs["vision/c"]["ended"] == Ended.PREEMPTED and jobs["vision/mig"]["parts"] == PARTS * 3 // 7
    assert (
        jobs["vision/init"]["parts"] == 4 * PARTS
        and jobs["nlp/w"]["parts"] == 6 * PARTS
        and jobs["nlp/w"]["start"] is None
    )
    assert found.capacity.row(0, named=True)["parts"] == 8 * PARTS
    assert sum(found.left_out.values()) == 6
    with pytest.raises(CorpusUnreadable):
        read_objects(b"[]", "p")


def test_a_bill_is_read_and_written(tmp_path):
    window = Window(1_780_272_000, 1_780_358_400)
    costs = [
        Cost("h100", "active-productive", "vision", "llm", "USD", Decimal("12.34")),
        Cost("h100", "down", "", "", "USD", None),
        Cost("h100", "unallocated", "", "", "USD", Decimal("-1.00")),
    ]
    path = tmp_path / "bill.csv"
    path.write_text(write_focus(costs, {("h100", "active-productive", "vision", "llm"): Decimal("6.17")}, window, "us"))
    bill = read_focus(table_of(path))
    assert [charge.amount for charge in bill.charges] == [Decimal("12.34"), Decimal("-1.00")]
    assert bill.charges[0].start == window.start and "h100" in bill.charges[0].names
    rows = pl.read_csv(path, infer_schema=False)
    assert rows["ChargeCategory"].to_list() == ["Usage", "Credit"]


def test_charges_that_cannot_be_read():
    rows = [
        ("1.5", "USD", "2026-06-01", "2026-06-02"),
        ("", "USD", "2026-06-01", ""),
        ("1", "USD", "", ""),
        ("1", "", "2026-06-01", ""),
        ("1", "USD", "2026-06-02", "2026-06-01"),
        ("NaN", "USD", "2026-06-01", ""),
    ]
    table = pl.DataFrame(
        rows, schema=["BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd"], orient="row"
    )
    bill = read_focus(table)
    assert len(bill.charges) == 1 and sum(bill.left_out.values()) == 5
    with pytest.raises(CorpusUnreadable):
        read_focus(table.drop("BilledCost"))


def test_plain_tables():
    jobs = pl.DataFrame(
        {
            "job": ["a", "b", "", "d"],
            "start": ["2026-06-01", "2026-06-02", "2026-06-01", "2026-06-01"],
            "end": ["2026-06-02", "2026-06-01", "2026-06-02", None],
            "gpus": ["0.5", "1", "1", "2"],
        }
    )
    found = read_delimited(jobs, "p")
    assert found.jobs["parts"].to_list() == [PARTS // 2, 2 * PARTS] and found.jobs["ended"].to_list() == [
        "unknown",
        "running",
    ]
    assert sum(found.left_out.values()) == 2
    samples = pl.DataFrame({"time": ["60", "x", "60"], "gpu": ["0", "0", "1"], "use": ["0.5", "0.5", "50"]})
    assert read_delimited(samples, "p").samples.height == 0, "60 is no time of a GPU"
    with pytest.raises(CorpusUnreadable):
        read_delimited(pl.DataFrame({"a": ["1"]}), "p")


def test_published_traces(tmp_path):
    acme = "job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue,gpu_time\n"
    acme += "d1,u1,1,8,8,Other,COMPLETED,2023-05-17 11:00:57,2023-05-17 11:00:58+00:00,2023-05-17 11:02:16+00:00,78,1.0,624\n"
    alibaba = (
        "job_name,organization,gpu_model,gpu_request,job_type,submit_time,duration\nj,org,A100,2,HP,1700000000,600\n"
    )
    philly = "timestamp,duration,num_gpus,gpu_time,cluster\n\n2017-09-04 10:30:41,100.0,8,1,7f\n2017-09-04 10:30:41,-5,8,1,7f\n"
    for name, text, ended in (
        ("acme.csv", acme, "completed"),
        ("ali.csv", alibaba, "unknown"),
        ("philly.csv", philly, "unknown"),
    ):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()))
        found = read_trace_jobs(path)
        assert found.jobs.height == 1 and found.jobs["ended"].to_list() == [ended]
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    assert read_trace_jobs(other) is None


def test_rental_prices_that_are_missing_are_unknown(tmp_path):
    lines = [
        {"timestamp": f"2026-01-0{n}T00:00:00Z", "gpu_type": "H100", "price_stats": {"median": price, "p10": price}}
        for n, price in ((1, 2.0), (2, 0), (3, 4.0), (4, None))
    ]
    path = tmp_path / "h100.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    found = read_prices(path)
    assert (found.median, found.snapshots, found.last) == (Decimal("3.00"), 2, "2026-01-03")
    path.write_text("{}")
    with pytest.raises(CorpusUnreadable):
        read_prices(path)


BAD_VALUES = [5, None, [], ["x"], [T], [T, "x"], ["x", "0.5"], [1e30, "0.5"], [T, None], {}, [-1, "1"]]
BAD_SERIES = [5, None, [], {}, {"metric": 5, "values": []}, {"metric": {}, "values": 5}, {"metric": None}]


def test_one_bad_sample_or_series_costs_the_others_nothing():
    good = {"metric": {"__name__": "DCGM_FI_DEV_GPU_UTIL", "UUID": "g"}, "values": [[T, "50"], *BAD_VALUES]}
    data = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [*BAD_SERIES, good]}}).encode()
    found = read_answer(data, "p")
    assert found.samples.height == 1
    assert sum(found.left_out.values()) == len(BAD_VALUES) + len(BAD_SERIES)
    for wrong in (None, 5, {}):
        data = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": wrong}}).encode()
        with pytest.raises(CorpusUnreadable):
            read_answer(data, "p")


def test_one_bad_object_or_node_costs_the_others_nothing():
    bad = [
        5,
        None,
        [],
        {},
        {"kind": "Node"},
        {"kind": "Pod"},
        {"kind": "Node", "metadata": 7},
        pod("big", gpus="9" * 30),
    ]
    found = read_objects(json.dumps({"kind": "List", "items": [*bad, pod()]}).encode(), "p")
    assert found.jobs.height == 1 and sum(found.left_out.values()) == len(bad)
    giant = NODE | {"name": "n2", "tres": f"gres/gpu={'9' * 30}", "state": "idle"}
    other = NODE | {"name": "n3", "tres": "", "gres": f"gpu:{'9' * 30}", "state": "idle"}
    read = read_nodes(nodes(giant, other, NODE | {"state": "idle"}), time=T)
    assert read.capacity.height == 1 and read.left_out == {"a node that cannot be read": 2}
    for data in (b'{"nodes": null}', b'{"nodes": 5}'):
        with pytest.raises(CorpusUnreadable):
            read_nodes(data, time=T)
    with pytest.raises(CorpusUnreadable):
        read_objects(b'{"kind": "List", "items": null}', "p")


def test_absurd_amounts_are_left_out():
    rows = [(amount, "USD", "2026-06-01", "2026-06-02") for amount in ("1E+5000", "1E-5000", "9" * 40, "1.00")]
    columns = ["BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd"]
    bill = read_focus(pl.DataFrame(rows, schema=columns, orient="row"))
    assert len(bill.charges) == 1 and bill.left_out == {"a charge without an amount": 3}
    jobs = pl.DataFrame(
        {"job": ["a", "b"], "start": ["2026-06-01"] * 2, "end": ["2026-06-02"] * 2, "gpus": ["1e12", "8"]}
    )
    assert read_delimited(jobs, "p").left_out == {"a job with more GPUs than anybody has": 1}


@pytest.mark.parametrize("place", range(1, 6))
def test_a_stray_quote_takes_no_rows_along(tmp_path, place):
    lines = [f"{n},p,2026-06-01T0{n}:00:00Z,2026-06-01T0{n + 1}:00:00Z,1,ok" for n in range(1, 7)]
    lines[place] = lines[place].replace(",ok", ',"odd')
    for closing in (False, True):
        if closing and place < 5:
            lines[-1] = lines[-1].replace(",ok", ',odd"')
        path = tmp_path / "jobs.csv"
        path.write_text("job,pool,start,end,gpus,note\n" + "\n".join(lines) + "\n")
        assert read_delimited(table_of(path), "p").jobs.height == 6
    quoted = tmp_path / "quoted.csv"
    quoted.write_text('"job","start","end","gpus"\n"a,b","2026-06-01","2026-06-02","1"\n')
    assert read_delimited(table_of(quoted), "p").jobs["job"].to_list() == ["a,b"]


def test_parquet_with_nested_columns_and_torn_gzip(tmp_path):
    frame = pl.DataFrame(
        {"BilledCost": [1.5], "BillingCurrency": ["USD"], "ChargePeriodStart": ["2026-06-01"], "Tags": [[{"a": "b"}]]}
    )
    frame.write_parquet(tmp_path / "bill.parquet")
    assert len(read_focus(table_of(tmp_path / "bill.parquet")).charges) == 1
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-30])
    with pytest.raises(CorpusUnreadable):
        table_of(tmp_path / "torn.csv.gz")
