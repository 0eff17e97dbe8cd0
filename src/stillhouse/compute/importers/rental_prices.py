"""Snapshots of rental prices by GPU type: one JSON object a line, with percentiles of dollars for a GPU-hour. Pure.

Layout: gpu-price-tracker (``timestamp, gpu_type, price_stats``). A price that is missing or zero is unknown, not free.
"""

import gzip
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from stillhouse.errors import CorpusUnreadable


class RentalPrice(NamedTuple):
    """What a GPU-hour of a type costs to rent, in USD, over some snapshots: the median, and the tenth percentile."""

    gpu_type: str
    first: str
    last: str
    snapshots: int
    median: Decimal
    p10: Decimal


def read_prices(path: Path) -> RentalPrice:
    """Read a file of snapshots. Raises CorpusUnreadable where no snapshot has a price."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    days, medians, lows, type = [], [], [], ""
    for line in data.splitlines():
        try:
            said = msgspec.json.decode(line)
            stats = said["price_stats"]
            middle, low, day = float(stats["median"]), float(stats["p10"]), str(said["timestamp"])
            socket = str(said.get("socket_type") or "")
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
        if middle > 0 and low > 0:
            type = f"{said.get('gpu_type', '')} {socket}".strip()
            days.append(day[:10])
            medians.append(middle)
            lows.append(low)
    if not medians:
        raise CorpusUnreadable(
            f"{path.name} has no price.", next_step="It takes one JSON object a line, with price_stats."
        )
    cents = Decimal("0.01")
    return RentalPrice(
        type, min(days), max(days), len(days), Decimal(str(median(medians))).quantize(cents),
        Decimal(str(median(lows))).quantize(cents),
    )  # fmt: skip
