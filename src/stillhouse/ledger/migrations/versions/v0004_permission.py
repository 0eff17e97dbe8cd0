"""Rosters, approvals, grants and revocations, waivers, gates, exports, runs; records by their stamps."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Columns by table; a star marks an index.
_TEXTS = {
    "access_changes": ("change*", "content", "plan", "previous", "signatures"),
    "approvals": ("plan*", "signature"),
    "exports": ("dataset*", "digest*", "name"),
    "gates": ("subjects", "use", "reasons", "job", "signature"),
    "rosters": ("roster", "change", "plan", "previous", "signatures"),
    "runs": ("run*", "recipe", "inputs", "code", "environment", "machine"),
    "waivers": ("waiver*", "content", "plan", "previous", "signatures"),
}
_WHOLES = {"exports": ("rows",), "gates": ("allowed",), "rosters": ("version",)}


def upgrade() -> None:
    """Create the tables, and the index by which a revoked source finds its records."""
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
    op.add_column("receipts", sa.Column("signature", sa.Text, nullable=False, server_default=""))
    op.add_column("steps", sa.Column("shares", sa.Text, nullable=False, server_default=""))
    by_stamps = ["stamps", "run", "key", "prompt_tokens", "completion_tokens"]
    op.create_index("answers_by_stamps", "answers", by_stamps)
    op.create_index("answers_by_run", "answers", ["run", "teacher", "key"])
    op.drop_index("ix_answers_run", "answers")
