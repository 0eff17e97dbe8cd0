"""Entries of the log that the view cannot hold; what a copy was found to have."""

import sqlalchemy as sa
from alembic import op

from stillhouse.ledger.migrations.tables import create_tables

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table, and the columns."""
    create_tables({"unviewed": ("kind", "reason")}, {})
    op.add_column("copies", sa.Column("sampled", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("copies", sa.Column("heads", sa.Text, nullable=False, server_default="{}"))
