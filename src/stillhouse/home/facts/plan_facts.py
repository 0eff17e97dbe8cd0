"""Entries about plans: made, approved, executed."""

from stillhouse.home.facts.declarations import Fact, Table
from stillhouse.nouns import Plan, Receipt, Signature


class PlanMade(Fact, frozen=True, tag="plan-made"):
    """A plan was made and is about to be executed, or waits for approval."""

    digest: str
    plan: Plan

    tables = (Table("plans", indexes=("digest",), columns={"kind": "plan.kind", "subject": "plan.subject"}),)


class PlanApproved(Fact, frozen=True, tag="plan-approved"):
    """Somebody says yes to a plan, over its digest."""

    plan: str
    signature: Signature

    tables = (Table("approvals", indexes=("plan",)),)


class ReceiptLeft(Fact, frozen=True, tag="receipt-left"):
    """What came of a plan."""

    receipt: Receipt

    tables = (Table("receipts", indexes=("plan",), flat=("receipt",), without=("receipt.made",)),)
