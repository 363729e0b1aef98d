"""Tells apart why a database call failed: it went away, it lost a race, or the statement is wrong."""

from __future__ import annotations

import sqlite3
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class Fault(Enum):
    GONE = auto()  # the store is away or cannot write
    RACE = auto()  # a deadlock or serialisation failure: the same again may succeed
    OTHER = auto()  # the statement or its values are wrong


# busy, locked, nomem, readonly, ioerr, corrupt, full, cantopen, protocol, notadb:
# https://www.sqlite.org/rescode.html
_SQLITE_GONE = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})
# Connection, resources, operator intervention, system error, and a server in recovery, which is read-only:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_GONE = ("08", "53", "57P", "58", "25006")
_POSTGRES_RACE = frozenset({"40001", "40P01"})


def fault_of(error: BaseException) -> Fault:
    """Classify what SQLAlchemy or a driver raised."""
    if isinstance(error, (PoolTimeout, DisconnectionError)):
        return Fault.GONE
    if not isinstance(error, DBAPIError):
        return Fault.OTHER
    if error.connection_invalidated:
        return Fault.GONE
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_fault(error.orig)
    return _postgres_fault(error)


def _sqlite_fault(error: sqlite3.Error) -> Fault:
    code = getattr(error, "sqlite_errorcode", None)
    return Fault.GONE if code is not None and code & 0xFF in _SQLITE_GONE else Fault.OTHER


def _postgres_fault(error: DBAPIError) -> Fault:
    code = getattr(error.orig, "pgcode", None)
    if code is None:
        # psycopg2 gives no code when the server could not be reached, or hung up in the middle.
        return Fault.GONE if isinstance(error, (OperationalError, InterfaceError)) else Fault.OTHER
    if code in _POSTGRES_RACE:
        return Fault.RACE
    return Fault.GONE if code.startswith(_POSTGRES_GONE) else Fault.OTHER


def fault_of_values(error: Exception) -> Exception | None:
    """Return what is wrong with a row's values; None when the rows beside it would fail as well."""
    if isinstance(error, DBAPIError):
        return error if fault_of(error) is Fault.OTHER else None
    # Values are refused before the server sees them, too: NUL, lone surrogates, numbers of 65 bits.
    cause = error.orig if isinstance(error, StatementError) else error
    return cause if isinstance(cause, (ValueError, TypeError, OverflowError)) else None


def one_line(error: BaseException) -> str:
    """Return the driver's own words, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__
