"""What only MySQL, SQLite and databases by a URL do: doors that stay shut, and what hangs on tables."""

from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.io import MySQL, SQLAlchemy, SQLite
from pipelines.io.config import ProfileError
from pipelines.io.errors import AccessRefused, ConnectionFailed, ConnectorError, ExportRefused
from pipelines.io.sqlalchemy import connector
from tests.parts.ports import free_port
from tests.pipelines.io.projects import write_profiles


@pytest.fixture
def mysql(tmp_path: Path, mysql_profile_keys: dict[str, Any]) -> MySQL:
    return MySQL.from_profile(write_profiles(tmp_path, default=mysql_profile_keys).profile())


def sqlite(root: Path, **keys: Any) -> SQLite:
    return SQLite.from_profile(write_profiles(root, default={"SQLITE_DATABASE": "w.db", **keys}).profile())


def by_url(root: Path, url: str) -> SQLAlchemy:
    return SQLAlchemy.from_profile(write_profiles(root, default={"SQLALCHEMY_URL": url}).profile())


def test_a_server_that_does_not_answer_is_tried_again_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "MYSQL_HOST": "127.0.0.1",
        "MYSQL_PORT": free_port(),
        "MYSQL_DATABASE": "shop",
        "MYSQL_USER": "me",
    }
    profile = write_profiles(tmp_path, default={**keys, "MYSQL_PASSWORD": "s3cret-word"}).profile()
    tries: list[float] = []
    monkeypatch.setattr(connector.time, "sleep", tries.append)

    with pytest.raises(ConnectionFailed, match=r"MySQL at 127\.0\.0\.1:\d+ \(profile 'default'\)") as caught:
        MySQL.from_profile(profile).load("SELECT 1")

    assert tries == list(connector.DELAYS)
    assert "s3cret-word" not in "".join(traceback.format_exception(caught.value))


def test_a_wrong_user_is_refused_at_once_and_the_password_never_shown(
    tmp_path: Path, mysql_profile_keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "DELAYS", (60, 60))
    keys = {**mysql_profile_keys, "MYSQL_USER": "nobody", "MYSQL_PASSWORD": "s3cret-word"}
    profile = write_profiles(tmp_path, default=keys).profile()

    with pytest.raises(AccessRefused, match=r"nobody.*MYSQL_USER") as caught:
        MySQL.from_profile(profile).load("SELECT 1")

    assert "s3cret-word" not in "".join(traceback.format_exception(caught.value))


def test_a_table_of_mysql_is_refilled_or_replaced_unless_others_hang_on_it(mysql: MySQL) -> None:
    mysql.execute("CREATE TABLE zones (id bigint PRIMARY KEY)")
    mysql.execute("CREATE TABLE trips (zone bigint, FOREIGN KEY (zone) REFERENCES zones (id))")

    mysql.export(pd.DataFrame({"id": [1]}), table_name="zones")
    with pytest.raises(
        ExportRefused, match=r"cannot replace .*zones.*the foreign key .* of trips would be lost"
    ):
        mysql.export(pd.DataFrame({"other": [1]}), table_name="zones")

    assert mysql.load("SELECT * FROM zones", frame="dict") == {"id": [1]}
    assert set(mysql.load("SHOW TABLES", frame="list")[0].values()) == {"trips"}
    assert len(mysql.load("SHOW TABLES", frame="list")) == 2


def test_what_mysql_cannot_hold_is_said(mysql: MySQL) -> None:
    with pytest.raises(ExportRefused, match="column 'a' holds inf"):
        mysql.export(pd.DataFrame({"a": [1.0, float("inf")]}), table_name="t")
    with pytest.raises(ExportRefused, match="column 'a' holds durations"):
        mysql.export(pd.DataFrame({"a": pd.to_timedelta(["1h"])}), table_name="t")
    assert mysql.load("SHOW TABLES", frame="list") == []


def test_a_file_of_sqlite_that_another_writes_is_waited_for_and_then_said(tmp_path: Path) -> None:
    sqlite(tmp_path).export(pd.DataFrame({"a": [1]}), table_name="t")

    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConnectionFailed, match=r"SQLite at .*w\.db .*locked"):
            sqlite(tmp_path, SQLITE_LOCK_TIMEOUT=0.1).export(pd.DataFrame({"a": [2]}), table_name="t")

    assert sqlite(tmp_path).load("SELECT a FROM t")["a"].tolist() == [1]


def test_sqlite_has_no_schemas(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="a database of SQLite has no schemas"):
        sqlite(tmp_path).export(pd.DataFrame({"a": [1]}), "lake", "t")


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("no address: s3cret-word", ProfileError, "SQLALCHEMY_URL is no address that SQLAlchemy reads"),
        ("nosuch://me:s3cret-word@h/d", ConnectorError, "no dialect for 'nosuch'"),
        ("oracle+oracledb://me:s3cret-word@h/d", ConnectorError, "needs oracledb, which is not installed"),
    ],
)
def test_an_address_that_will_not_do_is_explained_without_it(
    tmp_path: Path, url: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        by_url(tmp_path, url).load("SELECT 1")

    assert "s3cret-word" not in str(caught.value)
