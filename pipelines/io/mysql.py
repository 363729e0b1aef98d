"""The connector to MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import dialect as mysql_dialect

from pipelines.io.config import ProfileError
from pipelines.io.errors import ConnectorError
from pipelines.io.sqlalchemy import AlchemyConnector
from pipelines.io.sqlalchemy.mysql import MySQLDialect, session_settings
from pipelines.io.sqlalchemy.settings import AlchemySettings

if TYPE_CHECKING:
    from pipelines.io.config import Profile


class MySQL(AlchemyConnector):
    """Loads from and exports to MySQL and MariaDB.

    Profile: MYSQL_HOST (a name, or the path of a socket), MYSQL_USER, MYSQL_DATABASE; and, with defaults,
    MYSQL_PORT (3306), MYSQL_PASSWORD, MYSQL_CONNECT_TIMEOUT (10 seconds a try). A schema is a database.
    Tables have to be of an engine with transactions, as InnoDB is.
    """

    name: ClassVar[str] = "mysql"

    @classmethod
    def settings_of(cls, profile: Profile) -> AlchemySettings:
        _refuse_tunnels(profile)
        host = str(profile.require("MYSQL_HOST"))
        is_socket = host.startswith("/")
        password = profile.get("MYSQL_PASSWORD")
        database = str(profile.require("MYSQL_DATABASE"))
        url = sa.URL.create(
            "mysql+pymysql",
            username=str(profile.require("MYSQL_USER")),
            password=None if password is None else str(password),
            host=None if is_socket else host,
            port=None if is_socket else int(profile.number("MYSQL_PORT", 3306)),
            database=database,
        )
        timeout = int(profile.number("MYSQL_CONNECT_TIMEOUT", 10))
        return AlchemySettings(
            profile=profile.name,
            url=url,
            dialect=MySQLDialect(mysql_dialect()),
            schema=database,
            connect_args={**_driver_arguments(timeout), **({"unix_socket": host} if is_socket else {})},
            remedy="Check that the server runs, and MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD and "
            "MYSQL_DATABASE of the profile",
        )


def _refuse_tunnels(profile: Profile) -> None:
    if (profile.get("MYSQL_CONNECTION_METHOD") or "direct") != "direct":
        raise ProfileError(
            f"profile {profile.name!r}: MYSQL_CONNECTION_METHOD may only be 'direct'; tunnels are not "
            f"opened here, so open one beside the service, and write its host and port"
        )


def _driver_arguments(timeout: int) -> dict[str, Any]:
    try:
        from pymysql.converters import conversions
    except ImportError:
        raise ConnectorError(
            "MySQL needs PyMySQL, which is not installed: pip install 'millrace[mysql]'"
        ) from None
    return {
        "charset": "utf8mb4",
        "connect_timeout": timeout,
        "init_command": session_settings(),
        # Values come as the texts they are sent as; Arrow reads a whole column of them at once.
        "conv": {kind: write for kind, write in conversions.items() if not isinstance(kind, int)},
    }
