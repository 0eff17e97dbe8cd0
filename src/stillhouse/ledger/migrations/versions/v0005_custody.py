"""Snapshots, and what is done to keep them."""

from stillhouse.ledger.migrations.tables import create_tables

revision = "0005"
down_revision = "0004"

# Columns by table; a star marks an index.
_TEXTS = {
    "copies": ("copy*", "store", "domain"),
    "days": ("day*",),
    "drills": ("copy*", "subject", "problem", "signature"),
    "deletions": ("deletion*", "content", "plan", "previous", "signatures"),
    "deletions_undone": ("deletion*",),
    "hold_releases": ("hold*", "content", "plan", "previous", "signatures"),
    "holds": ("hold*", "subject", "reason"),
    "trash": ("object*", "what", "reason"),
    "scrubs": ("copy*", "bad", "repaired"),
    "snapshots": ("snapshot*", "name*", "source", "subject"),
}
_WHOLES = {
    "copies": ("objects", "added", "bytes", "entries"),
    "drills": ("whole", "files", "bytes"),
    "scrubs": ("objects", "read"),
    "snapshots": ("files", "bytes", "added"),
}
_REALS = {"drills": ("seconds", "behind")}


def upgrade() -> None:
    """Create the tables."""
    create_tables(_TEXTS, _WHOLES, _REALS)
