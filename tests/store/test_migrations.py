from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from service.errors import StoreVersionError
from service.store.migrate import HEAD, VERSION_TABLE, migrate
from service.store.migrations import runner
from service.store.session import Commit, Database
from service.store.tables import metadata
from tests.parts.stores import STORES, sqlite_url

_MIGRATE = """
import sys
from pathlib import Path
from service.store.migrate import migrate
from service.store.session import Database
database = Database(sys.argv[1], home=Path(sys.argv[2]))
migrate(database)
assert "alembic" in sys.modules or sys.argv[3] == "later"
"""


def test_the_migrations_make_the_tables_that_the_code_declares(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        differences = compare_metadata(context, metadata)

    assert differences == []


def test_the_head_is_the_newest_migration() -> None:
    assert runner.head() == HEAD


def test_migrating_again_changes_nothing_and_loads_no_alembic(
    database: Database, store_url: str, tmp_path: Path
) -> None:
    migrate(database)

    code = _MIGRATE.replace('"alembic" in', '"alembic" not in')
    subprocess.run([sys.executable, "-c", code, store_url, str(tmp_path), "x"], check=True, timeout=60)


@pytest.mark.parametrize("store", STORES)
def test_processes_that_start_at_once_migrate_once(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url(tmp_path) if store == "sqlite" else request.getfixturevalue("empty_postgres_url")

    starting = [
        subprocess.Popen([sys.executable, "-c", _MIGRATE, url, str(tmp_path), "later"]) for _ in range(3)
    ]

    assert [process.wait(60) for process in starting] == [0, 0, 0]
    database = Database(url, home=tmp_path)
    with database.read() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all() == [HEAD]
    database.close()


def test_a_store_of_a_newer_version_is_refused(database: Database) -> None:
    newer = f"UPDATE {VERSION_TABLE} SET version_num = '9999'"
    database.write(Commit.MIGRATE, lambda tx: tx.connection.exec_driver_sql(newer))

    with pytest.raises(StoreVersionError, match="9999"):
        migrate(database)
