"""How a connection to Postgres is made, and tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg2
from psycopg2 import extensions

from pipelines.io.config import ProfileError
from pipelines.io.errors import AccessRefused, ConnectionFailed

if TYPE_CHECKING:
    from pipelines.io.config import Profile

Connection: TypeAlias = extensions.connection
Cursor: TypeAlias = extensions.cursor

# Waits between tries, in seconds: long enough for a restart, short enough for someone who mistyped the host.
DELAYS = (0.2, 0.5, 1.0, 2.0)

# The server says FATAL for these as well, and they pass.
_PASSING = ("starting up", "shutting down", "recovery mode", "too many clients", "connection slots")

# The one form of times and intervals that our reader knows, and of texts that our literals have.
SESSION = (
    "SET TIME ZONE 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'; "
    "SET standard_conforming_strings = on"
)


@dataclass(frozen=True)
class PostgresSettings:
    """The keys of a profile that concern Postgres."""

    profile: str
    host: str
    port: int
    dbname: str
    user: str
    schema: str
    connect_timeout: int
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, profile: Profile) -> PostgresSettings:
        password = profile.get("POSTGRES_PASSWORD")
        if (profile.get("POSTGRES_CONNECTION_METHOD") or "direct") != "direct":
            raise ProfileError(
                f"profile {profile.name!r}: POSTGRES_CONNECTION_METHOD may only be 'direct'; tunnels are not "
                f"opened here, so open one beside the service, and write its host and port"
            )
        return cls(
            profile=profile.name,
            host=str(profile.require("POSTGRES_HOST")),
            port=int(profile.number("POSTGRES_PORT", 5432)),
            dbname=str(profile.require("POSTGRES_DBNAME")),
            user=str(profile.require("POSTGRES_USER")),
            schema=str(profile.get("POSTGRES_SCHEMA") or "public"),
            connect_timeout=int(profile.number("POSTGRES_CONNECT_TIMEOUT", 10)),
            password=None if password is None else str(password),
        )

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What libpq is told; the password is among it."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
            "connect_timeout": self.connect_timeout,
            "application_name": "millrace",
            "client_encoding": "UTF8",
        }


def connect(settings: PostgresSettings, delays: tuple[float, ...] = DELAYS) -> Connection:
    """Return an open connection; a server that does not answer is tried again after each delay."""
    for delay in delays:
        try:
            return _open(settings)
        except AccessRefused:
            raise
        except ConnectionFailed:
            time.sleep(delay)
    return _open(settings)


def _open(settings: PostgresSettings) -> Connection:
    try:
        connection: Connection = psycopg2.connect(**settings.arguments)
    except psycopg2.OperationalError as error:
        # Not chained: the driver's own error may repeat what it was given.
        raise failure(settings, str(error)) from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
    return connection


def failure(settings: PostgresSettings, reason: str) -> ConnectionFailed:
    """Say why there is no connection, without the password."""
    reason = " ".join(reason.split())
    if settings.password:
        reason = reason.replace(settings.password, "***")
    place = f"Postgres at {settings.address} (profile {settings.profile!r}, user {settings.user!r})"
    if "FATAL" in reason and not any(passing in reason for passing in _PASSING):
        return AccessRefused(
            f"{place} refused the connection to database {settings.dbname!r}: {reason}. "
            f"Check POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DBNAME of the profile"
        )
    return ConnectionFailed(
        f"no connection to {place}: {reason}. Check that the server runs, and POSTGRES_HOST and POSTGRES_PORT"
    )
