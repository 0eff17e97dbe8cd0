"""Plans are executed as they were made, or not at all; and every execution leaves a receipt."""

from decimal import Decimal

import msgspec
import pytest

from stillhouse.errors import BudgetReached, PlanRefused, PolicyRefusal, StorageError
from stillhouse.home.ledger import plan_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.recorder import Recorder
from stillhouse.vault.log import Log
from stillhouse.vault.memory import MemoryBackend
from stillhouse.vault.objects import Objects
from tests.signers import somebody


@pytest.fixture
def recorder(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made = Recorder(Log(tmp_path / "log", Objects(MemoryBackend())), ledger, by="test", signatory=somebody)
    yield made
    made.close()
    ledger.close()


PLAN = make_plan("test", "s", {}, [], Decimal(0), "facts")


@pytest.mark.parametrize(
    ("plan", "facts", "message"),
    [
        (PLAN, "other facts", "has changed since"),
        (msgspec.structs.replace(PLAN, expires="2020-01-01T00:00:00.000Z"), "facts", "expired at 2020"),
    ],
)
def test_a_plan_that_no_longer_holds_is_refused_before_anything_is_done(recorder, plan, facts, message):
    with pytest.raises(PlanRefused, match=message), executing(recorder, plan, facts):
        pytest.fail("nothing of it may run")
    assert not recorder.wrote


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (BudgetReached(), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (PolicyRefusal(), "refused"),
        (OSError(), "failed"),
    ],
)
def test_what_went_wrong_is_in_the_receipt(recorder, failure, outcome):
    with pytest.raises(type(failure)), executing(recorder, PLAN, "facts") as result:
        result["so far"] = 1
        raise failure
    (stored,) = plan_queries.plans(recorder.ledger)
    assert [(receipt.outcome, receipt.result) for receipt in stored.receipts] == [(outcome, {"so far": 1})]


def test_a_receipt_that_cannot_be_written_is_not_passed_over(recorder, monkeypatch):
    def refuse(*entries):
        raise StorageError("full")

    with pytest.raises(StorageError), executing(recorder, PLAN, "facts"):
        monkeypatch.setattr(recorder, "record", refuse)
    with pytest.raises(ValueError, match="of its own"):
        monkeypatch.undo()
        with executing(recorder, PLAN, "facts"):
            monkeypatch.setattr(recorder, "record", refuse)
            raise ValueError("an error of its own")
    monkeypatch.undo()
