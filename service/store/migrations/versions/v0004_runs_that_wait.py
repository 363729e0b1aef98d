"""Runs by the run that started them, and which run a block waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store import columns

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index(
        "runs_by_parent",
        "runs",
        ["parent_run_id", "id"],
        unique=False,
        postgresql_where=sa.text("parent_run_id IS NOT NULL"),
        sqlite_where=sa.text("parent_run_id IS NOT NULL"),
    )
    op.create_table(
        "awaited_runs",
        sa.Column("run_id", columns.Key(), nullable=False),
        sa.Column("call", columns.Key(), nullable=False),
        sa.Column("product", columns.Key(), nullable=False),
        sa.Column("awaited", columns.Key(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "call"),
        sqlite_with_rowid=False,
    )
