"""Log lines of runs, read. They are written together with the reports of their run."""

from __future__ import annotations

from sqlalchemy import Connection, select

from service.store.tables import run_logs
from service.store.values import LogLine

LEVELS = ("debug", "info", "warning", "error")  # from the least severe


def read(
    connection: Connection,
    run_id: str,
    *,
    block: str | None = None,
    level: str | None = None,
    contains: str | None = None,
    after_seq: int = 0,
    limit: int = 500,
) -> list[LogLine]:
    """Return the lines after `after_seq`, oldest first: of `level` and the more severe ones.

    `contains` is looked for in any case of its letters.
    """
    query = (
        select(
            run_logs.c.seq,
            run_logs.c.at,
            run_logs.c.level,
            run_logs.c.text,
            run_logs.c.block,
            run_logs.c.attempt,
        )
        .where(run_logs.c.run_id == run_id, run_logs.c.seq > after_seq)
        .order_by(run_logs.c.seq)
        .limit(limit)
    )
    if block is not None:
        query = query.where(run_logs.c.block == block)
    if level is not None:
        query = query.where(run_logs.c.level.in_(LEVELS[LEVELS.index(level) :]))
    if contains is not None:
        query = query.where(run_logs.c.text.icontains(contains, autoescape=True))
    return [LogLine(*row) for row in connection.execute(query)]
