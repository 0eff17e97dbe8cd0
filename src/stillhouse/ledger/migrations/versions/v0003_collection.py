"""Leases of caps, batches, the gateway, imports."""

import sqlalchemy as sa
from alembic import op

from stillhouse.ledger.migrations.tables import create_tables

revision = "0003"
down_revision = "0002"

# Columns by table; a star marks an index.
_TEXTS = {
    "batch_ends": ("batch*", "reason"),
    "batches": ("batch*", "run*", "teacher*", "calls"),
    "calls": ("call*", "key*", "teacher", "path", "purpose", "idempotency*", "request"),
    "gateway_keys": ("key*", "issued"),
    "imports": ("run*", "source", "digest", "shape"),
    "key_revocations": ("key*", "reason"),
    "lease_returns": ("lease*", "used_usd"),
    "leases": ("lease*", "scope*", "holder", "usd"),
    "returns": ("call*", "outcome", "reason", "kind", "body"),
    "submissions": ("batch*", "remote"),
}
_WHOLES = {"batches": ("stamps",), "calls": ("stamps",), "imports": ("rows",), "returns": ("status", "redacted")}
_LEASED = ("answers", "asked", "failures")


def upgrade() -> None:
    """Create the tables, and say of every call under which lease it was asked."""
    create_tables(_TEXTS, _WHOLES)
    for table in _LEASED:
        op.add_column(table, sa.Column("lease", sa.Text, nullable=False, server_default=""))
        op.create_index(f"ix_{table}_lease", table, ["lease"])
