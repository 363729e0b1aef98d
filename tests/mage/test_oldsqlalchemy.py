"""An address of Postgres without a driver is reached by psycopg2 while a run goes on, and only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import sqlalchemy
from sqlalchemy.dialects import registry

from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from tests.parts.postgres import PostgresServer


def test_engine_of_a_block_reaches_postgres(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.url("postgres").replace("postgresql+psycopg2", "postgresql")

    with mage_names(Places(tmp_path)):
        engine = sqlalchemy.create_engine(url)
        frame = pd.read_sql("SELECT 1 AS one", engine)
        engine.dispose()

    assert frame["one"].tolist() == [1]


def test_choice_of_sqlalchemy_is_back_when_the_run_is_over(tmp_path: Path) -> None:
    before = registry.load("postgresql").driver

    with mage_names(Places(tmp_path)):
        assert registry.load("postgresql").driver == "psycopg2"

    assert registry.load("postgresql").driver == before


LATE = """
import sys
from pathlib import Path
from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places

with mage_names(Places(Path.cwd())):
    assert "sqlalchemy" not in sys.modules
    from sqlalchemy.dialects import registry
    print(registry.load("postgresql").driver)
print(registry.load("postgresql").driver)
"""


def test_sqlalchemy_that_a_block_is_first_to_load_is_told() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, check=True
    ).stdout.split()

    assert printed[0] == "psycopg2"
    assert printed[1] != "psycopg2"
