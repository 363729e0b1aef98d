"""Google's Pub/Sub emulator: one for each test process, with topics and subscriptions of a test's own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import PublisherClient, ReceivedMessage, SubscriberClient

from tests.parts.ports import free_port
from tests.parts.waiting import wait_until

PACKAGE = "google-cloud-cli-pubsub-emulator"
READY_SECONDS = 60.0
LOOK_SECONDS = 0.5  # how long a pull waits before it says that nothing is there
PROJECT = "millrace-tests"


class PubSubEmulator:
    """A running emulator, and what tests ask of it. It forgets everything when it is started again."""

    def __init__(self, jar: Path) -> None:
        self._jar = jar
        self._numbers = itertools.count(1)
        self.port = free_port()
        self._process = self._started()
        self._channels: list[grpc.Channel] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environ(self) -> Mapping[str, str]:
        """What makes Google's clients speak to the emulator."""
        return {"PUBSUB_EMULATOR_HOST": self.host}

    def make_topic(self) -> str:
        topic = f"projects/{PROJECT}/topics/topic-{next(self._numbers)}"
        self._publisher().create_topic(name=topic)
        return topic

    def make_subscription(self, topic: str, **settings: Any) -> str:
        """Make a subscription and return its short name; `settings` are the fields of the API."""
        short = f"sub-{next(self._numbers)}"
        name = subscription_path(short)
        self._subscriber().create_subscription(request={"name": name, "topic": topic, **settings})
        return short

    def publish(
        self, topic: str, messages: Sequence[bytes | Mapping[str, Any]], *, batch: int = 500
    ) -> list[str]:
        """Publish bodies, or whole messages as the API has them, and return their message ids."""
        whole = [{"data": item} if isinstance(item, bytes) else dict(item) for item in messages]
        publisher = self._publisher()
        ids: list[str] = []
        for begin in range(0, len(whole), batch):
            request = {"topic": topic, "messages": whole[begin : begin + batch]}
            ids += publisher.publish(request=request).message_ids
        return ids

    def unacked(self, subscription: str) -> list[str]:
        """Return the ids of all messages that are not acked, those under somebody's lease among them.

        A snapshot holds just these; going back to it ends every lease. Afterwards they are acked.
        """
        subscriber, path = self._subscriber(), subscription_path(subscription)
        snapshot = f"projects/{PROJECT}/snapshots/snapshot-{next(self._numbers)}"
        subscriber.create_snapshot(request={"name": snapshot, "subscription": path})
        subscriber.seek(request={"subscription": path, "snapshot": snapshot})
        subscriber.delete_snapshot(snapshot=snapshot)
        return [item.message.message_id for item in self._drain(subscription)]

    def pull(self, subscription: str) -> list[ReceivedMessage]:
        """Lease some of what is there now (the emulator gives at most 100), without waiting for more."""
        request = {"subscription": subscription_path(subscription), "max_messages": 1000}
        try:
            return list(
                self._subscriber().pull(request=request, timeout=LOOK_SECONDS, retry=None).received_messages
            )
        except DeadlineExceeded:
            return []

    def ack(self, subscription: str, received: Sequence[ReceivedMessage]) -> None:
        self._subscriber().acknowledge(
            subscription=subscription_path(subscription), ack_ids=[item.ack_id for item in received]
        )

    def delete_subscription(self, subscription: str) -> None:
        self._subscriber().delete_subscription(subscription=subscription_path(subscription))

    def restart(self) -> None:
        """Let it die and come back on its port, empty."""
        self._kill()
        self._process = self._started()

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self._kill()

    def _drain(self, subscription: str) -> Iterator[ReceivedMessage]:
        while received := self.pull(subscription):
            self.ack(subscription, received)
            yield from received

    def _publisher(self) -> PublisherClient:
        transport = PublisherClient.get_transport_class("grpc")
        return PublisherClient(transport=transport(channel=self._channel()))

    def _subscriber(self) -> SubscriberClient:
        transport = SubscriberClient.get_transport_class("grpc")
        return SubscriberClient(transport=transport(channel=self._channel()))

    def _channel(self) -> grpc.Channel:
        if not self._channels:
            self._channels.append(grpc.insecure_channel(self.host))
        return self._channels[0]

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                "java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-jar", str(self._jar), "--host=127.0.0.1", f"--port={self.port}",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: self._answers(process), seconds=READY_SECONDS, what="the Pub/Sub emulator")
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, "the Pub/Sub emulator ended"
        try:
            return requests.get(f"http://{self.host}/", timeout=5).text.strip() == "Ok"
        except requests.RequestException:
            return False

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


def subscription_path(short: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{short}"


@contextmanager
def running_pubsub() -> Iterator[PubSubEmulator]:
    """Start the emulator; where it is not installed, skip at home and fail in CI."""
    emulator = PubSubEmulator(_jar())
    try:
        yield emulator
    finally:
        emulator.close()


def _jar() -> Path:
    if shutil.which("java") is None:
        _missing("java is not installed")
    listed = subprocess.run(["dpkg", "-L", PACKAGE], capture_output=True, text=True, check=False)
    found = [Path(line) for line in listed.stdout.splitlines() if line.endswith("all.jar")]
    if not found or not found[0].exists():
        _missing(f"the Debian package {PACKAGE} is not installed")
    return found[0]


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"the Pub/Sub emulator cannot be started: {reason}")
    pytest.skip(reason)
