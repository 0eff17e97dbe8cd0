"""Make plans, and execute them once, with a receipt."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from stillhouse.canon import digest_value
from stillhouse.clock import now, utc_now
from stillhouse.errors import (
    BudgetReached,
    Interrupted,
    KeyUnusable,
    LedgerUnavailable,
    MissingExtra,
    PlanRefused,
    RefusedError,
    StorageError,
)
from stillhouse.home import facts
from stillhouse.home.ledger import plan_queries
from stillhouse.home.plans.prices import usd
from stillhouse.home.recorder import Recorder, Sign
from stillhouse.nouns import Decision, Plan, Receipt

# Long enough to read a plan and say yes, short enough that the world it was made for is still there.
_VALID = timedelta(hours=24)


def make_plan(
    kind: str,
    subject: str,
    does: dict[str, Any],
    decisions: Sequence[Decision],
    worst_case: Decimal,
    facts_digest: str,
    *,
    approvals: int = 0,
    impact: dict[str, Any] | None = None,
) -> Plan:
    """A plan as of now. ``facts_digest`` stands for what it rests on: executing compares it with what is then true."""
    made = utc_now()
    return Plan(
        kind=kind,
        subject=subject,
        does=does,
        decisions=tuple(decisions),
        worst_case_usd=usd(worst_case),
        facts=facts_digest,
        made=_text(made),
        expires=_text(made + _VALID),
        approvals_needed=approvals,
        impact=impact or {},
    )


def plan_digest(plan: Plan) -> str:
    """What an approval is given over, and a receipt names."""
    return digest_value(plan)


@contextlib.contextmanager
def executing(recorder: Recorder, plan: Plan, facts_digest: str) -> Iterator[dict[str, Any]]:
    """Run the block under a plan; what it puts into the dictionary becomes the receipt's result.

    Raises PlanRefused where the plan has expired, was executed already, or rests on facts that have changed since; KeyUnusable
    where nobody could sign its receipt.
    """
    digest = plan_digest(plan)
    sign = recorder.signatory()
    if "done" in plan_queries.outcomes(recorder.ledger, digest):
        raise PlanRefused("It was executed already, and a plan is executed once.")
    if plan.expires < now():
        raise PlanRefused(f"It expired at {plan.expires}.")
    if plan.facts != facts_digest:
        raise PlanRefused("What it rests on has changed since it was made.")
    recorder.record(facts.PlanMade(at=now(), by=recorder.by, digest=digest, plan=plan))
    result: dict[str, Any] = {}
    try:
        yield result
    except BaseException as failure:
        # The block's own error says more than that its receipt could not be written.
        with contextlib.suppress(StorageError, LedgerUnavailable, KeyUnusable, MissingExtra):
            _leave_receipt(recorder, sign, digest, _outcome(failure), result)
        raise
    _leave_receipt(recorder, sign, digest, "done", result)


def _outcome(failure: BaseException) -> str:
    if isinstance(failure, BudgetReached | Interrupted | KeyboardInterrupt):
        return "stopped"
    return "refused" if isinstance(failure, RefusedError) else "failed"


def receipt_of(plan: str, outcome: str, result: dict[str, Any], made: str) -> list[Any]:
    """What of a receipt is signed."""
    return [plan, outcome, result, made]


def _leave_receipt(recorder: Recorder, sign: Sign, plan: str, outcome: str, result: dict[str, Any]) -> None:
    made = now()
    result = msgspec.to_builtins(result)
    signature = sign("receipt", receipt_of(plan, outcome, result, made))
    receipt = Receipt(plan=plan, outcome=outcome, result=result, made=made, signature=signature)
    recorder.record(facts.ReceiptLeft(at=now(), by=recorder.by, receipt=receipt))
    recorder.refresh()


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
