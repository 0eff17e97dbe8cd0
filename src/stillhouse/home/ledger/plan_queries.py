"""Plans and their receipts."""

from typing import NamedTuple

import msgspec
from sqlalchemy import select

from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.nouns import (
    Plan,
    Receipt,
    Signature,
)


class StoredPlan(NamedTuple):
    """A plan, when it was made, and the outcomes of its receipts."""

    digest: str
    at: str
    plan: Plan
    receipts: tuple[Receipt, ...]


def plans(ledger: Ledger) -> list[StoredPlan]:
    """All plans, oldest first, with their receipts."""
    receipts: dict[str, list[Receipt]] = {}
    for row in as_written(all_rows(ledger, ordered(tables.receipts))):
        signature = decode(row.signature, Signature | None)
        result = msgspec.json.decode(row.result)
        receipt = Receipt(plan=row.plan, outcome=row.outcome, result=result, made=row.at, signature=signature)
        receipts.setdefault(row.plan, []).append(receipt)
    found: dict[str, StoredPlan] = {}
    for row in as_written(all_rows(ledger, ordered(tables.plans))):
        plan = decode(row.plan, Plan)
        found.setdefault(row.digest, StoredPlan(row.digest, row.at, plan, tuple(receipts.get(row.digest, ()))))
    return list(found.values())


def outcomes(ledger: Ledger, plan: str) -> list[str]:
    """What came of a plan, by its receipts."""
    receipts = tables.receipts
    return [row.outcome for row in all_rows(ledger, select(receipts.c.outcome).where(receipts.c.plan == plan))]
