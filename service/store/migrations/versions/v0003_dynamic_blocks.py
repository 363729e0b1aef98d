"""Children of dynamic blocks, reasons of blocks, options of runs, runs that other runs started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store import columns

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("block_runs", sa.Column("parent", columns.Key(), nullable=True))
    op.add_column("block_runs", sa.Column("item", sa.Integer(), nullable=True))
    op.add_column("block_runs", sa.Column("reason", columns.Prose(), nullable=True))
    op.add_column("block_runs", sa.Column("first_started_at", columns.Moment(), nullable=True))
    op.add_column("block_runs", sa.Column("killed", sa.Boolean(), nullable=True))
    op.add_column("runs", sa.Column("options", columns.Json(), nullable=True))
    op.add_column("runs", sa.Column("parent_run_id", columns.Key(), nullable=True))
