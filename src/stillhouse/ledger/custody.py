"""The questions of custody: what is in the vault, what holds it, what became of it."""

from typing import NamedTuple

from stillhouse.ledger import schema
from stillhouse.ledger.queries import all_rows, ordered
from stillhouse.ledger.store import Ledger


class StoredSnapshot(NamedTuple):
    """A snapshot as it was written down. The same content taken twice stands twice."""

    at: str
    snapshot: str
    name: str
    source: str
    subject: str
    files: int
    bytes: int
    added: int


def snapshots(ledger: Ledger) -> list[StoredSnapshot]:
    """All snapshots, oldest first."""
    return [
        StoredSnapshot(row.at, row.snapshot, row.name, row.source, row.subject, row.files, row.bytes, row.added)
        for row in all_rows(ledger, ordered(schema.snapshots))
    ]
