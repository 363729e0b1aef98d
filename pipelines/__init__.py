"""Declared graphs of Python and SQL blocks: how they are read, and how they are run.

Block files import their decorators from here. Importing this package loads no data library.
"""

from pipelines.blocks.product import get_global_data_product
from pipelines.calls import get_variable, trigger_pipeline
from pipelines.decorators import (
    callback,
    condition,
    custom,
    data_exporter,
    data_integration,
    data_loader,
    sensor,
    test,
    transformer,
)
from pipelines.errors import MillraceError, TerminalError
from pipelines.global_variables import (
    delete_global_variable,
    get_global_variable,
    get_global_variables,
    set_global_variable,
)

__all__ = [
    "MillraceError",
    "TerminalError",
    "callback",
    "condition",
    "custom",
    "data_exporter",
    "data_integration",
    "data_loader",
    "delete_global_variable",
    "get_global_data_product",
    "get_global_variable",
    "get_global_variables",
    "get_variable",
    "sensor",
    "set_global_variable",
    "test",
    "transformer",
    "trigger_pipeline",
]
