"""What other rooms need to speak to the store: the database, its named commits, shared commits."""

from __future__ import annotations

from sqlalchemy import Connection

from service.store.commits import ALL_CRASH_POINTS, Commit
from service.store.database import Database, Transaction
from service.store.group_commit import GroupCommit

__all__ = ["ALL_CRASH_POINTS", "Commit", "Connection", "Database", "GroupCommit", "Transaction"]
