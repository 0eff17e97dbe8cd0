"""Trainings, models, evaluations, passports."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _entry_place() -> list[sa.Column[object]]:
    return [
        sa.Column("writer", sa.String(8), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
    ]


def upgrade() -> None:
    """Create the tables of the student."""
    op.create_table(
        "evaluations",
        *_entry_place(),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("suite", sa.Text, nullable=False),
        sa.Column("evaluation", sa.Text, nullable=False),
    )
    op.create_index("ix_evaluations_subject", "evaluations", ["subject"])
    op.create_table(
        "fed",
        *_entry_place(),
        sa.Column("training", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
    )
    op.create_index("ix_fed_key", "fed", ["key"])
    op.create_index("ix_fed_training", "fed", ["training"])
    op.create_table(
        "models",
        *_entry_place(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("weights_digest", sa.Text, nullable=False),
        sa.Column("training", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
    )
    op.create_index("ix_models_name", "models", ["name"])
    op.create_index("ix_models_training", "models", ["training"])
    op.create_index("ix_models_weights_digest", "models", ["weights_digest"])
    op.create_table(
        "passports",
        *_entry_place(),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("signer", sa.Text, nullable=False),
    )
    op.create_index("ix_passports_model", "passports", ["model"])
    op.create_table(
        "steps",
        *_entry_place(),
        sa.Column("training", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("answer_tokens", sa.BigInteger, nullable=False),
        sa.Column("loss", sa.Float(53), nullable=False),
        sa.Column("learning_rate", sa.Float(53), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
    )
    op.create_index("ix_steps_training", "steps", ["training"])
