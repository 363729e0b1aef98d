"""What can go wrong between a block and the world outside.

ConnectorError
├── ConnectionFailed      nobody answered, or the door stayed shut (worth another try later)
│   └── AccessRefused     the door was shut on purpose: never tried again
├── ExportRefused         the data does not fit the place it was meant for
│   └── TargetExists      `if_exists: fail`, and it does
├── QueryFailed           the database refused a statement
└── UnreadableFile        a file is missing, cut, or not in the format it claims
"""

from __future__ import annotations

from pipelines.errors import MillraceError, TerminalError


class ConnectorError(MillraceError):
    """A connector could not do what a block asked of it.

    `statement` and `offset` (in characters) tell where in the SQL the fault is, when the database says so.
    """

    statement: str | None = None
    offset: int | None = None


class ConnectionFailed(ConnectorError):
    """No connection, after every try."""


class AccessRefused(ConnectionFailed, TerminalError):
    """The server answered and let us not in: wrong password, unknown user or database."""


class ExportRefused(ConnectorError):
    """The frame does not fit the table or file it was meant for. Nothing was changed there."""


class TargetExists(ExportRefused):
    """The export was to fail if its target exists, and it exists."""


class QueryFailed(ConnectorError):
    """The database refused a statement."""


class UnreadableFile(ConnectorError):
    """A file is not there, or cannot be read as what it claims to be."""
