"""Data that is registered where it lies, and sources that can be erased."""

import sqlalchemy as sa
from alembic import op

from stillhouse.ledger.migrations.tables import create_tables

revision = "0006"
down_revision = "0005"

_TEXTS = {
    "erasure_keys": ("source*", "key", "destroyed"),
    "erasures": ("source*", "content", "plan", "previous", "signatures"),
    "examinations": ("manifest*", "examples"),
    "registrations": ("manifest*", "name*", "source", "endpoint"),
}
_WHOLES = {
    "examinations": ("files", "read", "changes", "new"),
    "registrations": ("files", "bytes"),
}


def upgrade() -> None:
    """Create the tables."""
    create_tables(_TEXTS, _WHOLES)
    op.add_column("snapshots", sa.Column("erasable", sa.Text, nullable=False, server_default=""))
