"""The connector to SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from pipelines.io.sqlalchemy import AlchemyConnector
from pipelines.io.sqlalchemy.settings import AlchemySettings
from pipelines.io.sqlalchemy.sqlite import SQLiteDialect

if TYPE_CHECKING:
    from pipelines.io.config import Profile


class SQLite(AlchemyConnector):
    """Loads from and exports to a file of SQLite.

    Profile: SQLITE_DATABASE (a path, from the project's folder); and SQLITE_LOCK_TIMEOUT (60 seconds), how
    long it waits for others who write.
    """

    name: ClassVar[str] = "sqlite"

    @classmethod
    def settings_of(cls, profile: Profile) -> AlchemySettings:
        path = profile.root / Path(str(profile.require("SQLITE_DATABASE"))).expanduser()
        return AlchemySettings(
            profile=profile.name,
            url=sa.URL.create("sqlite", database=str(path)),
            dialect=SQLiteDialect(sqlite_dialect()),
            # Without a level the driver leaves transactions to us. A stream may be read by another thread.
            connect_args={
                "timeout": profile.number("SQLITE_LOCK_TIMEOUT", 60),
                "isolation_level": None,
                "check_same_thread": False,
            },
            prepare=lambda _: path.parent.mkdir(parents=True, exist_ok=True),
            remedy="Check the path in SQLITE_DATABASE",
        )
