"""What a connector by SQLAlchemy needs of a profile, and the engine that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipelines.io.config import ProfileError
from pipelines.io.errors import ConnectorError
from pipelines.io.sqlalchemy.dialect import Dialect

if TYPE_CHECKING:
    from pipelines.io.config import Profile


# What to install for an address, beside SQLAlchemy.
_PACKAGES = {
    "mssql+pyodbc": "pyodbc",
    "oracle+oracledb": "oracledb",
    "redshift+psycopg2": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
}


@dataclass(frozen=True)
class AlchemySettings:
    """How to reach a database; the password is in the URL, and never in a text."""

    profile: str
    url: sa.URL
    dialect: Dialect
    schema: str | None = None
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[sa.Engine], None] | None = None  # of the engine, before its first connection
    remedy: str = "Check that the server runs, and the address and the login of the profile"
    driver: str = "its driver"  # what to install, when it is missing

    @classmethod
    def of_url(
        cls, profile: Profile, url: str, dialect_of: Callable[[sa.Dialect], Dialect]
    ) -> AlchemySettings:
        """Read a URL of SQLAlchemy's. Raises ProfileError, without the URL: there may be a password in it."""
        try:
            made = sa.make_url(url)
            dialect = dialect_of(dialect_for(made))
        except (sa.exc.ArgumentError, ValueError):
            raise ProfileError(
                f"profile {profile.name!r}: SQLALCHEMY_URL is no address that SQLAlchemy reads; write it as "
                f"dialect+driver://user:password@host:port/database"
            ) from None
        schema = profile.get("SQLALCHEMY_SCHEMA")
        driver = _PACKAGES.get(made.drivername, cls.driver)
        return cls(profile.name, made, dialect, schema=str(schema) if schema else None, driver=driver)

    @property
    def address(self) -> str:
        if self.url.host is None:
            return self.url.database or "memory"
        return f"{self.url.host}:{self.url.port}" if self.url.port else self.url.host

    def masked(self, sentence: str) -> str:
        password = self.url.password
        return sentence.replace(str(password), "***") if password else sentence

    def engine(self) -> sa.Engine:
        """Make an engine that gives each connection once; no thread shares one."""
        try:
            engine = sa.create_engine(
                self.url,
                poolclass=sa.NullPool,
                connect_args=dict(self.connect_args),
                execution_options={"no_parameters": True},
                **self.engine_options,
            )
        except ImportError as error:
            raise ConnectorError(
                f"profile {self.profile!r}: {self.dialect.label} needs {self.driver}, "
                f"which is not installed ({error})"
            ) from None
        if self.prepare is not None:
            self.prepare(engine)
        return engine


def dialect_for(url: sa.URL) -> sa.Dialect:
    """Make the dialect of a URL without its driver, which connections alone need."""
    try:
        made: sa.Dialect = url.get_dialect()()
    except (sa.exc.NoSuchModuleError, ImportError) as error:
        raise ConnectorError(
            f"SQLAlchemy has no dialect for {url.drivername!r}; install "
            f"{_PACKAGES.get(url.drivername, 'the package that brings it')} ({error})"
        ) from None
    return made
