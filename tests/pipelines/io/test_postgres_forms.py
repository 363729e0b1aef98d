"""The forms in which rows travel to Postgres and back carry the same: binary and CSV, ADBC and COPY."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipelines.io import Postgres
from pipelines.io.postgres import connector
from pipelines.io.postgres.binary import BinaryForm
from tests.parts.postgres import PostgresServer
from tests.pipelines.io.projects import postgres_profile
from tests.pipelines.io.test_conformance import COLUMNS


@pytest.fixture
def postgres(tmp_path: Path, postgres_server: PostgresServer, postgres_database: str) -> Postgres:
    return Postgres.from_profile(postgres_profile(tmp_path, postgres_server, postgres_database))


def test_large_results_are_what_small_ones_are(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.export(pd.DataFrame(COLUMNS), table_name="t")
    query = "SELECT *, money::numeric(30, 2) AS exact, array[real, 1] AS reals, 'a'::\"char\" AS c FROM t"
    small = [postgres.load(query, frame=kind) for kind in ("pandas", "arrow")]

    monkeypatch.setattr(connector, "_LARGE", -1)
    large = [postgres.load(query, frame=kind) for kind in ("pandas", "arrow")]

    pd.testing.assert_frame_equal(large[0], small[0])
    assert large[1].schema == small[1].schema
    assert large[1].to_pylist() == small[1].to_pylist()


@pytest.mark.parametrize("name", COLUMNS)
def test_csv_carries_what_binary_carries(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]})
    postgres.export(frame, table_name="in_binary")
    monkeypatch.setattr(BinaryForm, "of", lambda *_: None)
    postgres.export(frame, table_name="as_csv")

    assert len(postgres.load("TABLE in_binary EXCEPT ALL TABLE as_csv")) == 0
    assert len(postgres.load("TABLE as_csv")) == 3
