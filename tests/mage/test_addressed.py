"""SQL Server, Oracle, Redshift and Snowflake by Mage's names: addresses, arguments, and drivers that lack.

No server of theirs can be had here. What they share is tried on SQLite, by an address as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import URL

from pipelines.io.config import Profile, ProfileError
from pipelines.io.errors import ConnectorError
from pipelines.mage.addressed import MSSQL, OracleDB, Redshift, Snowflake, _Addressed
from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.mage.profiles import ConfigFileLoader

PASSWORD = "p@ss/w:rd"
MSSQL_KEYS = {
    "MSSQL_HOST": "db.local",
    "MSSQL_DATABASE": "shop",
    "MSSQL_USER": "loader",
    "MSSQL_PASSWORD": PASSWORD,
}
ORACLE_KEYS = {
    "ORACLEDB_HOST": "db.local",
    "ORACLEDB_SERVICE": "XEPDB1",
    "ORACLEDB_USER": "loader",
    "ORACLEDB_PASSWORD": PASSWORD,
}
REDSHIFT_KEYS = {
    "REDSHIFT_HOST": "db.local",
    "REDSHIFT_DBNAME": "shop",
    "REDSHIFT_TEMP_CRED_USER": "loader",
    "REDSHIFT_TEMP_CRED_PASSWORD": PASSWORD,
}
SNOWFLAKE_KEYS = {
    "SNOWFLAKE_ACCOUNT": "ab12345.eu",
    "SNOWFLAKE_DEFAULT_DB": "SHOP",
    "SNOWFLAKE_USER": "loader",
    "SNOWFLAKE_PASSWORD": PASSWORD,
}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Let a run of a project go on."""
    with mage_names(Places(tmp_path)):
        yield tmp_path


def address(kind: type[_Addressed], keys: dict[str, Any], root: Path) -> URL:
    return kind.url_of(Profile.of_values(keys, root=root))


@pytest.mark.parametrize(
    ("kind", "keys", "shown"),
    [
        (
            MSSQL,
            MSSQL_KEYS,
            "mssql+pyodbc://loader:***@db.local:1433/shop"
            "?Encrypt=yes&TrustServerCertificate=yes&driver=ODBC+Driver+18+for+SQL+Server",
        ),
        (
            MSSQL,
            {**MSSQL_KEYS, "MSSQL_PORT": "14330", "MSSQL_DRIVER": "FreeTDS"},
            "mssql+pyodbc://loader:***@db.local:14330/shop?Encrypt=yes&TrustServerCertificate=yes&driver=FreeTDS",
        ),
        (OracleDB, ORACLE_KEYS, "oracle+oracledb://loader:***@db.local:1521?service_name=XEPDB1"),
        (Redshift, REDSHIFT_KEYS, "redshift+psycopg2://loader:***@db.local:5439/shop"),
        (Snowflake, SNOWFLAKE_KEYS, "snowflake://loader:***@ab12345.eu/SHOP"),
        (
            Snowflake,
            {**SNOWFLAKE_KEYS, "SNOWFLAKE_DEFAULT_WH": "small", "SNOWFLAKE_ROLE": "loading"},
            "snowflake://loader:***@ab12345.eu/SHOP?role=loading&warehouse=small",
        ),
    ],
)
def test_address_of_a_profile(kind: type[_Addressed], keys: dict[str, Any], shown: str, root: Path) -> None:
    found = address(kind, keys, root)

    assert str(found) == shown
    assert found.password == PASSWORD


@pytest.mark.parametrize(
    ("given", "sent"),
    [(False, "no"), ("no", "no"), ("False", "no"), (True, "yes"), ("1", "yes"), ("", "yes")],
)
def test_certificate_of_sql_server_is_checked_if_the_profile_says_so(
    given: object, sent: str, root: Path
) -> None:
    keys = {**MSSQL_KEYS, "MSSQL_TRUST_SERVER_CERTIFICATE": given}

    assert address(MSSQL, keys, root).query["TrustServerCertificate"] == sent


def test_unclear_word_on_the_certificate_is_refused(root: Path) -> None:
    keys = {**MSSQL_KEYS, "MSSQL_TRUST_SERVER_CERTIFICATE": "never"}

    with pytest.raises(
        ProfileError, match="MSSQL_TRUST_SERVER_CERTIFICATE must be yes or no, and is 'never'"
    ):
        address(MSSQL, keys, root)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [(MSSQL, MSSQL_KEYS), (OracleDB, ORACLE_KEYS), (Redshift, REDSHIFT_KEYS), (Snowflake, SNOWFLAKE_KEYS)],
)
def test_each_key_that_lacks_is_named(kind: type[_Addressed], keys: dict[str, Any], root: Path) -> None:
    for lacking in keys:
        rest = {key: value for key, value in keys.items() if key != lacking}
        if "PASSWORD" in lacking:
            assert address(kind, rest, root).password is None
            continue
        with pytest.raises(ProfileError, match=f"lacks {lacking}"):
            kind.with_config(ConfigFileLoader(config=rest))


@pytest.mark.parametrize(
    ("kind", "keys", "module", "package"),
    [
        (MSSQL, MSSQL_KEYS, "pyodbc", "SQL Server needs pyodbc, which is not installed"),
        (OracleDB, ORACLE_KEYS, "oracledb", "Oracle needs oracledb, which is not installed"),
        (Redshift, REDSHIFT_KEYS, "sqlalchemy_redshift", "install sqlalchemy-redshift"),
        (Snowflake, SNOWFLAKE_KEYS, "snowflake", "install snowflake-sqlalchemy"),
    ],
)
def test_driver_that_lacks_is_named(
    kind: type[_Addressed], keys: dict[str, Any], module: str, package: str, root: Path
) -> None:
    if find_spec(module) is not None:
        pytest.skip(f"{module} is installed here")

    with pytest.raises(ConnectorError) as caught:
        kind.with_config(ConfigFileLoader(config=keys)).load("SELECT 1")

    assert package in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# Each as it is but for its address, which is a file's.


class _OnFile:
    @classmethod
    def url_of(cls, profile: Profile) -> URL:
        return URL.create("sqlite", database=str(profile.require("FILE")))


class RedshiftOnFile(_OnFile, Redshift):
    pass


class SnowflakeOnFile(_OnFile, Snowflake):
    pass


class MSSQLOnFile(_OnFile, MSSQL):
    pass


def rows(root: Path, table: str = "orders") -> list[tuple[Any, ...]]:
    with sqlite3.connect(root / "shop.db") as database:
        return list(database.execute(f"SELECT * FROM {table} ORDER BY 1"))


def on_file(kind: Any, root: Path) -> Any:
    return kind.with_config(ConfigFileLoader(config={"FILE": str(root / "shop.db")}))


ORDERS = pd.DataFrame({"Order Id": [1, 2]})


@pytest.mark.parametrize("kind", [RedshiftOnFile, SnowflakeOnFile])
def test_warehouses_take_the_table_first_and_append(kind: Any, root: Path) -> None:
    with on_file(kind, root) as warehouse:
        warehouse.export(ORDERS, "orders")
        warehouse.export(ORDERS, "orders")
        assert rows(root) == [(1,), (1,), (2,), (2,)]

        warehouse.export(ORDERS, table_name="orders", if_exists="replace")

        assert rows(root) == [(1,), (2,)]
        assert list(warehouse.load("SELECT * FROM orders").columns) == ["order_id"]


def test_third_argument_of_redshift_is_the_schema_and_of_snowflake_the_database(root: Path) -> None:
    with on_file(RedshiftOnFile, root) as redshift:
        redshift.export(ORDERS, "orders", "main")
    with on_file(SnowflakeOnFile, root) as snowflake:
        snowflake.export(ORDERS, "orders", str(root / "shop.db"), "main", "append")
        with pytest.raises(ConnectorError, match="cannot write to database 'other'"):
            snowflake.export(ORDERS, "orders", "other")

    assert rows(root) == [(1,), (1,), (2,), (2,)]


def test_sql_server_takes_the_schema_first_and_replaces(root: Path) -> None:
    with on_file(MSSQLOnFile, root) as server:
        server.export(ORDERS, "main", "orders")
        server.export(ORDERS, "main", "orders")
        server.execute("DELETE FROM orders WHERE order_id = 1")

    assert rows(root) == [(2,)]
