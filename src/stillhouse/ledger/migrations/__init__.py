"""Forward-only migrations of the ledger, run by Alembic."""
