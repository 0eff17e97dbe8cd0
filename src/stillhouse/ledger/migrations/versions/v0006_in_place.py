"""Data that is registered where it lies."""

from stillhouse.ledger.migrations.tables import create_tables

revision = "0006"
down_revision = "0005"

_TEXTS = {
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
