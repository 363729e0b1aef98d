"""A real MariaDB for the tests: one server per test session, one database per test."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.parts.waiting import wait_until

USER = "millrace"
PASSWORD = "grist"

# Small, and without waiting for the disk: tests end processes, and never the machine.
_OPTIONS = (
    "--no-defaults",
    "--skip-networking",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--skip-log-bin",
    "--performance-schema=OFF",
)


@dataclass
class MySQLServer:
    """A running server, reached by a unix socket."""

    socket: str  # its path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def create_database(self) -> str:
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE `{name}`")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def keys(self, database: str) -> dict[str, Any]:
        """Return what a profile says to reach a database."""
        return {
            "MYSQL_HOST": self.socket,
            "MYSQL_USER": USER,
            "MYSQL_PASSWORD": PASSWORD,
            "MYSQL_DATABASE": database,
        }

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        connection = pymysql.connect(
            unix_socket=self.socket, user=USER, password=PASSWORD, database=database, autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()


@contextmanager
def running_mysql() -> Iterator[MySQLServer]:
    """Start a server in a folder of its own; skip where MariaDB is not installed, and fail in CI."""
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        message = "mariadbd is not installed (Debian: mariadb-server)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    temporary = tempfile.TemporaryDirectory(prefix="millrace-my-", ignore_cleanup_errors=True)
    with temporary as folder, _started(Path(folder)) as server:
        yield server


@contextmanager
def _started(folder: Path) -> Iterator[MySQLServer]:
    data, path = folder / "data", folder / "s"
    user = pwd.getpwuid(os.getuid()).pw_name
    subprocess.run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            f"--user={user}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ],
        check=True,
        capture_output=True,
    )
    start = folder / "start.sql"
    start.write_text(
        f"CREATE USER '{USER}'@'localhost' IDENTIFIED BY '{PASSWORD}';"
        f"\nGRANT ALL ON *.* TO '{USER}'@'localhost';\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "mariadbd",
                *_OPTIONS,
                f"--datadir={data}",
                f"--socket={path}",
                f"--pid-file={folder / 'pid'}",
                f"--user={user}",
                f"--init-file={start}",
            ],
            stdout=log,
            stderr=log,
        )
    server = MySQLServer(str(path))
    try:
        wait_until(lambda: _answers(server, process), seconds=30, what="an answer of MariaDB")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(server: MySQLServer, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"mariadbd ended with {process.returncode}")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(server.socket)
    except OSError:
        return False
    server.execute("SELECT 1")
    return True
