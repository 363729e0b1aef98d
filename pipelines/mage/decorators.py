"""The decorators of `mage_ai.data_preparation.decorators`: ours, and those that only mark here."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.decorators import (
    DECORATORS,
    Decorator,
    callback,
    condition,
    custom,
    data_exporter,
    data_loader,
    on_failure,
    on_success,
    sensor,
    test,
    transformer,
)

__all__ = ["INJECTED", "callback", "condition", "custom", "data_exporter", "data_loader", "on_failure"]
__all__ += ["on_success", "sensor", "test", "transformer"]

# What nothing here calls. They can be imported, so that files which carry them can be read.
preprocesser = Decorator("preprocesser")
extension = Decorator("extension")
render = Decorator("render")
columns = Decorator("columns")
x = Decorator("x")
y = Decorator("y")
xy = Decorator("xy")
data_source = Decorator("data_source")
configuration = Decorator("configuration")
streaming_source = Decorator("streaming_source")
streaming_sink = Decorator("streaming_sink")
data_integration_source = Decorator("data_integration_source")
data_integration_destination = Decorator("data_integration_destination")
data_integration_catalog = Decorator("data_integration_catalog")
data_integration_config = Decorator("data_integration_config")
data_integration_selected_streams = Decorator("data_integration_selected_streams")
data_integration_query = Decorator("data_integration_query")

# The names that a block's file finds as globals.
INJECTED: Mapping[str, Decorator] = {
    **DECORATORS,
    **{one.name: one for one in (preprocesser, extension)},
}
