"""Leases of caps, batches, the gateway, imports."""

import sqlalchemy as sa
from alembic import op

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
    for table, names in _TEXTS.items():
        op.create_table(
            table,
            sa.Column("writer", sa.String(8), primary_key=True),
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("at", sa.String(32), nullable=False),
            *(sa.Column(name.rstrip("*"), sa.Text, nullable=False) for name in names),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in _WHOLES.get(table, ())),
        )
        for name in names:
            if name.endswith("*"):
                op.create_index(f"ix_{table}_{name[:-1]}", table, [name[:-1]])
    for table in _LEASED:
        op.add_column(table, sa.Column("lease", sa.Text, nullable=False, server_default=""))
        op.create_index(f"ix_{table}_lease", table, ["lease"])
