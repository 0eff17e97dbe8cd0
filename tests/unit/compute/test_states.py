"""Promise 8 in small: every GPU-second is in exactly one state, whatever jobs, capacity and samples say."""

from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.accounting.costs import Charge, by_bill, by_price, shared_out
from stillhouse.compute.accounting.states import NOT_REPORTED, State, account
from stillhouse.compute.readings import CAPACITY, JOBS, PARTS, SAMPLES, Ended, Readings, Rung
from stillhouse.home.fleet import Fleet, Pool

WINDOW = Window(1_000_000, 1_010_000)
GPUS = 8


def job(name, start, end, gpus, **more):
    row = dict.fromkeys(JOBS, "") | {
        "job": name,
        "pool": "p",
        "parts": gpus * PARTS,
        "nodes": [],
        "submitted": start,
        "start": start,
        "end": end,
        "suspended": 0,
        "limit": None,
        "ended": str(Ended.COMPLETED),
        "mean_use": None,
        "seen": None,
    }
    return row | more


def jobs(*rows):
    return pl.DataFrame(list(rows), schema=JOBS, orient="row")


def accounts(*rows, gpus=GPUS, **more):
    return account(Readings(jobs=jobs(*rows), **more), WINDOW, {"p": gpus * PARTS})[0]


def test_planted_states_are_found_to_the_second():
    at = WINDOW.start
    found = accounts(
        job("a", at + 100, at + 1100, 4, mean_use=0.0),
        job("b", at + 200, at + 700, 2, ended=str(Ended.FAILED)),
        job("c", at - 500, at + 50, 8),
        job("d", WINDOW.end - 10, None, 1, ended=str(Ended.RUNNING)),
    )
    assert found.capacity == GPUS * PARTS * WINDOW.seconds
    assert found.total(State.INACTIVE) == 4 * 1000 * PARTS, "its mean use was zero"
    held = 2 * 500 + 8 * 50 + 1 * 10
    assert found.total(State.UNKNOWN) == held * PARTS, "nobody measured these"
    assert found.total(State.UNALLOCATED) == (GPUS * WINDOW.seconds - 4000 - held) * PARTS


def test_what_is_sampled_is_found_within_the_bound():
    at, step = WINDOW.start, 60
    busy_until = at + 3_010  # between two samples
    rows = [
        {
            "time": moment,
            "pool": "p",
            "node": "n",
            "gpu": str(gpu),
            "parts": PARTS,
            "job": "a",
            "use": 0.9 if moment < busy_until else 0.0,
            "rung": str(Rung.GPU_UTIL),
        }
        for gpu in range(4)
        for moment in range(at, at + 6_000, step)
    ]
    found = accounts(job("a", at, at + 6_000, 4), samples=pl.DataFrame(rows, schema=SAMPLES))
    row = found.states.filter(pl.col("state") == State.PRODUCTIVE).row(0, named=True)
    truth = 4 * 3_010 * PARTS
    assert abs(row["part_seconds"] - truth) <= row["bound"], "the bound holds"
    assert row["bound"] == 2 * step * 4 * PARTS, "one change, and one end, of each GPU"
    assert found.total(State.PRODUCTIVE, State.INACTIVE) == 4 * 6_000 * PARTS


def test_samples_without_a_job_count_where_one_job_is_alone_on_the_node():
    at = WINDOW.start
    rows = [
        {
            "time": moment,
            "pool": "p",
            "node": node,
            "gpu": "0",
            "parts": PARTS,
            "job": "",
            "use": 1.0,
            "rung": str(Rung.SM_ACTIVE),
        }
        for node in ("alone", "shared")
        for moment in range(at, at + 1_000, 50)
    ]
    found = accounts(
        job("a", at, at + 1_000, 1, nodes=["alone"]),
        job("b", at, at + 1_000, 1, nodes=["shared"]),
        job("c", at, at + 1_000, 1, nodes=["shared"]),
        samples=pl.DataFrame(rows, schema=SAMPLES),
    )
    by_job = dict(found.states.filter(pl.col("state") == State.PRODUCTIVE).select("job", "part_seconds").iter_rows())
    assert by_job == {"a": 1_000 * PARTS}, "whose a shared node's activity is cannot be said"


def test_the_best_measure_of_a_gpu_counts():
    at = WINDOW.start
    rows = [
        {
            "time": moment,
            "pool": "p",
            "node": "n",
            "gpu": "0",
            "parts": PARTS,
            "job": "a",
            "use": use,
            "rung": str(rung),
        }
        for rung, use in ((Rung.GPU_UTIL, 1.0), (Rung.SM_ACTIVE, 0.0))
        for moment in range(at, at + 600, 60)
    ]
    found = accounts(job("a", at, at + 600, 1), samples=pl.DataFrame(rows, schema=SAMPLES))
    assert found.total(State.INACTIVE) == 600 * PARTS
    assert found.states.filter(pl.col("job") == "a")["rung"].to_list() == [str(Rung.SM_ACTIVE)]


def test_what_is_claimed_twice_is_counted_once():
    at = WINDOW.start
    found = accounts(job("first", at, at + 100, 6), job("second", at + 50, at + 150, 6))
    by_job = dict(found.states.filter(pl.col("job") != "").select("job", "part_seconds").iter_rows())
    assert by_job == {"first": 600 * PARTS, "second": (2 * 50 + 6 * 50) * PARTS}
    assert found.conflict == 4 * 50 * PARTS


def test_a_time_of_which_nobody_reported_jobs_is_unknown():
    at = WINDOW.start
    found = accounts(job("a", at, at + 100, 8), covered={"p": ((at, at + 1_000),)})
    reasons = dict(
        found.states.filter(pl.col("why") != "").group_by("why").agg(pl.col("part_seconds").sum()).iter_rows()
    )
    assert reasons[NOT_REPORTED] == GPUS * (WINDOW.seconds - 1_000) * PARTS
    assert found.total(State.UNALLOCATED) == GPUS * 900 * PARTS


def test_nodes_that_go_down_and_come_back():
    at = WINDOW.start
    nodes = pl.DataFrame(
        [
            {"pool": "p", "node": node, "gpu_type": "", "time": time, "parts": 4 * PARTS, "up": up, "snapshot": False}
            for node, time, up in (
                ("n1", at - 5, True),
                ("n2", at - 5, True),
                ("n2", at + 1_000, False),
                ("n2", at + 3_000, True),
            )
        ],
        schema=CAPACITY,
    )
    found = accounts(job("a", at + 1_000, at + 2_000, 6), capacity=nodes)
    assert found.total(State.DOWN) == (2 * 1_000 + 4 * 1_000) * PARTS, "a drained node is held as long as its job runs"
    assert found.total(*State) == found.capacity == GPUS * PARTS * WINDOW.seconds


moments = st.integers(WINDOW.start - 2_000, WINDOW.end + 2_000)
some_jobs = st.lists(
    st.builds(
        lambda start, seconds, gpus, ended, use, gone: job(
            f"j{start}-{seconds}-{gpus}",
            start,
            None if gone else start + seconds,
            gpus,
            ended=str(ended),
            mean_use=use,
            suspended=min(seconds, 7),
        ),
        moments,
        st.integers(0, 6_000),
        st.integers(0, 12),
        st.sampled_from(list(Ended)),
        st.sampled_from([None, 0.0, 0.5]),
        st.booleans(),
    ),
    max_size=12,
)
some_nodes = st.lists(st.tuples(st.sampled_from(["n1", "n2"]), moments, st.integers(0, 8), st.booleans()), max_size=6)
some_samples = st.lists(
    st.tuples(st.integers(0, 20), moments, st.sampled_from([0.0, 0.01, 0.5, 1.0]), st.sampled_from(list(Rung))),
    max_size=30,
)


@given(some_jobs, some_nodes, some_samples, st.one_of(st.none(), st.tuples(moments, moments)))
def test_the_states_sum_to_capacity_and_the_costs_to_the_price(rows, nodes, samples, covered):
    names = [row["job"] for row in rows] or ["none"]
    readings = Readings(
        jobs=jobs(*rows),
        capacity=pl.DataFrame(
            [
                {
                    "pool": "p",
                    "node": node,
                    "gpu_type": "",
                    "time": time,
                    "parts": gpus * PARTS,
                    "up": up,
                    "snapshot": False,
                }
                for node, time, gpus, up in nodes
            ],
            schema=CAPACITY,
        ),
        samples=pl.DataFrame(
            [
                {
                    "time": time,
                    "pool": "p",
                    "node": "n1",
                    "gpu": str(which % 3),
                    "parts": PARTS,
                    "job": names[which % len(names)],
                    "use": use,
                    "rung": str(rung),
                }
                for which, time, use, rung in samples
            ],
            schema=SAMPLES,
        ),
        covered={"p": (tuple(sorted(covered)),)} if covered else None,
    )
    for found in account(readings, WINDOW, {"p": GPUS * PARTS}):
        assert found.total(*State) == found.capacity
        assert (found.states["part_seconds"] > 0).all() and (found.states["bound"] >= 0).all()
        fleet = Fleet(pools={"p": Pool(price="2.1375")})
        costs = [cost.amount for cost in by_price(found, fleet)]
        whole = Decimal("2.1375") * found.capacity / (PARTS * 3600)
        assert sum(costs) == whole.quantize(Decimal("0.01")), "to the cent"
        assert all(cost.amount is None for cost in by_price(found, Fleet())), "no price is unknown, not free"


@given(st.decimals(-10_000, 10_000, places=4), st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_shares_sum_to_the_amount(amount, weights):
    shares = shared_out(amount, weights)
    assert sum(shares) == (amount if sum(weights) else 0)


def test_a_bill_is_explained_to_the_cent():
    at = WINDOW.start
    found = accounts(job("a", at, at + 3_333, 3, team="vision"), job("b", at, at + 1_777, 2, team="nlp"))
    charges = [
        Charge(Decimal("1000.01"), "USD", WINDOW.start, WINDOW.end, ("res-1",)),
        Charge(Decimal("33.33"), "USD", WINDOW.end - 5_000, WINDOW.end + 5_000, ("p",)),
        Charge(Decimal("7.77"), "USD", at, at + 10, ("storage",), "block storage"),
        Charge(Decimal("5"), "EUR", at, at + 10, ("p",)),
        Charge(Decimal("-20.00"), "USD", at, at, ("p",), "credit"),
    ]
    fleet = Fleet(pools={"p": Pool(billed_as=("res-1",))})
    rows = by_bill([found], charges, fleet, WINDOW)
    for currency in ("USD", "EUR"):
        billed = sum(charge.amount for charge in charges if charge.currency == currency)
        assert sum(row.amount for row in rows if row.currency == currency) == billed
    left = {row.what: row.amount for row in rows if not row.pool}
    assert left["unexplained: block storage (billed_as of no pool names it)"] == Decimal("7.77")
    assert left["outside the window"] in (Decimal("16.66"), Decimal("16.67"))
