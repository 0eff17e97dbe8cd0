"""Rosters, approvals, grants and revocations, waivers, gates, exports, runs; records by their stamps."""

import sqlalchemy as sa
from alembic import op

from stillhouse.ledger.migrations.tables import create_tables

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
    create_tables(_TEXTS, _WHOLES)
    op.add_column("receipts", sa.Column("signature", sa.Text, nullable=False, server_default=""))
    op.add_column("steps", sa.Column("shares", sa.Text, nullable=False, server_default=""))
    by_stamps = ["stamps", "run", "key", "prompt_tokens", "completion_tokens"]
    op.create_index("answers_by_stamps", "answers", by_stamps)
    op.create_index("answers_by_run", "answers", ["run", "teacher", "key"])
    op.drop_index("ix_answers_run", "answers")
