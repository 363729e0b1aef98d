"""A whole table read by several connections at once, each with its share of the pages, in one snapshot.

To make Arrow of what the server sends takes longer than the server needs to send it. A table that is read
from its beginning to its end can be read in shares: their rows one after the other are those of the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from pipelines.io.postgres.adbc import read_table
from pipelines.io.postgres.connecting import Cursor, PostgresSettings
from pipelines.io.postgres.fields import Field
from pipelines.io.postgres.reading import Plan

_SHARE_BYTES = 32 << 20  # below that another connection costs more than it saves
_MOST = 4

# Columns by their names and nothing else: what is computed may write, or differ between transactions, as
# `current_timestamp` does.
_NAME = r'(?:"(?:[^"]|"")+"|(?!current_|local)[a-z_]\w*)'
_WHOLE_TABLE = re.compile(
    rf"\s*SELECT\s+(?:\*|{_NAME}(?:\s*,\s*{_NAME})*)\s+FROM\s+(?P<table>{_NAME}(?:\.{_NAME})?)\s*",
    re.IGNORECASE,
)
_TID_RANGES = 140_000  # the first version of the server that reads only the pages of a share


@dataclass(frozen=True, slots=True)
class Shares:
    """Queries whose rows together are those of one query, and the snapshot that all of them are to see."""

    queries: Sequence[str]
    snapshot: str


def shares_of(cursor: Cursor, query: str, plan: Plan) -> Shares | None:
    """Divide a query that reads a whole table; None where that is not so, or not worth it.

    The snapshot lasts as long as the cursor's transaction.
    """
    found = _WHOLE_TABLE.fullmatch(query)
    if found is None or plan.table is None:
        return None
    if cursor.connection.server_version < _TID_RANGES:
        return None
    cursor.execute(
        "SELECT relname, pg_relation_size(oid), current_setting('block_size')::bigint FROM pg_class "
        "WHERE oid = to_regclass(%s) AND relkind = 'r' AND NOT relhassubclass AND NOT pg_is_in_recovery() "
        "AND relam = (SELECT oid FROM pg_am WHERE amname = 'heap')",
        (found["table"],),
    )
    name, size, page_size = cursor.fetchone() or (None, 0, 1)
    count = min(_MOST, pa.cpu_count(), size // _SHARE_BYTES)
    if name != plan.table or count < 2:
        return None
    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it waits while others read
    cursor.execute("SELECT pg_export_snapshot()")
    exported = cursor.fetchone()
    assert exported is not None
    return Shares([f"{query} WHERE {pages}" for pages in _ranges(size // page_size, count)], exported[0])


def _ranges(pages: int, count: int) -> list[str]:
    """Return conditions for equal shares of the pages; the first has no beginning, and the last no end."""
    inner = [f"'({pages * number // count},0)'::tid" for number in range(1, count)]
    between = [f"ctid >= {begin} AND ctid < {end}" for begin, end in pairwise(inner)]
    return [f"ctid < {inner[0]}", *between, f"ctid >= {inner[-1]}"]


def read_shares(settings: PostgresSettings, shares: Shares, fields: Sequence[Field]) -> pa.Table:
    """Return the rows of all shares, in their order; columns have their positions as names."""
    with ThreadPoolExecutor(len(shares.queries), thread_name_prefix="share") as readers:
        tables = readers.map(
            lambda query: read_table(settings, query, fields, shares.snapshot), shares.queries
        )
        return pa.concat_tables(tables)
