"""How a migration makes tables: the columns that say which entry a row is from, and its own."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op


def create_tables(
    texts: Mapping[str, tuple[str, ...]],
    wholes: Mapping[str, tuple[str, ...]],
    reals: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Create a table for each name in ``texts``, with its columns by kind; a star behind a text column marks an index."""
    for table, names in texts.items():
        op.create_table(
            table,
            sa.Column("writer", sa.String(8), primary_key=True),
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("at", sa.String(32), nullable=False),
            *(sa.Column(name.rstrip("*"), sa.Text, nullable=False) for name in names),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in wholes.get(table, ())),
            *(sa.Column(name, sa.Float(53), nullable=False) for name in (reals or {}).get(table, ())),
        )
        for name in names:
            if name.endswith("*"):
                op.create_index(f"ix_{table}_{name[:-1]}", table, [name[:-1]])
