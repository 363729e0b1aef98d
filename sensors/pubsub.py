"""The `pubsub_message` sensor: messages of a Pub/Sub subscription, acked once they are committed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from sensors.base import PAGE_SIZE, Cursor, Options, Page, Sensor, TickContext
from sensors.google import GoogleOptions, pubsub_client, told_plainly
from sensors.json_path import parse_path
from sensors.pubsub_messages import JSON_PATH, BodyFormat, Message, event_of
from sensors.pubsub_pull import Flow, Pull

if TYPE_CHECKING:
    from google.pubsub_v1 import SubscriberClient

LOOK_SECONDS = 2.0  # how long a tick listens that nobody told to listen: what waits comes within that
GATHER_SECONDS = 0.005  # what comes so close behind a message shares its commit
PAGE_BYTES = 8_000_000
SILENT_SECONDS = 30.0  # a stream that brings nothing for so long may be dead without saying so
SHORT_SECONDS = 5.0  # a stream that ends sooner did not just come to its end


class PubSubOptions(GoogleOptions):
    project: str = Field(min_length=1, description="the Google Cloud project of the subscription")
    subscription: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", description="the subscription's short name"
    )
    format: BodyFormat = Field(default=BodyFormat.AUTO, description="how to read the body: by its looks")
    key: str | None = Field(
        default=None,
        min_length=1,
        description="what the publisher's own repeats have in common: an attribute, or $.path.in.the.body",
    )
    max_messages: int = Field(
        default=1000, ge=1, le=50_000, description="pulled and not yet committed, at most"
    )
    max_bytes: int = Field(default=100_000_000, ge=1_000_000, description="the same, by their size")
    ack_deadline: int = Field(
        default=20,
        ge=10,
        le=600,
        description="seconds after which a message comes again that was pulled and not acked",
    )

    @field_validator("key")
    @classmethod
    def _can_be_read(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(JSON_PATH):
            parse_path(value)
        return value

    @property
    def path(self) -> str:
        return f"projects/{self.project}/subscriptions/{self.subscription}"


class PubSubSensor(Sensor[PubSubOptions]):
    """Pulls messages, and acks each page once it is continued, that is once the page is committed.

    There is no cursor: what is not acked comes again, to this tick or another, and is known by its key.
    Nothing "was there" at first sight either: a subscription holds what was published since it was made.
    """

    name: ClassVar[str] = "pubsub_message"
    options_model: ClassVar[type[Options]] = PubSubOptions
    apart: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        until = time.monotonic() + (context.listen_seconds or LOOK_SECONDS)
        with told_plainly(
            f"the subscription {self.options.path}",
            missing="make it with `gcloud pubsub subscriptions create`, or mend the trigger's options",
            forbidden="give the account the role roles/pubsub.subscriber on it",
        ):
            while time.monotonic() < until and not context.is_stopping():
                yield from self._pages(until, context)

    def _pages(self, until: float, context: TickContext) -> Iterator[Page]:
        """Yield what one stream brings, until it has come to its end or may be dead."""
        from google.api_core.exceptions import GoogleAPICallError

        with self._client(context) as client:
            flow = Flow(self.options.max_messages, self.options.max_bytes, self.options.ack_deadline)
            pull, began = Pull(client, self.options.path, flow), time.monotonic()
            held: list[Any] = []
            try:
                while held := self._next(pull, until, context):
                    yield Page(events=tuple(self._event(item) for item in held), cursor=None)
                    pull.ack(held)
                    held = []
            except GoogleAPICallError:
                if time.monotonic() - began < SHORT_SECONDS:
                    raise
            finally:
                pull.close()
                pull.nack([*held, *pull.rest()])

    def _next(self, pull: Pull, until: float, context: TickContext) -> list[Any]:
        """Wait for messages. None: it is time to stop, and all that came was taken."""
        while True:
            now = time.monotonic()
            if now >= until or now - pull.heard_at >= SILENT_SECONDS or context.is_stopping():
                pull.close()
                return pull.take(PAGE_SIZE, PAGE_BYTES, gather=0)
            if received := pull.take(PAGE_SIZE, PAGE_BYTES, gather=GATHER_SECONDS):
                return received

    def _event(self, received: Any) -> Any:
        message = Message(
            id=received.message.message_id,
            subscription=self.options.path,
            published=received.message.publish_time.ToDatetime(tzinfo=UTC),
            body=received.message.data,
            attributes=dict(received.message.attributes),
            ordering_key=received.message.ordering_key,
            attempt=received.delivery_attempt,
        )
        return event_of(message, self.options.format, self.options.key)

    @contextmanager
    def _client(self, context: TickContext) -> Iterator[SubscriberClient]:
        """Connect; each stream has a connection of its own, so that pulling again finds out a dead one."""
        from google.pubsub_v1 import SubscriberClient

        with pubsub_client(SubscriberClient, self.options, context) as client:
            yield client
