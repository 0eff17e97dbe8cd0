"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _entry_place() -> list[sa.Column[object]]:
    return [
        sa.Column("writer", sa.String(8), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
    ]


def upgrade() -> None:
    """Create every table and index."""
    op.create_table(
        "answers",
        *_entry_place(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("teacher", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("sample", sa.BigInteger, nullable=False),
        sa.Column("stamps", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("finish", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
    )
    op.create_index("ix_answers_key", "answers", ["key"])
    op.create_index("ix_answers_run", "answers", ["run"])
    op.create_table(
        "asked",
        *_entry_place(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("teacher", sa.Text, nullable=False),
        sa.Column("worst_case_usd", sa.Text, nullable=False),
    )
    op.create_index("asked_by_run", "asked", ["run"])
    op.create_index("ix_asked_key", "asked", ["key"])
    op.create_index("ix_asked_teacher", "asked", ["teacher"])
    op.create_table(
        "cursors",
        sa.Column("writer", sa.String(8), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
    )
    op.create_table(
        "datasets",
        *_entry_place(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
    )
    op.create_index("ix_datasets_name", "datasets", ["name"])
    op.create_table(
        "edges",
        *_entry_place(),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("child", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
    )
    op.create_index("ix_edges_child", "edges", ["child"])
    op.create_index("ix_edges_parent", "edges", ["parent"])
    op.create_table(
        "failures",
        *_entry_place(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("teacher", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("charged", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_failures_key", "failures", ["key"])
    op.create_table(
        "placements",
        *_entry_place(),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("stamps", sa.BigInteger, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_placements_dataset", "placements", ["dataset"])
    op.create_index("ix_placements_key", "placements", ["key"])
    op.create_table(
        "plans",
        *_entry_place(),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
    )
    op.create_index("ix_plans_digest", "plans", ["digest"])
    op.create_table(
        "prompts",
        *_entry_place(),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("messages", sa.Text, nullable=False),
    )
    op.create_index("ix_prompts_prompt", "prompts", ["prompt"])
    op.create_table(
        "receipts",
        *_entry_place(),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
    )
    op.create_index("ix_receipts_plan", "receipts", ["plan"])
    op.create_table(
        "refusals",
        *_entry_place(),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "stamp_sets",
        *_entry_place(),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("stamps", sa.Text, nullable=False),
    )
    op.create_index("ix_stamp_sets_id", "stamp_sets", ["id"])
    op.create_table(
        "tails",
        *_entry_place(),
        sa.Column("torn_writer", sa.Text, nullable=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("kept_in", sa.Text, nullable=False),
    )
    op.create_table(
        "teachers",
        *_entry_place(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("registered_by", sa.Text, nullable=False),
        sa.Column("teacher", sa.Text, nullable=False),
    )
    op.create_index("ix_teachers_name", "teachers", ["name"])
    op.create_table(
        "verdicts",
        *_entry_place(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("judge", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("check_failed", sa.Text, nullable=False),
        sa.Column("trust", sa.Text, nullable=False),
        sa.Column("isolation", sa.Text, nullable=False),
        sa.Column("checks", sa.BigInteger, nullable=False),
        sa.Column("checks_passed", sa.BigInteger, nullable=False),
        sa.Column("cpu_seconds", sa.Float(53), nullable=False),
    )
    op.create_index("ix_verdicts_key", "verdicts", ["key"])
