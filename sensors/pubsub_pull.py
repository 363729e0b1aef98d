"""A streaming pull: what it brings waits here, leased, until it is taken and acked, or given back.

Google's own subscriber extends leases for as long as a callback works, and gives a key's next message only
after the one before is acked. Here a lease lasts from arrival to commit, so nothing extends it, and what has
arrived is taken page by page.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.pubsub_v1 import SubscriberClient

RPC_SECONDS = 10.0  # for an ack or a nack; a failed one is harmless
CLOSE_SECONDS = 2.0  # for the server to end a stream
POLL_SECONDS = 0.2  # how soon whoever waits for messages sees that the engine stops


@dataclass(frozen=True, slots=True)
class Flow:
    """How much may be leased and not yet acked, and for how long."""

    messages: int
    bytes: int
    seconds: int


class Pull:
    """One stream, read by a thread of its own. Not to be used after `close`, except to take what is left."""

    def __init__(self, client: SubscriberClient, subscription: str, flow: Flow) -> None:
        self._client = client
        self._subscription = subscription
        self._flow = flow
        self._waiting: deque[Any] = deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._failure: Exception | None = None
        stream: Any = client.transport.streaming_pull  # the bare one: a wrapped one waits for a first message
        routed = (("x-goog-request-params", f"subscription={subscription}"),)
        self._call = stream(self._requests(), metadata=routed)
        self.heard_at = time.monotonic()  # when the stream began, or last brought something
        self._reader = threading.Thread(target=self._read, name="streaming-pull", daemon=True)
        self._reader.start()

    def take(self, most: int, most_bytes: int, *, gather: float) -> list[Any]:
        """Return messages in their order: at once where some wait, else those that come within a moment.

        After the first one, others have `gather` seconds to join. When nothing waits any more, raises what
        ended the stream.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over, POLL_SECONDS)
            if self._waiting:
                self._changed.wait_for(lambda: len(self._waiting) >= most or self._is_over, gather)
            elif self._failure is not None and not self._closed.is_set():
                raise self._failure
            taken = list(self._first(most, most_bytes))
            self._changed.notify_all()
            return taken

    def ack(self, received: Sequence[Any]) -> None:
        """Have messages not delivered again. With exactly-once delivery, returns when that is certain.

        Never fails: what is delivered again is known by its key.
        """
        self._settle(self._client.acknowledge, received)

    def nack(self, received: Sequence[Any]) -> None:
        """Give messages back, for whoever pulls next. Never fails: a lease ends by itself as well."""
        self._settle(self._client.modify_ack_deadline, received, ack_deadline_seconds=0)

    def close(self) -> None:
        """Let nothing more arrive, beside what is on its way.

        The server is told and ends the stream. A stream that is merely cut off would keep what is on its way
        until its lease ends, and the emulator sends even more down a stream that was cut off.
        """
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        self._reader.join(CLOSE_SECONDS)
        self._call.cancel()

    def rest(self) -> list[Any]:
        """Take all that is left."""
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            return left

    @property
    def _is_over(self) -> bool:
        return self._failure is not None or self._closed.is_set()

    def _first(self, most: int, most_bytes: int) -> Iterator[Any]:
        size = 0
        for _ in range(min(most, len(self._waiting))):
            size += len(self._waiting[0].message.data)
            if size > most_bytes and size != len(self._waiting[0].message.data):
                return
            yield self._waiting.popleft()

    def _requests(self) -> Iterator[Any]:
        from google.pubsub_v1 import StreamingPullRequest

        yield StreamingPullRequest(
            subscription=self._subscription,
            stream_ack_deadline_seconds=self._flow.seconds,
            max_outstanding_messages=self._flow.messages,
            max_outstanding_bytes=self._flow.bytes,
        )
        self._closed.wait()  # the stream lasts as long as there may be requests

    def _read(self) -> None:
        from google.api_core import exceptions
        from google.pubsub_v1 import StreamingPullResponse
        from grpc import RpcError

        try:
            for response in self._call:
                self._arrive(StreamingPullResponse.pb(response).received_messages)
            failure: Exception = exceptions.Unknown("the stream ended")  # type: ignore[no-untyped-call]
        except RpcError as error:
            failure = exceptions.from_grpc_error(error)  # type: ignore[no-untyped-call]
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _arrive(self, received: Sequence[Any]) -> None:
        with self._changed:
            self.heard_at = time.monotonic()
            self._waiting.extend(received)
            self._changed.notify_all()
            # Not every server keeps to the limits it is given: what is not read now stays on the wire.
            self._changed.wait_for(lambda: len(self._waiting) < self._flow.messages or self._is_over)

    def _settle(self, call: Any, received: Sequence[Any], **arguments: Any) -> None:
        from google.api_core.exceptions import GoogleAPIError

        if received:
            with suppress(GoogleAPIError):
                call(
                    subscription=self._subscription,
                    ack_ids=[item.ack_id for item in received],
                    timeout=RPC_SECONDS,
                    **arguments,
                )
