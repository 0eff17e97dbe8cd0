"""Caps and prices: whatever happens in whatever order, no cap is passed and nothing is held for ever."""

import fcntl
import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.clock import now
from stillhouse.errors import BudgetReached, RecipeError, TeacherContradiction
from stillhouse.home.facts import Answered, Asked, CallFailed
from stillhouse.home.ledger import money_queries, origin_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.plans.budgets import BudgetLease
from stillhouse.home.plans.prices import cost, parse_prices, price_of, usd, worst_case, worst_case_of_request
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import Ask, Channel, Message, Parameters, Teacher, TeacherKind, Usage
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from tests.examples import examples
from tests.signers import somebody

# A budget that is dropped, as by a kill, leaves its lock to the collector of garbage.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

PAID = Teacher(
    name="p", kind=TeacherKind.OPENAI, model="m", lab="l", channel=Channel.OFFICIAL, terms=("licence/mit",),
    price_in="1", price_out="2",
)  # fmt: skip


def ask(text: str = "hi", max_tokens: int = 10) -> Ask:
    return Ask("k", "t", "p", (Message("user", text),), Parameters(max_tokens, 1.0, 0), 0)


@given(st.text(max_size=50), st.integers(1, 1000), st.data())
def test_no_answer_costs_more_than_its_worst_case(text, max_tokens, data):
    usage = Usage(data.draw(st.integers(0, len(text.encode()))), data.draw(st.integers(0, max_tokens)))
    assert cost(PAID, usage) <= worst_case(PAID, ask(text, max_tokens))
    assert cost(PAID, usage) <= worst_case_of_request(PAID, len(text.encode()), max_tokens)


def test_thinking_beside_max_tokens_is_reserved():
    import msgspec

    hidden = msgspec.structs.replace(PAID, hidden_tokens=1_000_000)
    assert worst_case(hidden, ask()) >= worst_case(PAID, ask()) + 2


def test_prices_are_dated_and_the_organisations_own_win():
    assert price_of("openai", "gpt-4o-mini", "2026-01-01").price_out == "0.60"
    assert price_of("openai", "gpt-4o-mini", "2020-01-01") is None, "before its first price there is none"
    assert price_of("openai", "no-such", "2026-01-01") is None
    entry = '[[price]]\nlab = "openai"\nmodel = "gpt-4o-mini"\nsince = "{}"\nprice_in = "{}"\nprice_out = "9"\nsource = "ours"\n'
    own = parse_prices((entry.format("2025-01-01", "5") + entry.format("2026-01-01", "6")).encode(), "prices.toml")
    assert price_of("openai", "gpt-4o-mini", "2025-12-31", own).price_in == "5"
    assert price_of("openai", "gpt-4o-mini", "2026-01-01", own).price_in == "6"
    for wrong in (entry.format("2025-01-01", "cheap").encode(), b"[[price", b"\xff", b"[[price]]\nx = 1\n"):
        with pytest.raises(RecipeError, match=r"prices\.toml"):
            parse_prices(wrong, "prices.toml")


class World:
    """A log, its view, and any number of budgets on it: each as if in a process of its own."""

    def __init__(self, folder: Path, cap: str) -> None:
        self.folder, self.cap = folder, Decimal(cap)
        self.log = Log(folder / "log", Objects(MemoryBackend()))
        self.ledger = Ledger("sqlite://")
        self.recorders: list[Recorder] = []

    def budget(self, *scopes: str) -> tuple[Recorder, BudgetLease]:
        recorder = Recorder(self.log, self.ledger, by="test", signatory=somebody)
        self.recorders.append(recorder)
        caps = dict.fromkeys(scopes or ("run:r",), self.cap)
        return recorder, BudgetLease(recorder, self.folder / "locks", caps)

    def committed(self, scope: str = "run:r") -> Decimal:
        self.ledger.catch_up(self.log)
        leased = sum(lease.usd for lease in money_queries.open_leases(self.ledger, scope))
        return leased + money_queries.returned_spending(self.ledger, scope)

    def close(self) -> None:
        for recorder in self.recorders:
            recorder.close()
        self.ledger.close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, "10")
    yield made
    made.close()


def asked(key: str, price: str, lease: str) -> Asked:
    return Asked(at=now(), by="t", run="r", teacher="p", keys=(key,), worst_case_usd=price, lease=lease)


def answered(key: str, price: str, lease: str) -> Answered:
    return Answered(
        at=now(), by="t", run="r", teacher="p", key=key, task="t", prompt="p", sample=0, stamps=1, text="", finish="stop",
        usage=Usage(), cost_usd=price, seconds=0, raw="", lease=lease,
    )  # fmt: skip


AMOUNTS = st.decimals("0.01", 3, places=2)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.decimals(0, 10, places=2),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("rrrskc"), AMOUNTS, AMOUNTS), max_size=30),
)
def test_the_cap_is_never_passed_by_any_number_of_processes(cap, steps):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), str(cap))
        budgets = [world.budget()[1] for _ in range(3)]
        held: list[list[tuple[str, Decimal]]] = [[], [], []]
        truly = Decimal(0)  # what the calls that were admitted can have cost in the end
        for number, (who, step, amount, actual) in enumerate(steps):
            if step == "r":
                key = f"k{number}"
                try:
                    budgets[who].reserve([(key, amount)])
                except BudgetReached:
                    continue
                held[who].append((key, amount))
                truly += amount
            elif step == "s" and held[who]:
                key, reserved = held[who].pop()
                truly += min(actual, reserved) - reserved
                budgets[who].settle(key, min(actual, reserved))
            elif step == "k" and held[who]:
                budgets[who].keep(held[who].pop()[0])
            elif step == "c":
                held[who].clear()
                budgets[who].close()
            assert truly <= world.committed() <= cap
        for budget in budgets:
            budget.close()
        assert world.committed() == truly, "in the end the cap is charged what was used, and no more"
        world.close()


def test_a_refusal_says_which_cap_and_how_much_is_left(world):
    _, budget = world.budget("run:r", "project:x")
    budget.reserve([("a", Decimal("9.5"))])
    with pytest.raises(BudgetReached, match=r"9\.500000 of the \$10 of run:r .* may cost \$1"):
        budget.reserve([("b", Decimal(1))])


def test_the_last_money_goes_round(world):
    """One process does not lock the others out by taking all at its first call."""
    budgets = [world.budget()[1] for _ in range(4)]
    for budget in budgets:
        budget.reserve([("a", Decimal("0.1"))])
    assert all(lease.usd < 5 for lease in money_queries.open_leases(world.ledger, "run:r"))


def test_several_caps_hold_at_once(world):
    world.cap = Decimal(1)
    _, first = world.budget("run:a", "project:x")
    _, second = world.budget("run:b", "project:x")
    first.reserve([("a", Decimal("0.7"))])
    with pytest.raises(BudgetReached, match="project:x"):
        second.reserve([("b", Decimal("0.7"))])
    first.settle("a", Decimal("0.1"))
    first.close()
    second.reserve([("b", Decimal("0.7"))])


def test_what_a_killed_process_held_stays_charged_and_its_rest_is_free(world, tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from decimal import Decimal
from tests.unit.home.plans.test_budgets import World, asked, answered
world = World(Path({str(tmp_path)!r}), "10")
recorder, budget = world.budget()
for key, price in (("a", "1"), ("b", "2"), ("c", "0.5")):
    lease = budget.reserve([(key, Decimal(price))])
    recorder.record(asked(key, price, lease))
recorder.record(answered("c", "0.25", lease))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    before = world.committed()
    assert before > Decimal("3.5"), "it had taken more than it used"
    _, budget = world.budget()
    budget.reserve([("d", Decimal("6.75"))])
    assert world.committed() <= 10
    with pytest.raises(BudgetReached):
        budget.reserve([("e", Decimal("0.01"))])


def test_the_living_are_not_taken_for_dead(world):
    _, first = world.budget()
    first.reserve([("a", Decimal(6))])
    _, second = world.budget()
    with pytest.raises(BudgetReached):
        second.reserve([("b", Decimal(6))])
    assert len(money_queries.open_leases(world.ledger, "run:r")) == 1


def test_a_holder_whose_lock_is_gone_is_dead(world):
    """The check above can fail: without the lock, the same lease is returned."""
    _, first = world.budget()
    first.reserve([("a", Decimal(6))])
    first._holder.release()
    _, second = world.budget()
    second.reserve([("b", Decimal(6))])


def test_a_call_that_costs_more_than_it_can_ends_the_spending(world):
    _, budget = world.budget()
    budget.reserve([("a", Decimal("0.10"))])
    budget.settle("a", Decimal("0.11"))
    with pytest.raises(TeacherContradiction, match=r"could cost \$0\.100000 at most was billed at \$0\.110000"):
        budget.reserve([("b", Decimal("0.10"))])


def test_a_call_of_an_ended_lease_is_settled_later(world):
    recorder, budget = world.budget()
    lease = budget.reserve([("a", Decimal(4))])
    recorder.record(asked("a", "4", lease))
    budget.close()
    assert world.committed() == 4
    recorder, later = world.budget()
    recorder.record(answered("a", "1", lease))
    later.reconcile(lease)
    assert world.committed() == 1
    later.reconcile(lease)
    assert world.committed() == 1, "once is enough"


def test_no_cap_no_lease(world):
    recorder = Recorder(world.log, world.ledger, by="test", signatory=somebody)
    world.recorders.append(recorder)
    budget = BudgetLease(recorder, world.folder / "locks", {})
    assert budget.reserve([("a", Decimal(0))]) == ""
    budget.settle("a", Decimal(0))
    budget.close()
    assert not recorder.wrote


def test_the_lock_of_the_money_is_waited_for(world):
    """While another process is at it, nobody takes a lease."""
    import threading

    (world.folder / "locks").mkdir()
    lock = os.open(world.folder / "locks" / "money", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    world.ledger.close()
    world.ledger = Ledger(f"sqlite:///{world.folder / 'l.db'}")
    _, budget = world.budget()
    thread = threading.Thread(target=lambda: budget.reserve([("a", Decimal(1))]))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    fcntl.flock(lock, fcntl.LOCK_UN)
    thread.join(10)
    assert not thread.is_alive()
    assert world.committed() >= 1


def test_failures_that_cost_nothing_are_not_held(world):
    recorder, budget = world.budget()
    lease = budget.reserve([("a", Decimal(1)), ("b", Decimal(1))])
    recorder.record(asked("a", "1", lease), asked("b", "1", lease))
    failed = {"at": now(), "by": "t", "run": "r", "teacher": "p", "reason": "no", "status": 429, "lease": lease}
    recorder.record(CallFailed(**failed, key="a", charged=False), CallFailed(**failed, key="b", charged=True))
    recorder.refresh()
    assert money_queries.spending_of_lease(world.ledger, lease).held == 1
    assert usd(Decimal("0.0000001")) == "0.000001", "amounts are rounded up"


def test_a_lease_is_returned_once(world):
    """Returned by its holder, it is not returned again by whoever finds the holder gone."""
    _, first = world.budget()
    first.reserve([("a", Decimal(6))])
    first.close()
    _, second = world.budget()
    second.reserve([("b", Decimal(4))])
    assert world.committed() == 10


def test_a_fact_that_could_not_be_read_again_is_not_written(world):
    import msgspec

    recorder, _ = world.budget()
    entry = answered("a", "1", "")
    for broken in ({"finish": 5}, {"sample": True}, {"usage": Usage(True, 1)}):
        with pytest.raises(TypeError):
            recorder.record(msgspec.structs.replace(entry, **broken))
    recorder.record(entry)
    recorder.refresh()


def test_what_could_not_be_interned_is_interned_later(world, monkeypatch):
    from stillhouse.errors import StorageError

    recorder, _ = world.budget()

    def full(*entries):
        raise StorageError("full")

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "record", full)
        with pytest.raises(StorageError):
            recorder.intern((), {"p": (Message("user", "x"),)})
    recorder.intern((), {"p": (Message("user", "x"),)})
    recorder.refresh()
    assert origin_queries.prompt_digests(world.ledger) == {"p"}
