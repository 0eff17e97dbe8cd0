"""Compute as somebody types it: import, account, offer, lend, take back."""

import gzip
import json
from decimal import Decimal

import pytest

from stillhouse.clock import now
from stillhouse.compute.importers.slurm_jobs import FIELDS
from stillhouse.home import facts
from tests.acceptance.test_custody import people  # noqa: F401
from tests.hostile.test_what_may_go import inside

FLEET = """
[pools.h100]
gpus = 16
contact = "infra@example.com"
price = "2.10"
outside = true
floor = 2
teams = ["vision"]
[pools.closed]
gpus = 8
[teams.vision]
contact = "vera@example.com"
floor = 4
"""
HOUR = 3600
START = 1_793_491_200  # 2026-11-01


def sacct(*rows):
    lines = ["|".join(FIELDS)]
    for number, row in enumerate(rows):
        values = {
            "JobIDRaw": str(number),
            "JobID": str(number),
            "User": "ann",
            "Account": "vision",
            "Partition": "h100",
        } | row
        lines.append("|".join(str(values.get(name, "")) for name in FIELDS))
    return "\n".join(lines) + "\n"


def ran(start, hours, gpus, state="COMPLETED", **more):
    """A job that started so many hours after START."""
    begin = START + int(start * HOUR)
    end = "Unknown" if state == "RUNNING" else begin + int(hours * HOUR)
    return {
        "State": state,
        "Start": begin,
        "End": end,
        "Submit": begin,
        "ElapsedRaw": int(hours * HOUR),
        "AllocTRES": f"gres/gpu={gpus}",
    } | more


def samples(job, use, hours, gpus):
    rows = [
        f"{START + minute * 60},h100,n,{job}-{gpu},{job},{use}" for gpu in range(gpus) for minute in range(hours * 60)
    ]
    return "time,pool,node,gpu,job,use\n" + "\n".join(rows) + "\n"


RUNS = ran(0, 10, 4, "RUNNING", User="bob", Account="nlp")


@pytest.fixture
def fleet(home):
    (home.home / "fleet.toml").write_text(FLEET)
    return home


def used(home, *more):
    return home("compute", "use", "--since", "2026-11-01", "--until", "2026-11-02", "--json", *more).json


def test_use_by_pool_team_and_job_with_whom_to_ask(fleet):
    jobs = fleet.write(
        "jobs.txt", sacct(ran(0, 4, 8), ran(0, 10, 4, "RUNNING", User="bob", Account="nlp"), ran(5, 1, 2, "FAILED"))
    )
    activity = fleet.write("a.csv", samples("0", 0.8, 4, 8) + samples("1", 0.0, 24, 4).partition("\n")[2])
    fleet("compute", "import", jobs, activity, "--since", "2026-11-01", "--until", "2026-11-02")
    found = used(fleet, "--page", "use.html")
    (pool,) = [one for one in found["pools"] if one["pool"] == "h100"]
    hours = {state: Decimal(row["gpu_hours"]) for state, row in pool["states"].items()}
    assert hours == {
        "down": 0,
        "unallocated": 16 * 24 - 32 - 96 - 2,
        "allocated-inactive": 96,
        "active-unproductive": 0,
        "active-productive": 32,
        "unknown": 2,
    }
    assert Decimal(pool["cost"]) == Decimal("2.10") * 16 * 24 and pool["measured_by"] == ["GPU_UTIL"]
    assert sum(Decimal(row["cost"]) for row in pool["states"].values()) == Decimal(pool["cost"])
    (idle,) = found["held_idle"]
    assert (idle["job"], idle["contact"], idle["cost_a_week"]) == ("1", "infra@example.com", "1411.20")
    assert {row["team"] for row in found["teams"]} == {"vision", "nlp"} and found["own_runs"] == []
    assert "Ask infra@example.com first" in fleet("compute", "use", "--until", "2026-11-02").out
    page = (fleet.folder / "use.html").read_text()
    assert "<svg" in page and "1411.20" in page


def test_a_file_twice_and_what_was_left_out(fleet):
    jobs = fleet.write("jobs.txt", sacct(ran(0, 4, 8), ran(5, -1, 2), ran(2, 1, 0)))
    first = fleet("compute", "import", jobs, "--json").json[0]
    assert first["rows"] == {"jobs": 1} and sum(first["left_out"].values()) == 2
    again = fleet("compute", "import", jobs).out
    assert "was imported already" in again and "ends before it starts" in again
    assert "Nothing in" in fleet("compute", "import", fleet.write("none.csv", "job,start,gpus\n"), code=2).err
    assert "no known kind" in fleet("compute", "import", fleet.write("x.json", '{"a": 1}'), code=2).err
    assert "is not there" in fleet("compute", "import", "nowhere", code=2).err
    assert "is a folder" in fleet("compute", "import", fleet.folder, code=2).err


def test_a_bill_is_shared_out_with_what_it_does_not_explain(fleet):
    jobs = fleet.write("jobs.txt", sacct(ran(0, 4, 8)))
    bill = fleet.write(
        "bill.csv",
        "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ResourceId,ServiceName\n"
        "100.01,USD,2026-11-01,2026-11-02,h100,GPUs\n9.99,USD,2026-11-01,2026-11-02,disk,Storage\n",
    )
    fleet("compute", "import", jobs, bill)
    (found,) = used(fleet)["bill"]
    rows = [*found["explained"], *found["unexplained"]]
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal(found["billed"]) == Decimal("110.00")
    assert [row["what"] for row in found["unexplained"]] == ["unexplained: Storage (billed_as of no pool names it)"]


def test_without_a_price_nothing_is_free(home):
    home("compute", "import", home.write("jobs.txt", sacct(ran(0, 4, 8))))
    (pool,) = used(home)["pools"]
    assert pool["cost"] is None and pool["cost_per_used_hour"] == [None, None]
    assert "the price is not known" in home("compute", "use", "--since", "2026-11-01", "--until", "2026-11-02").out


def lend(home, *words, code=0, **more):
    given = {"--gpus": 4, "--tenant": "vision", "--until": "2099-01-01", "--reason": "test", "--pool": "h100"} | more
    return home("compute", "lend", *(word for pair in given.items() for word in pair), *words, code=code)


def test_lending(fleet):
    lend(fleet, "--outside", **{"--tenant": "acme"})
    assert "no team of the fleet" in lend(fleet, code=3, **{"--tenant": "acme"}).err, (
        "whoever is from outside is called so"
    )
    assert "10 GPUs of h100 can be lent" not in lend(fleet, **{"--gpus": 5}).err
    said = lend(fleet, code=3, **{"--gpus": 2}).err
    assert "1 GPUs of h100 can be lent then" in said, "16 less the floors of 2 and 4, and 9 that are lent"
    found = fleet("compute", "leases", "--json").json
    assert [(one["gpus"], one["outside"], one["runs"]) for one in found] == [(4, True, True), (5, False, True)]
    assert "lets no tenant from outside" in lend(fleet, "--outside", code=3, **{"--pool": "closed"}).err
    assert "no pool 'other'" in lend(fleet, code=2, **{"--pool": "other"}).err
    for wrong in (
        {"--gpus": 0},
        {"--until": "2020-01-01"},
        {"--until": "soon"},
        {"--price": "much"},
        {"--tenant": " "},
    ):
        assert lend(fleet, code=2, **wrong).out == ""


def test_a_hold_keeps_outsiders_out(fleet):
    fleet("vault", "hold", "pool:h100", "--reason", "export control")
    assert "export control" in lend(fleet, "--outside", code=3).err
    lend(fleet)  # a team of our own
    assert "no pool" in fleet("vault", "hold", "pool:typo", "--reason", "x", code=2).err


def test_an_outside_tenant_needs_a_second_person_and_an_adopted_fleet(home, people):  # noqa: F811
    (home.home / "fleet.toml").write_text(FLEET)
    words = [
        "compute",
        "lend",
        "--pool",
        "h100",
        "--gpus",
        "4",
        "--tenant",
        "acme",
        "--until",
        "2099-01-01",
        "--reason",
        "r",
    ]
    assert "no pool 'h100'" in people("ada", *words, code=2).err, "the file is a draft"
    people("ada", "policy", "adopt")
    plan = home("plan", "list", "--json").json[-1]["digest"]
    people("bob", "plan", "approve", plan)
    people("ada", "plan", "execute", plan)
    inside_lease = people("ada", *("vision" if word == "acme" else word for word in words), "--json").json
    assert inside_lease["done"], "a team of our own takes one signature"
    waits = people("ada", *words, "--outside", "--json").json
    assert not waits["done"] and waits["waits_for"] == ["bob"]
    assert "firmware" in people("bob", "plan", "show", waits["plan"]).out, "the checklist is shown to whoever agrees"
    people("bob", "plan", "approve", waits["plan"])
    people("ada", "plan", "execute", waits["plan"])
    assert [one["outside"] for one in home("compute", "leases", "--json").json] == [False, True]


def test_a_lease_that_nobody_signed_is_no_lease(fleet):
    lend(fleet)
    with inside(fleet) as app:
        given = next(iter(app.log.read(app.log.writers()[-1])), None)
        assert given is not None
        lease = {
            "pool": "h100",
            "gpus": 16,
            "tenant": "eve",
            "outside": True,
            "start": now(),
            "end": "2099-01-01T00:00:00.000Z",
            "notice": 0,
            "price": "",
            "currency": "USD",
            "reason": "",
        }
        shared = {"at": now(), "by": "eve", "plan": "blake3:" + "0" * 64, "previous": "", "signatures": ()}
        kind = facts.LeaseGiven
        app.recorder.record(
            facts.decode(json.dumps({"fact": kind.__struct_config__.tag, "lease": lease, **shared}).encode())
        )
        app.recorder.refresh()
    fleet("compute", "leases", code=4)


def series(home, days=13):
    rows = [f"{START + 600 * step},{'p'},{6 + (step // 72) % 2 * 4},16,{step % 3}" for step in range(days * 144)]
    return home.write("p.csv", "time,pool,idle,capacity,waiting\n" + "\n".join(rows) + "\n")


def test_what_stands_idle_is_offered_and_placed(home):
    (home.home / "fleet.toml").write_text('[pools.p]\ngpus = 16\nprice = "1.00"\nfloor = 3\noutside = true\n')
    home("compute", "import", series(home))
    (found,) = home("compute", "idle", "--lease", "6h", "--json").json
    assert 1 <= found["gpus"] <= 10
    money = ["--price", "2", "--sla", "4", "--own-delay", "4"]
    offered = home(
        "compute", "offer", "--pool", "p", *money, "--backfill", "collection=2:9", "--interruptible", "0.8", "--json"
    ).json
    assert offered["backfill"] == [{"name": "collection", "gpus": 2, "worth": "9"}]
    by_hours = {one["hours"]: one for one in offered["firm"]}
    assert 0 < by_hours[6]["gpus"] <= 8 and by_hours[168]["gpus"] == 0 and by_hours[168]["why"].startswith("unknown")
    assert Decimal(by_hours[6]["income_if_sold"]) == 2 * 6 * by_hours[6]["gpus"]
    assert offered["would_change_it"] and offered["outside_tenants_need"]
    placed = home(
        "compute", "place", "--pool", "p", "--gpus", "4", "--gpu-hours", "40", "--by", "2026-11-16", "--json"
    ).json
    assert 0.9 < placed["probability"] < 1 and placed["cost"] == "40.00"
    assert (
        home(
            "compute", "place", "--pool", "p", "--gpus", "11", "--gpu-hours", "40", "--by", "2026-11-16", "--json"
        ).json["probability"]
        == 0
    )
    assert "it takes two pools" in home("compute", "waiting").out


def test_who_waited_while_others_had_spare(home):
    for pool, idle, waiting in (("a", 0, 16), ("b", 12, 0)):
        rows = [f"{START + 60 * step},{pool},{idle},16,{waiting},{waiting}" for step in range(600)]
        home(
            "compute",
            "import",
            home.write(f"{pool}.csv", "time,pool,idle,capacity,waiting,waiting_large\n" + "\n".join(rows)),
        )
    found = home("compute", "waiting", "--until", "2026-11-02", "--json").json
    assert (found["waited_gpu_hours"], found["others_had_room"], found["others_had_whole_blocks"]) == (
        160.0,
        120.0,
        80.0,
    )


def test_waiting_and_idle_are_computed_from_jobs_too(fleet):
    queued = ran(2, 4, 8, Submit=START, Eligible=START)
    fleet("compute", "import", fleet.write("jobs.txt", sacct(ran(0, 2, 16), queued)))
    (found,) = fleet("compute", "idle", "--json").json
    assert found["pool"] == "h100" and found["why"].startswith("unknown")


def test_buying_on_weeks_of_jobs(home):
    jobs = [f"{n},p,,t,8,{START + n * 4 * HOUR},{START + n * 4 * HOUR + 6 * HOUR}" for n in range(6 * 7 * 5)]
    home("compute", "import", home.write("p.csv", "job,pool,user,team,gpus,start,end\n" + "\n".join(jobs)))
    prices = home.write(
        "prices.jsonl", json.dumps({"timestamp": "2026-01-01", "gpu_type": "x", "price_stats": {"median": 2, "p10": 1}})
    )
    (home.home / "fleet.toml").write_text('[pools.p]\ngpus = 8\nprice = "0.50"\n[teams.t]\nwaiting_hour = "1.00"\n')
    found = home("compute", "buy", "--pool", "p", "--block", "8", "--prices", prices, "--json").json
    assert found["recommendation"].startswith("buy 8"), "half of the work of eight more was always there"
    assert [row["gpus"] for row in found["sizes"]] == [1, 8, 16] and found["break_even_busy"] == 0.25
    assert Decimal(found["sizes"][1]["waiting_costs"]) > 0
    assert home("compute", "buy", "--pool", "none", code=2).err


def test_a_drill_on_a_simulated_cluster():
    from stillhouse.compute.clusters.simulated import SimulatedCluster, Tenant
    from stillhouse.compute.reclaim_drill import drill

    tenants = [Tenant(f"t{n}", 8, 600, 3600) for n in range(4)]
    kept = drill(SimulatedCluster(40, tenants, wipe=60), 16, promised=700, patience=2000)
    assert kept["kept"] and 60 <= kept["seconds"] <= 660
    broken = drill(SimulatedCluster(40, tenants, wipe=900), 16, promised=700, patience=2000)
    assert not broken["kept"] and broken["seconds"] > 700
    never = drill(SimulatedCluster(8, [], wipe=0), 16, promised=10, patience=30)
    assert never["seconds"] is None and not never["kept"]
    at_once = drill(SimulatedCluster(40, tenants, wipe=900), 8, promised=1, patience=30)
    assert at_once["seconds"] == 0


def test_drills_by_command(home):
    assert home("compute", "drill", "--gpus", "8", "--promised", "1h", "--json").json["kept"] == 1
    home("compute", "drill", "--gpus", "8", "--promised", "1s", code=1)
    assert "sbatch" in home("compute", "drill", "--gpus", "8", "--promised", "1m", "--partition", "own", code=1).err


def test_the_account_as_a_bill(fleet):
    fleet(
        "compute",
        "import",
        fleet.write("jobs.txt", sacct(ran(0, 4, 8))),
        "--since",
        "2026-11-01",
        "--until",
        "2026-11-02",
    )
    fleet("compute", "focus", "bill.csv", "--since", "2026-11-01", "--until", "2026-11-02")
    lines = (fleet.folder / "bill.csv").read_text().splitlines()
    costs = [Decimal(line.split(",")[1]) for line in lines[1:]]
    assert sum(costs) == Decimal("2.10") * 16 * 24


def test_backtest_by_command(home):
    found = home(
        "compute", "backtest", "--series", series(home, 5), "--lease", "6h", "--penalty", "5", "--notice", "0", "--json"
    ).json
    assert set(found) == {"cells", "chosen", "pooled"} and found["cells"][0]["pool"] == "p"
    for words in (
        ["--lease", "1x"],
        ["--penalty", "0.5"],
        ["--penalty", "x"],
        ["--lease", "5s"],
        ["--test-from", "now"],
    ):
        assert home("compute", "backtest", "--series", "p.csv", *words, code=2).err
    assert "could not be read" in home("compute", "backtest", "--series", "nowhere", code=1).err


@pytest.mark.parametrize(
    "text",
    [
        "[pools.p]\ngpus = -1",
        '[pools.p]\nprice = "free"',
        "[pools.p]\nunknown = 1",
        "[pools",
        '[teams.t]\nwaiting_hour = "-1"',
    ],
)
def test_a_fleet_that_cannot_be_relied_on(home, text):
    (home.home / "fleet.toml").write_text(text)
    assert "fleet.toml" in home("compute", "leases", code=None).err + home("compute", "idle", code=2).err


def test_compressed_and_torn_files(fleet):
    packed = gzip.compress(sacct(ran(0, 4, 8)).encode())
    (fleet.folder / "jobs.txt.gz").write_bytes(packed)
    assert fleet("compute", "import", "jobs.txt.gz", "--json").json[0]["rows"] == {"jobs": 1}
    (fleet.folder / "torn.gz").write_bytes(packed[:-20])
    assert "torn" in fleet("compute", "import", "torn.gz", code=2).err


def answer(gpus):
    """What a Prometheus said of some GPUs of node n1, all of them busy."""
    series = [
        {
            "metric": {"__name__": "DCGM_FI_DEV_GPU_UTIL", "Hostname": "n1", "UUID": f"g{gpu}"},
            "values": [[START + 60 * minute, "90"] for minute in range(240)],
        }
        for gpu in range(gpus)
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def test_samples_find_the_pool_of_their_node_and_say_where_they_have_none(fleet):
    """In whichever order they are imported, and again with what was forgotten."""
    said = fleet.write("prom.json", answer(8))
    fleet("compute", "import", said)
    fleet("compute", "import", fleet.write("other.txt", sacct(ran(0, 4, 8, NodeList="n7", JobID="7", JobIDRaw="7"))))
    assert "are of no pool" in fleet("compute", "use", "--since", "2026-11-01", "--until", "2026-11-02").out
    fleet("compute", "import", fleet.write("jobs.txt", sacct(ran(4, 1, 8), ran(0, 4, 8, NodeList="n1"))))
    found = used(fleet)
    assert found["samples_of_no_pool"] == 0
    assert {pool["pool"]: pool["measured_by"] for pool in found["pools"]}["h100"] == ["GPU_UTIL"]
    again = fleet("compute", "import", said, "--pool", "closed", "--json").json[0]
    assert not again["known"], "with another pool it is another import, in place of the first"
    assert {pool["pool"]: pool["measured_by"] for pool in used(fleet)["pools"]}["h100"] == []


def test_what_runs_is_not_supposed_to_run_for_ever(fleet):
    jobs = fleet.write("jobs.txt", sacct(RUNS))
    fleet("compute", "import", jobs, "--since", "2026-11-01", "--until", "2026-11-01T10:00:00Z")
    (pool,) = [one for one in used(fleet)["pools"] if one["pool"] == "h100"]
    assert Decimal(pool["layers"]["allocated"]) == 4 * 10


def test_a_penalty_of_one_offers_what_is_idle(home):
    home("compute", "backtest", "--series", series(home, 6), "--lease", "6h", "--penalty", "1", "--notice", "0")


def test_what_prometheus_complains_of_is_said(home):
    said = home.write("e.json", '{"status": "error", "errorType": "bad_data", "error": "too many points"}')
    assert "too many points" in home("compute", "import", said, code=2).err


def csv_jobs(*rows):
    return "job,pool,user,team,gpus,start,end,ended\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n"


def states_of(home, *more, pool="p"):
    found = home("compute", "use", "--since", "2026-11-01", "--until", "2026-11-02", "--json", *more).json
    (one,) = [one for one in found["pools"] if one["pool"] == pool]
    return {state: Decimal(row["gpu_hours"]) for state, row in one["states"].items()}, one, found


def test_what_lies_between_two_exports_is_unknown(home):
    (home.home / "fleet.toml").write_text('[pools.p]\ngpus = 8\nprice = "2.00"\n')
    for number, hour in enumerate((0, 20)):
        row = (number, "p", "", "", 4, START + hour * HOUR, START + (hour + 1) * HOUR, "completed")
        home("compute", "import", home.write(f"{number}.csv", csv_jobs(row)))
    hours, _pool, found = states_of(home)
    assert hours["unallocated"] == 2 * 4 and hours["unknown"] == 22 * 8 + 2 * 4
    (team,) = found["teams"]
    assert team["cost"] == {"USD": "16.00"}, "nobody pays for hours that nobody reported"


def scontrol(time, **nodes):
    listed = [{"name": name, "partitions": [pool], "gres": "gpu:8", "state": ["IDLE"]} for name, pool in nodes.items()]
    return json.dumps({"nodes": listed, "last_update": time})


def test_nodes_without_jobs_are_not_idle_and_those_that_are_gone_are_gone(home):
    home("compute", "import", home.write("a.json", scontrol(START, n1="a", n2="a")))
    home("compute", "import", home.write("b.json", scontrol(START + 12 * HOUR, n1="b")))
    hours, pool, _ = states_of(home, pool="a")
    assert hours["unknown"] == Decimal(pool["layers"]["capacity"]) == 16 * 12
    assert states_of(home, pool="b")[0]["unknown"] == 8 * 12


def test_what_is_declared_holds_until_the_first_snapshot(home):
    (home.home / "fleet.toml").write_text("[pools.a]\ngpus = 16\n")
    row = (1, "a", "", "", 8, START, START + 24 * HOUR, "completed")
    home(
        "compute",
        "import",
        home.write("j.csv", csv_jobs(row)),
        home.write("n.json", scontrol(START + 23 * HOUR, n1="a", n2="a")),
    )
    assert states_of(home, pool="a")[0]["unallocated"] == 8 * 24


def test_a_run_that_another_follows_has_ended_and_one_that_is_seen_no_more_is_not_held(home):
    (home.home / "fleet.toml").write_text("[pools.p]\ngpus = 8\n")
    first = home.write(
        "1.csv", csv_jobs((5, "p", "", "", 4, START, "", "running"), (6, "p", "", "", 2, START, "", "running"))
    )
    home("compute", "import", first, "--since", "2026-11-01", "--until", "2026-11-01T05:00:00Z")
    second = home.write("2.csv", csv_jobs((5, "p", "", "", 4, START + 5 * HOUR, "", "running")))
    home("compute", "import", second, "--since", "2026-11-01T05:00:00Z", "--until", "2026-11-02")
    _hours, pool, _ = states_of(home)
    assert Decimal(pool["layers"]["allocated"]) == 4 * 24 + 2 * 5


def test_tasks_of_arrays_are_found_by_their_raw_id(fleet):
    fleet("compute", "import", fleet.write("jobs.txt", sacct(ran(0, 4, 2, JobIDRaw="105", JobID="100_4"))))
    fleet("compute", "import", fleet.write("a.csv", samples("105", 0.9, 4, 2)))
    assert {one["pool"]: one["measured_by"] for one in used(fleet)["pools"]}["h100"] == ["GPU_UTIL"]


def test_two_bills_that_overlap_are_charged_once(fleet):
    heading = "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ResourceId\n"
    row, more = "100,USD,2026-11-01,2026-11-02,h100\n", "50,USD,2026-11-01,2026-11-02,h100\n"
    fleet("compute", "import", fleet.write("1.csv", heading + row), fleet.write("2.csv", heading + row + more))
    assert Decimal(used(fleet)["bill"][0]["billed"]) == 150


def test_one_bad_file_costs_the_others_nothing(fleet):
    good = fleet.write("jobs.txt", sacct(ran(0, 4, 8)))
    done = fleet("compute", "import", "nowhere", good, "--json", code=2)
    assert done.json[0]["rows"] == {"jobs": 1} and "is not there" in done.err


def test_only_jobs_that_are_idle_now_are_named(fleet):
    """One was idle until yesterday and is busy since; of a requeued job only the run that goes on counts."""
    jobs = sacct(
        ran(0, 40, 8, "RUNNING", JobID="7", JobIDRaw="7"),
        ran(0, 20, 4, "REQUEUED", JobID="8", JobIDRaw="8"),
        ran(24, 16, 4, "RUNNING", JobID="8", JobIDRaw="8"),
    )
    rows = [
        f"{START + hour * HOUR + 60 * minute},h100,n,{job}-{gpu},{job},{0.0 if hour < 20 else 0.9}"
        for job, gpus in (("7", 8), ("8", 4))
        for gpu in range(gpus)
        for hour in range(48)
        for minute in range(0, 60, 10)
    ]
    activity = fleet.write("a.csv", "time,pool,node,gpu,job,use\n" + "\n".join(rows) + "\n")
    fleet(
        "compute", "import", fleet.write("jobs.txt", jobs), activity, "--since", "2026-11-01", "--until", "2026-11-03"
    )
    found = fleet("compute", "use", "--since", "2026-11-01", "--until", "2026-11-03", "--json").json
    assert found["held_idle"] == []


def test_a_pool_that_only_its_nodes_tell_of_can_be_lent(home):
    (home.home / "fleet.toml").write_text("[pools.a]\nfloor = 4\n[teams.nlp]\n")
    home("compute", "import", home.write("a.json", scontrol(START, n1="a", n2="a")))
    words = ["--pool", "a", "--tenant", "nlp", "--until", "2099-01-01", "--reason", "r", "--gpus"]
    home("compute", "lend", *words, "12")
    assert "0 GPUs of a can be lent" in home("compute", "lend", *words, "1", code=3).err


def test_odd_zones_and_amounts_are_refused(home):
    path = series(home, 2)
    for words in (["--zone", "Nowhere"], ["--zone", "Factory"], ["--zone", "Europe"], ["--penalty", "1e400"]):
        assert "Traceback" not in home("compute", "backtest", "--series", path, *words, code=2).err


def test_years_of_nothing_cost_nothing(home):
    rows = (
        [f"{START - 3000 * 86400},5"]
        + [f"{START - 300 * 86400},5"]
        + [f"{START + 600 * step},{step % 5}" for step in range(144 * 3)]
    )
    path = home.write("p.csv", "time,idle\n" + "\n".join(rows) + "\n")
    said = home("compute", "backtest", "--series", path, "--lease", "6h", "--penalty", "5", "--notice", "0")
    assert "1 readings of more than" in said.err


def test_which_nights_and_weekends_are_free(home):
    """START is a Sunday; by day everything is used, by night and at weekends eight stand idle."""
    rows = []
    for step in range(14 * 144):
        day, hour = step // 144 % 7, step % 144 // 6
        rows.append(f"{START + 600 * step},p,{8 if day in (0, 6) or not 8 <= hour < 20 else 0}")
    home("compute", "import", home.write("p.csv", "time,pool,idle\n" + "\n".join(rows) + "\n"))
    (found,) = home("compute", "idle", "--lease", "6h", "--json").json
    assert found["free"] == {"weekdays by day": 0, "weekdays by night": 8, "weekends": 8}


def test_who_waited(fleet):
    jobs = sacct(
        ran(2, 1, 8, Submit=START, Eligible=START, JobID="1"),
        ran(5, 1, 2, Submit=START, Eligible=START, JobID="2", Account="nlp"),
    )
    fleet("compute", "import", fleet.write("jobs.txt", jobs))
    found = fleet("compute", "waiting", "--since", "2026-11-01", "--until", "2026-11-02", "--json").json
    assert found["by_team"] == [
        {"team": "vision", "waited_gpu_hours": 16.0, "jobs": 1},
        {"team": "nlp", "waited_gpu_hours": 10.0, "jobs": 1},
    ]
