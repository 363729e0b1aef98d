"""The sensors there are, by the name a trigger's `sensor:` says. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from sensors.base import Sensor

# Name -> module and class: a sensor's SDK is loaded only where a trigger names that sensor.
SENSORS: Mapping[str, str] = MappingProxyType(
    {
        "bigquery": "sensors.bigquery:BigQuerySensor",
        "files": "sensors.files:FilesSensor",
        "gcs_object": "sensors.gcs:GcsObjectSensor",
        "http": "sensors.http:HttpSensor",
        "pubsub_message": "sensors.pubsub:PubSubSensor",
        "python": "sensors.python:PythonSensor",
        "sql": "sensors.sql:SqlSensor",
    }
)


class UnknownSensorError(LookupError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no sensor '{name}'; there are: {', '.join(sorted(SENSORS))}")


def find(name: str) -> type[Sensor[Any]]:
    """Return the sensor class of that name. Raises UnknownSensorError."""
    if name not in SENSORS:
        raise UnknownSensorError(name)
    module, _, attribute = SENSORS[name].partition(":")
    found: type[Sensor[Any]] = getattr(import_module(module), attribute)
    return found


def configure(name: str, options: Mapping[str, Any]) -> Sensor[Any]:
    """Build the sensor a trigger names. Raises UnknownSensorError and OptionsError."""
    return find(name).configure(options)
