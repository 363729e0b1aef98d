"""Databases that are reached by an address: `mage_ai.io.mssql`, `oracledb`, `redshift`, `snowflake`.

Each needs its driver installed beside Millrace; whoever lacks it is told so by the connector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import URL

from pipelines.io.config import Profile, ProfileError
from pipelines.io.errors import ConnectorError
from pipelines.mage.databases import Database
from pipelines.mage.profiles import BaseConfigLoader, ConfigFileLoader
from pipelines.mage.repository import places


class _Addressed(Database):
    connector = "SQLAlchemy"
    schema_key: ClassVar[str] = "SCHEMA"

    def __init__(self, *, config: BaseConfigLoader | None = None, verbose: bool = True, **settings: Any):
        loader = config or ConfigFileLoader(config=self._keys_of(settings))
        self._address = self.url_of(loader.settings)
        super().__init__(config=loader)

    @classmethod
    def settings_of(cls, profile: Profile) -> Profile:
        values = {"SQLALCHEMY_URL": cls.url_of(profile).render_as_string(hide_password=False)}
        if schema := profile.get(f"{cls.prefix}_{cls.schema_key}"):
            values["SQLALCHEMY_SCHEMA"] = str(schema)
        return Profile.of_values(values, root=places().root, name=profile.name)

    @classmethod
    @abstractmethod
    def url_of(cls, profile: Profile) -> URL:
        """Return the address of the database that a profile names."""


def _url(
    profile: Profile, driver: str, keys: Mapping[str, str], query: Mapping[str, str], port: int = 0
) -> URL:
    """Make an address; `keys` says which key of the profile has the user, the password, ..."""
    number = profile.number(keys["port"], port) if "port" in keys else 0
    password = profile.get(keys["password"])
    return URL.create(
        driver,
        username=str(profile.require(keys["user"])),
        password=None if password is None else str(password),
        host=str(profile.require(keys["host"])),
        port=int(number) or None,
        database=str(profile.require(keys["database"])) if "database" in keys else None,
        query=dict(query),
    )


def _keys(prefix: str, **others: str) -> dict[str, str]:
    plain = {part: f"{prefix}_{part.upper()}" for part in ("user", "password", "host", "port", "database")}
    return plain | others


def _yes_or_no(profile: Profile, key: str, default: str) -> str:
    given = profile.get(key)
    text = default if given in (None, "") else str(given).strip().lower()
    for word, meant in (("yes", ("yes", "true", "1")), ("no", ("no", "false", "0"))):
        if text in meant:
            return word
    raise ProfileError(f"profile {profile.name!r}: {key} must be yes or no, and is {given!r}")


class MSSQL(_Addressed):
    """Reads and writes SQL Server, by ODBC.

    The certificate of the server is not checked unless MSSQL_TRUST_SERVER_CERTIFICATE is `no`: Mage trusts
    any, and what SQL Server makes for itself would pass no check.
    """

    prefix = "MSSQL"

    @classmethod
    def url_of(cls, profile: Profile) -> URL:
        driver = str(profile.get("MSSQL_DRIVER") or "ODBC Driver 18 for SQL Server")
        trusts = _yes_or_no(profile, "MSSQL_TRUST_SERVER_CERTIFICATE", "yes")
        query = {"driver": driver, "Encrypt": "yes", "TrustServerCertificate": trusts}
        return _url(profile, "mssql+pyodbc", _keys("MSSQL"), query, 1433)


class OracleDB(_Addressed):
    """Reads and writes Oracle."""

    prefix = "ORACLEDB"

    @classmethod
    def url_of(cls, profile: Profile) -> URL:
        keys = _keys("ORACLEDB")
        del keys["database"]
        service = {"service_name": str(profile.require("ORACLEDB_SERVICE"))}
        return _url(profile, "oracle+oracledb", keys, service, 1521)


class Redshift(_Addressed):
    """Reads and writes Redshift."""

    prefix = "REDSHIFT"

    def export(  # type: ignore[override]  # Mage's classes differ in this very way
        self,
        df: Any,
        table_name: str | None = None,
        schema: str | None = None,
        if_exists: str = "append",
        **options: Any,
    ) -> None:
        """Write a frame into a table, whole or not at all."""
        super().export(df, schema, table_name, if_exists, **options)

    @classmethod
    def url_of(cls, profile: Profile) -> URL:
        keys = _keys(
            "REDSHIFT",
            user="REDSHIFT_TEMP_CRED_USER",
            password="REDSHIFT_TEMP_CRED_PASSWORD",  # noqa: S106 - the name of a key
            database="REDSHIFT_DBNAME",
        )
        return _url(profile, "redshift+psycopg2", keys, {}, 5439)


class Snowflake(_Addressed):
    """Reads and writes Snowflake."""

    prefix = "SNOWFLAKE"
    schema_key = "DEFAULT_SCHEMA"

    def export(  # type: ignore[override]  # Mage's classes differ in this very way
        self,
        df: Any,
        table_name: str | None = None,
        database: str | None = None,
        schema: str | None = None,
        if_exists: str = "append",
        **options: Any,
    ) -> None:
        """Write a frame into a table, whole or not at all. Raises ConnectorError for another database."""
        there = self._address.database or ""
        if database and database.upper() != there.upper():
            raise ConnectorError(
                f"Snowflake().export() cannot write to database {database!r}: the profile connects to "
                f"{there!r}; name a profile whose SNOWFLAKE_DEFAULT_DB it is"
            )
        super().export(df, schema, table_name, if_exists, **options)

    @classmethod
    def url_of(cls, profile: Profile) -> URL:
        keys = _keys("SNOWFLAKE", host="SNOWFLAKE_ACCOUNT", database="SNOWFLAKE_DEFAULT_DB")
        del keys["port"]
        given = {
            "warehouse": profile.get("SNOWFLAKE_DEFAULT_WH"),
            "role": profile.get("SNOWFLAKE_ROLE"),
        }
        return _url(profile, "snowflake", keys, {name: str(value) for name, value in given.items() if value})
