"""A subscription of the Pub/Sub emulator, for the suite over all sensors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.parts.pubsub import PROJECT
from tests.sensors.rig import Rig


class PubSubRig(Rig):
    part: ClassVar[str | None] = "pubsub"
    is_stream: ClassVar[bool] = True

    def __init__(self, scratch: Path, server: Any = None) -> None:
        super().__init__(scratch, server)
        self._topic = server.make_topic()
        self._subscription = server.make_subscription(self._topic)

    @property
    def options(self) -> Mapping[str, Any]:
        endpoint = f"http://{self.server.host}"
        return {"project": PROJECT, "subscription": self._subscription, "endpoint": endpoint}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"project": PROJECT, "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        claimed = {} if stamp is None else {"stamp": stamp.isoformat()}
        message = {"data": content.encode(), "attributes": {"name": name, **claimed}}
        self.server.publish(self._topic, [message])
        self.put_so_far += 1

    def delete(self, name: str) -> None:
        raise AssertionError("nobody deletes a message that was published")

    def break_down(self) -> None:
        self.server.delete_subscription(self._subscription)
