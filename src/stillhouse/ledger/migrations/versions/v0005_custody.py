"""Snapshots, and what is done to keep them."""

import sqlalchemy as sa
from alembic import op

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


def upgrade() -> None:
    """Create the tables."""
    reals = {"drills": ("seconds", "behind")}
    for table, names in _TEXTS.items():
        op.create_table(
            table,
            sa.Column("writer", sa.String(8), primary_key=True),
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("at", sa.String(32), nullable=False),
            *(sa.Column(name.rstrip("*"), sa.Text, nullable=False) for name in names),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in _WHOLES.get(table, ())),
            *(sa.Column(name, sa.Float(53), nullable=False) for name in reals.get(table, ())),
        )
        for name in names:
            if name.endswith("*"):
                op.create_index(f"ix_{table}_{name[:-1]}", table, [name[:-1]])
