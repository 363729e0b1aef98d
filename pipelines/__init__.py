"""Declared graphs of Python and SQL blocks: how they are read, and how they are run.

Block files import their decorators from here. Importing this package loads no data library.
"""

from pipelines.decorators import (
    callback,
    condition,
    custom,
    data_exporter,
    data_loader,
    sensor,
    test,
    transformer,
)
from pipelines.errors import MillraceError, TerminalError

__all__ = [
    "MillraceError",
    "TerminalError",
    "callback",
    "condition",
    "custom",
    "data_exporter",
    "data_loader",
    "sensor",
    "test",
    "transformer",
]
