"""Posts events to the addresses outside that a project names, again and again until they are taken.

Each try is claimed in the store for a while, so that of several engines one sends. An engine that dies
between the answer and its commit sends once more: receivers know a repeat by its `webhook-id`, which is the
event's.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from importlib.metadata import version

import structlog

from pipelines.errors import MillraceError
from pipelines.model import Address
from pipelines.parse import PROJECT_FILE
from sensors.base import SensorError
from sensors.fetch import Request, Response, fetch
from service.errors import StoreError
from service.matching.rendering import Rendering
from service.outgoing.schedule import delay_after, retry_after
from service.outgoing.signing import SigningError, signed_headers
from service.runtime import Runtime
from service.store import outgoing
from service.store.outgoing import Outgoing, SendState, Tried
from service.store.session import Commit
from service.store.wakeups import Subscription

logger = structlog.get_logger(__name__)

AT_ONCE = 4
AT_ONCE_TO_ONE = 2  # so that an address that hangs leaves room for the others
TIMEOUT_SECONDS = 15.0
LEASE = timedelta(seconds=60)  # well beyond the time that a try can take
POLL_SECONDS = 5.0
STOP_SECONDS = 2.0
MAX_ANSWER_BYTES = 1_000_000
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


class Sender:
    """A thread of the engine that sleeps until something is due, and a few that wait for answers."""

    def __init__(self, runtime: Runtime, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._runtime = runtime
        self._stop_seconds = stop_seconds
        self._rendering = Rendering(runtime.environ, runtime.secrets)
        self._agent = f"Millrace/{version('millrace')}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._trying: Counter[str] = Counter()  # by place
        self._freed = threading.Condition()
        self._subscription: Subscription | None = None
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        self._subscription = self._runtime.wakeups.subscribe(self._on_topic)
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new. What a slow receiver keeps waiting is left to its lease."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._freed:
            self._freed.wait_for(lambda: not self._trying.total(), self._stop_seconds)
        if self._subscription is not None:
            self._subscription.close()

    def send_due(self) -> int:
        """Try as much of what is due as there are threads free; return how many tries were begun."""
        begun = 0
        while not self._stopping.is_set() and (item := self._claim()) is not None:
            threading.Thread(target=self._try, args=(item,), name="sending", daemon=True).start()
            begun += 1
        return begun

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            pause = POLL_SECONDS
            try:
                self.send_due()
                pause = self._seconds_to_next()
            except StoreError as error:
                logger.warning("could not look for events to send; it is tried again", error=str(error))
            except Exception:
                logger.exception("could not look for events to send; it is tried again")
            self._wake.wait(pause)

    def _on_topic(self, topic: str) -> None:
        if topic == outgoing.TOPIC:
            self._wake.set()

    def _claim(self) -> Outgoing | None:
        """Take the next try that is due and has room."""
        if self._seconds_to_next() > 0:
            return None
        take = partial(
            outgoing.claim, projects=self._runtime.projects.names, lease=LEASE, limit=1, but=self._crowded()
        )
        claimed = self._runtime.database.write(Commit.SEND, take)
        with self._freed:
            self._trying.update(item.place for item in claimed)
        return claimed[0] if claimed else None

    def _seconds_to_next(self) -> float:
        """Return how long nothing can be begun: until something is due, or until a try ends, which wakes."""
        with self._freed:
            if self._trying.total() >= AT_ONCE:
                return POLL_SECONDS
        projects = self._runtime.projects.names
        seconds = outgoing.seconds_to_next(self._runtime.database, projects, but=self._crowded())
        return POLL_SECONDS if seconds is None else min(seconds, POLL_SECONDS)

    def _crowded(self) -> list[str]:
        with self._freed:
            return [place for place, tries in self._trying.items() if tries >= AT_ONCE_TO_ONE]

    def _try(self, item: Outgoing) -> None:
        try:
            tried = self._tried(item)
            self._runtime.database.write(Commit.SEND, lambda tx: outgoing.settle(tx, item, tried))
            told = {"event_id": item.event_id, "address": item.address, "attempt": item.attempts}
            if tried.state is SendState.SENT:
                logger.info("event sent", **told)
            else:
                logger.warning("event not sent", **told, error=tried.error, again_in=str(tried.again_after))
        except StoreError as error:
            logger.warning("could not note what became of a try; it is repeated", error=str(error))
        except Exception:
            logger.exception("could not send an event; it is tried again", event_id=item.event_id)
        finally:
            with self._freed:
                self._trying -= Counter((item.place,))
                self._freed.notify_all()
            self._wake.set()

    def _tried(self, item: Outgoing) -> Tried:
        address = self._address(item)
        if address is None:
            return Tried(SendState.FAILED, f"{PROJECT_FILE} names no address {item.address!r} any more")
        try:
            response = fetch(self._request(address, item))
        except (SensorError, SigningError, MillraceError) as error:
            return _again(item, str(error))
        return _judged(item, response, self._runtime.clock())

    def _address(self, item: Outgoing) -> Address | None:
        addresses = self._runtime.projects.get(item.project).cloudevents.send
        return next((one for one in addresses if one.name == item.address), None)

    def _request(self, address: Address, item: Outgoing) -> Request:
        body = item.body.encode()
        where = f"{PROJECT_FILE}:{address.line}"
        secrets = self._rendering.tree(address.secrets, where=where)
        signed = signed_headers(secrets, item.event_id, int(self._runtime.clock().timestamp()), body)
        return Request(
            url=self._rendering.tree(address.url, where=where),
            method="POST",
            headers={"Content-Type": CONTENT_TYPE, "User-Agent": self._agent, **signed},
            body=body,
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            most_redirects=0,
            allow_private=address.allow_private,
        )


def _judged(item: Outgoing, response: Response, now: datetime) -> Tried:
    if 200 <= response.status < 300:
        return Tried(SendState.SENT)
    if response.status == HTTPStatus.GONE:
        return Tried(SendState.FAILED, "the receiver answers 410: it wants no such events any more")
    wish = retry_after(response.headers.get("retry-after"), now)
    return _again(item, f"the receiver answers {response.status}", wish)


def _again(item: Outgoing, error: str, wish: timedelta | None = None) -> Tried:
    delay = delay_after(item.attempts, wish)
    if delay is None:
        return Tried(SendState.FAILED, f"given up after {item.attempts} tries: {error}")
    return Tried(SendState.WAITING, error, delay)
