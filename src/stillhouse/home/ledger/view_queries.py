"""Entries of the log that the view could not hold."""

from typing import NamedTuple

from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, ordered


class Unviewed(NamedTuple):
    """An entry of the log whose rows this database refused."""

    writer: str
    number: int
    kind: str
    reason: str


def unviewed(ledger: Ledger) -> list[Unviewed]:
    """The entries that stand in no table."""
    table = tables.unviewed
    return [Unviewed(row.writer, row.number, row.kind, row.reason) for row in all_rows(ledger, ordered(table))]
