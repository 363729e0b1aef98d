"""The reader of payloads lies in `sensors.payloads`."""

from sensors.payloads import Format, Payload, read_payload

__all__ = ["Format", "Payload", "read_payload"]
