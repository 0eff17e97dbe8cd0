"""Bills in FOCUS, read and written. Source: FOCUS 1.2 (focus.finops.org), columns of the cost and usage dataset.

Read is BilledCost, or EffectiveCost where a bill has none; empty is unknown, and left out by name. Written is the fleet's own
account: the organisation as provider, a row for each pool, state and team; income of a lease as a credit.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import polars as pl

from stillhouse.compute.accounting.allocations import Window
from stillhouse.compute.accounting.costs import Charge, Cost
from stillhouse.compute.importers.times import epoch
from stillhouse.errors import CorpusUnreadable

_MOST_MONEY, _DIGITS = Decimal(10) ** 15, 18
_NAMES = ("ResourceId", "ResourceName", "SubAccountId", "SubAccountName", "SkuId", "SkuMeter", "ServiceName")


class Bill(NamedTuple):
    """The charges of a bill, and what of it could not be read, by reason."""

    charges: list[Charge]
    left_out: dict[str, int]


def read_focus(table: pl.DataFrame) -> Bill:
    """Read a bill's rows (columns of text). Raises CorpusUnreadable where it is no FOCUS."""
    columns = set(table.columns)
    cost = next((name for name in ("BilledCost", "EffectiveCost") if name in columns), "")
    if not cost or "ChargePeriodStart" not in columns:
        raise CorpusUnreadable(
            "It has no BilledCost and ChargePeriodStart.", next_step="Export the bill in FOCUS 1.0 or later."
        )
    currency = next((name for name in ("BillingCurrency", "PricingCurrency") if name in columns), "")
    moments = table.select(
        start=epoch("ChargePeriodStart"),
        end=epoch("ChargePeriodEnd" if "ChargePeriodEnd" in columns else "ChargePeriodStart"),
    )
    left_out, charges = Counter[str](), []
    for row, (start, end) in zip(table.iter_rows(named=True), moments.iter_rows(), strict=True):
        amount = _money(row[cost])
        said = (row.get(currency) or "").strip() if currency else ""
        if amount is None:
            left_out["a charge without an amount"] += 1
        elif start is None:
            left_out["a charge without a period"] += 1
        elif not said:
            left_out["a charge without a currency"] += 1
        elif end is not None and end < start:
            left_out["a charge that ends before it starts"] += 1
        else:
            names = tuple(name for column in _NAMES if (name := (row.get(column) or "").strip()))
            charges.append(
                Charge(amount, said, start, end if end is not None else start, (*names, *_tags(row.get("Tags"))),
                       row.get("ChargeDescription") or row.get("ServiceName") or "")
            )  # fmt: skip
    return Bill(charges, dict(left_out))


def _money(text: str | None) -> Decimal | None:
    try:
        amount = Decimal((text or "").strip())
    except InvalidOperation:
        return None
    # Beyond these it is no bill, and could not be shared out to the cent.
    exact = amount.is_finite() and abs(amount) < _MOST_MONEY and int(amount.as_tuple().exponent) >= -_DIGITS
    return amount if exact else None


def _tags(text: str | None) -> Iterable[str]:
    try:
        tags = json.loads(text or "{}")
    except ValueError:
        return ()
    return [value for value in tags.values() if isinstance(value, str)] if isinstance(tags, Mapping) else ()


_WRITTEN = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId", "CapacityReservationStatus", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId",
    "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip


def write_focus(
    costs: Iterable[Cost], hours: Mapping[tuple[str, str, str, str], Decimal], window: Window, owner: str
) -> str:
    """The fleet's account as FOCUS 1.2 in CSV: a row for each pool, state, team and project whose cost is known."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _WRITTEN, lineterminator="\n")
    writer.writeheader()
    start, end = _iso(window.start), _iso(window.end)
    for cost in costs:
        if cost.amount is None or not cost.pool:
            continue
        quantity = hours.get((cost.pool, cost.state, cost.team, cost.project), Decimal(0))
        unit = cost.amount / quantity if quantity else Decimal(0)
        writer.writerow(dict.fromkeys(_WRITTEN, "") | {
            "BilledCost": f"{cost.amount:f}", "EffectiveCost": f"{cost.amount:f}", "ListCost": f"{cost.amount:f}",
            "ContractedCost": f"{cost.amount:f}", "BillingAccountId": owner, "BillingAccountName": owner,
            "BillingAccountType": "organisation", "BillingCurrency": cost.currency, "BillingPeriodStart": start,
            "BillingPeriodEnd": end, "ChargePeriodStart": start, "ChargePeriodEnd": end,
            "ChargeCategory": "Credit" if cost.amount < 0 else "Usage", "ChargeFrequency": "Usage-Based",
            "ChargeDescription": f"GPUs of {cost.pool}: {cost.state}", "ConsumedQuantity": f"{quantity:f}",
            "ConsumedUnit": "GPU-Hours", "PricingQuantity": f"{quantity:f}", "PricingUnit": "GPU-Hours",
            "PricingCategory": "Standard", "ListUnitPrice": f"{unit:f}", "ContractedUnitPrice": f"{unit:f}",
            "InvoiceIssuerName": owner, "ProviderName": owner, "PublisherName": owner, "ResourceId": cost.pool,
            "ResourceName": cost.pool, "ResourceType": "GPU pool", "ServiceCategory": "Compute",
            "ServiceSubcategory": "Virtual Machines", "ServiceName": "GPU pool", "SkuId": cost.pool,
            "SkuPriceId": cost.pool, "SkuMeter": "GPU-Hours", "SubAccountId": cost.team, "SubAccountName": cost.team,
            "SubAccountType": "team" if cost.team else "",
            "Tags": json.dumps({"state": cost.state, "project": cost.project}),
        })  # fmt: skip
    return out.getvalue()


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
