"""Profiles of `io_config.yaml` in Mage's terms: `mage_ai.io.config`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipelines.context import current_block
from pipelines.io.config import DEFAULT_PROFILE, PROFILES_FILE, Profile, Profiles
from pipelines.mage.repository import absolute, places
from pipelines.parse_fields import words
from pipelines.secrets import Secrets

_KEYS = """
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_ENDPOINT
    CLICKHOUSE_DATABASE CLICKHOUSE_HOST CLICKHOUSE_PASSWORD CLICKHOUSE_PORT CLICKHOUSE_USERNAME
    DUCKDB_DATABASE DUCKDB_SCHEMA
    GOOGLE_LOCATION GOOGLE_PROJECT_ID GOOGLE_SERVICE_ACC_KEY GOOGLE_SERVICE_ACC_KEY_FILEPATH
    MONGODB_COLLECTION MONGODB_CONNECTION_STRING MONGODB_DATABASE MONGODB_HOST MONGODB_PASSWORD MONGODB_PORT
    MONGODB_USER
    MSSQL_DATABASE MSSQL_DRIVER MSSQL_HOST MSSQL_PASSWORD MSSQL_PORT MSSQL_SCHEMA MSSQL_USER
    MYSQL_CONNECTION_METHOD MYSQL_DATABASE MYSQL_HOST MYSQL_PASSWORD MYSQL_PORT MYSQL_USER
    ORACLEDB_HOST ORACLEDB_PASSWORD ORACLEDB_PORT ORACLEDB_SERVICE ORACLEDB_USER
    POSTGRES_CONNECTION_METHOD POSTGRES_CONNECT_TIMEOUT POSTGRES_DBNAME POSTGRES_HOST POSTGRES_PASSWORD
    POSTGRES_PORT POSTGRES_SCHEMA POSTGRES_SSH_HOST POSTGRES_SSH_PASSWORD POSTGRES_SSH_PKEY POSTGRES_SSH_PORT
    POSTGRES_SSH_USERNAME POSTGRES_USER
    REDSHIFT_CLUSTER_ID REDSHIFT_DBNAME REDSHIFT_DBUSER REDSHIFT_HOST REDSHIFT_IAM_PROFILE REDSHIFT_PORT
    REDSHIFT_SCHEMA REDSHIFT_TEMP_CRED_PASSWORD REDSHIFT_TEMP_CRED_USER
    SNOWFLAKE_ACCOUNT SNOWFLAKE_DEFAULT_DB SNOWFLAKE_DEFAULT_SCHEMA SNOWFLAKE_DEFAULT_WH SNOWFLAKE_PASSWORD
    SNOWFLAKE_ROLE SNOWFLAKE_USER
    SQLITE_DATABASE
    TRINO_CATALOG TRINO_HOST TRINO_PASSWORD TRINO_PORT TRINO_SCHEMA TRINO_USER
"""

ConfigKey = StrEnum("ConfigKey", {key: key for key in sorted(words(_KEYS))})  # type: ignore[misc]


class BaseConfigLoader(Mapping[str, Any]):
    """A profile; a key that is not there is None by `get` and by brackets, as in Mage."""

    def __init__(self, profile: Profile) -> None:
        self.settings = profile

    @property
    def config(self) -> dict[str, Any]:
        """All values, rendered. Raises ProfileError for one that cannot be."""
        return dict(self.settings)

    def get(self, key: str, default: Any = None, **_: Any) -> Any:
        found = str(key)
        return self.settings.get(found, default)

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        return str(key) in self.settings

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)


class ConfigFileLoader(BaseConfigLoader):
    """One profile of a file. Values are rendered when they are asked for.

    Raises ProfileError when the file or the profile is not there.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str] | None = None,
        profile: str = DEFAULT_PROFILE,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(_given(config) if config is not None else _profile(filepath, profile))
        self.filepath = filepath
        self.profile = profile


class EnvironmentVariableLoader(BaseConfigLoader):
    """The keys of a profile, each from the environment variable of its name."""

    def __init__(self) -> None:
        super().__init__(_given({key: os.environ[key] for key in sorted(ConfigKey) if key in os.environ}))


def _given(values: Mapping[str, Any]) -> Profile:
    return Profile.of_values({str(key): value for key, value in values.items()}, root=places().root)


def _profile(filepath: str | os.PathLike[str] | None, name: str) -> Profile:
    profiles = _profiles()
    if filepath is not None:
        file = absolute(filepath)
        if file != places().root / PROFILES_FILE:
            profiles = profiles.of_file(Path(file))
    return profiles.profile(name)


def _profiles() -> Profiles:
    context = current_block.get()
    if context is not None:
        return context.profiles
    # On a thread that the block has started itself, which does not know of the block.
    return Profiles(places().root, environ=os.environ, secrets=Secrets(None, os.environ))
