"""Promise 8. Every GPU-second is accounted for, once, "unknown" included: states sum to capacity x time, costs to the bill."""

import random
from decimal import Decimal

from stillhouse.compute.importers.slurm_jobs import FIELDS

HOUR, START, DAYS, GPUS = 3600, 1_793_491_200, 7, 64
STATES = ("COMPLETED", "FAILED", "CANCELLED by 7", "TIMEOUT", "NODE_FAIL", "REQUEUED", "OUT_OF_MEMORY")


def cluster(seed):
    """A week of a cluster of which everything is known: what sacct would write, and what each state held in GPU-seconds."""
    chance = random.Random(seed)
    lines, truth = ["|".join(FIELDS)], dict.fromkeys(("productive", "unproductive", "inactive"), 0)
    for slot in range(8):  # eight GPUs each, one job after the other
        at = START
        while at < START + DAYS * 24 * HOUR:
            at += chance.randrange(0, 3 * HOUR)
            seconds = min(chance.randrange(60, 20 * HOUR), START + DAYS * 24 * HOUR - at)
            if seconds <= 0:
                break
            state, busy = chance.choice(STATES), chance.random() < 0.7
            row = {
                "JobIDRaw": f"{slot}{at}",
                "JobID": f"{slot}{at}",
                "User": "ann",
                "Account": f"team{slot % 3}",
                "Partition": "p",
                "State": state,
                "Start": at,
                "End": at + seconds,
                "Submit": at,
                "ElapsedRaw": seconds,
                "AllocTRES": "billing=8,gres/gpu=8,gres/gpu:h100=8",
            }
            lines.append("|".join(str(row.get(name, "")) for name in FIELDS))
            step = {"JobIDRaw": f"{slot}{at}.batch", "TRESUsageInAve": f"gres/gpuutil={800 if busy else 0}"}
            lines.append("|".join(str(step.get(name, "")) for name in FIELDS))
            lost = state in ("FAILED", "NODE_FAIL", "REQUEUED", "OUT_OF_MEMORY")
            truth["inactive" if not busy else "unproductive" if lost else "productive"] += 8 * seconds
            at += seconds
    return "\n".join(lines) + "\n", truth


def test_planted_states_are_found_and_sum_to_capacity_and_to_the_bill(home):
    text, truth = cluster(7)
    (home.home / "fleet.toml").write_text(f'[pools.p]\ngpus = {GPUS}\nprice = "1.99"\n')
    bill = "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ResourceId\n"
    bill += f"12345.67,USD,{START},{START + DAYS * 24 * HOUR},p\n0.01,USD,{START},{START + 1},other\n"
    window = ["--since", "2026-11-01", "--until", "2026-11-08"]
    home("compute", "import", home.write("sacct.txt", text), home.write("bill.csv", bill), *window)
    found = home("compute", "use", *window, "--json").json
    (pool,) = found["pools"]
    hours = {state: Decimal(row["gpu_hours"]) for state, row in pool["states"].items()}
    assert sum(hours.values()) == GPUS * 24 * DAYS
    assert abs(hours["allocated-inactive"] - Decimal(truth["inactive"]) / HOUR) <= Decimal("0.01")
    # A mean over a run says that it was used, and not when: how long is not known.
    assert abs(hours["unknown"] - Decimal(truth["productive"] + truth["unproductive"]) / HOUR) <= Decimal("0.01")
    assert sum(Decimal(row["cost"]) for row in pool["states"].values()) == Decimal("1.99") * GPUS * 24 * DAYS
    (billed,) = found["bill"]
    assert sum(Decimal(row["amount"]) for row in [*billed["explained"], *billed["unexplained"]]) == Decimal("12345.68")


def test_a_state_that_is_left_out_is_seen():
    """The check of the sum can fail: without one of its rows, an account is short."""
    from stillhouse.compute.accounting.allocations import Window
    from stillhouse.compute.accounting.states import State, account
    from stillhouse.compute.importers.slurm_jobs import read_parsable
    from stillhouse.compute.readings import PARTS

    text, _ = cluster(3)
    window = Window(START, START + DAYS * 24 * HOUR)
    (found,) = account(read_parsable(text.splitlines(keepends=True), "p"), window, {"p": GPUS * PARTS})
    assert found.total(*State) == found.capacity == GPUS * PARTS * window.seconds
    assert found._replace(states=found.states[1:]).total(*State) != found.capacity
