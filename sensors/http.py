"""The `http` sensor: a resource whose changes, or whose new items, are events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from sensors.base import Cursor, ExistingRule, Options, Page, Sensor, SensorError, TickContext, pages_of
from sensors.digests import digest
from sensors.event import Event
from sensors.fetch import Request, Response, fetch, shown
from sensors.first_sight import FirstSight
from sensors.json_path import PathError, parse_path, values_at
from sensors.moments import moment_of
from sensors.payloads import Format, read_payload
from sensors.plain import storable

_HINTS = {
    401: "check the credentials in `headers`",
    403: "check the credentials in `headers`",
    404: "mend `url` in the trigger's options",
    429: "it wants to be asked less often: raise `every`",
}


class HttpOptions(Options):
    url: str = Field(pattern="^https?://[^/]", repr=False, description="http:// or https://")
    method: Literal["GET", "POST"] = "GET"
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False, description="sent with the request")
    body: Any = Field(default=None, repr=False, description="of a POST: text, or what is sent as JSON")
    items: str | None = Field(
        default=None,
        description="path to a list in the JSON answer, such as $.data.items: each item is an event; "
        "without it, each change of the whole answer is one",
    )
    key: str | tuple[str, ...] | None = Field(
        default=None,
        description="path, or paths, in an item to what names it for ever; without it, an item that changes "
        "is a new event",
    )
    time: str | None = Field(default=None, description="path in an item to when it happened")
    timeout: float = Field(default=30.0, gt=0, le=600, description="seconds for the whole answer")
    max_bytes: int = Field(default=10_000_000, ge=1, le=200_000_000, description="of the answer")
    allow_private: bool = Field(
        default=False, description="also fetch from addresses of private networks and of this machine"
    )

    @field_validator("items", "key", "time")
    @classmethod
    def _is_a_path(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for path in (value,) if isinstance(value, str) else value or ():
            parse_path(path)
        return value


@dataclass(frozen=True, slots=True)
class _Memory:
    """The cursor: what the server says the version is, and a first sight that is not yet committed."""

    etag: str | None = None
    modified: str | None = None
    content: str | None = None  # a hash of the answer, for servers that say nothing of versions
    first: FirstSight | None = None

    @classmethod
    def parse(cls, cursor: Cursor) -> _Memory:
        stored = json.loads(cursor or "{}")
        first = stored.pop("first", None)
        return cls(**stored, first=None if first is None else FirstSight.parse(first))

    def text(self) -> str:
        first = {} if self.first is None else {"first": self.first.text()}
        return json.dumps({"etag": self.etag, "modified": self.modified, "content": self.content, **first})


class HttpSensor(Sensor[HttpOptions]):
    """Fetches the resource where its version has changed. An item or a content that is known is no event."""

    name: ClassVar[str] = "http"
    options_model: ClassVar[type[Options]] = HttpOptions
    apart: ClassVar[bool] = True

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        memory = _Memory.parse(cursor)
        response = fetch(self._request(memory))
        if response.status == 304:
            return
        self._refuse(response)
        content = hashlib.sha256(response.body).hexdigest()
        after = _Memory(response.headers.get("etag"), response.headers.get("last-modified"), content)
        if content == memory.content:
            events: list[Event] = []
        else:
            events = list(self._events(response, content, context))
        is_first = cursor is None and context.existing.rule is not ExistingRule.TRIGGER
        during = replace(memory, first=FirstSight.of(event.key for event in events)) if is_first else memory
        yield from pages_of(
            ((event, _was_there(event, during, context)) for event in events),
            during=during.text(),
            final=after.text(),
        )

    def _request(self, memory: _Memory) -> Request:
        options = self.options
        headers = dict(options.headers)
        body = None
        if options.method == "POST" and options.body is not None:
            is_text = isinstance(options.body, str)
            body = (options.body if is_text else json.dumps(options.body)).encode()
            headers.setdefault("Content-Type", "text/plain; charset=utf-8" if is_text else "application/json")
        if options.method == "GET":
            headers |= {"If-None-Match": memory.etag} if memory.etag else {}
            headers |= {"If-Modified-Since": memory.modified} if memory.modified else {}
        return Request(
            url=options.url,
            method=options.method,
            headers=headers,
            body=body,
            timeout_seconds=options.timeout,
            max_bytes=options.max_bytes,
            allow_private=options.allow_private,
        )

    def _refuse(self, response: Response) -> None:
        if response.status in (200, 203, 204):
            return
        hint = _HINTS.get(response.status, "it is tried again")
        again = response.headers.get("retry-after")
        wish = f" and wants to be asked again after {again[:40]}" if again else ""
        raise SensorError(f"{shown(self.options.url)} answers {response.status}{wish}; {hint}")

    def _events(self, response: Response, content: str, context: TickContext) -> Iterator[Event]:
        modified = _http_date(response.headers.get("last-modified")) or context.now
        if self.options.items is None:
            data = {"url": shown(self.options.url), "status": response.status, "body": self._body(response)}
            yield self._event(context, f"sha256:{content}", modified, data, "http.changed", None)
            return
        for item in self._items(response):
            name = self._name(item)
            key = f"sha256:{digest(item)}" if name is None else f"key:{name}"
            yield self._event(context, key, self._time(item) or modified, item, "http.item", name)

    def _event(
        self, context: TickContext, key: str, time: datetime, data: Any, kind: str, subject: str | None
    ) -> Event:
        return Event(source=context.source, key=key, type=kind, time=time, data=data, subject=subject)

    def _body(self, response: Response) -> Any:
        """Return the answer as JSON where it is, else as text."""
        if "json" in response.headers.get("content-type", ""):
            return self._json(response)
        return storable(response.body.decode("utf-8", "replace"))

    def _items(self, response: Response) -> Iterator[Any]:
        if not response.body:
            return
        try:
            for value in values_at(self._json(response), parse_path(str(self.options.items))):
                yield from value if isinstance(value, list) else (value,)
        except PathError as error:
            raise SensorError(
                f"{shown(self.options.url)}: the path {self.options.items} does not fit the answer: {error}; "
                "mend `items` in the trigger's options"
            ) from None

    def _name(self, item: Any) -> str | None:
        paths = self.options.key
        if paths is None:
            return None
        values = [self._value(item, path) for path in ((paths,) if isinstance(paths, str) else paths)]
        if len(values) == 1 and isinstance(values[0], str | int):
            return str(values[0])
        return json.dumps(values, sort_keys=True)

    def _time(self, item: Any) -> datetime | None:
        if self.options.time is None:
            return None
        value = self._value(item, self.options.time)
        found = moment_of(value)
        if found is None:
            raise SensorError(
                f"{shown(self.options.url)}: {self.options.time} of an item is {value!r}, which is no time"
            )
        return found

    def _value(self, item: Any, path: str) -> Any:
        try:
            return next(values_at(item, parse_path(path)), None)
        except PathError as error:
            raise SensorError(
                f"{shown(self.options.url)}: an item has nothing at {path}: {error}; "
                "mend the trigger's options"
            ) from None

    def _json(self, response: Response) -> Any:
        payload = read_payload(response.body, response.headers.get("content-type"), Format.JSON)
        if payload.quarantine is not None:
            raise SensorError(f"{shown(self.options.url)} answers what is no JSON: {payload.quarantine}")
        return payload.data


def _was_there(event: Event, memory: _Memory, context: TickContext) -> bool:
    return (
        memory.first is not None and event.key in memory.first and context.existing.makes_baseline(event.time)
    )


def _http_date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return moment_of(parsedate_to_datetime(text))
    except (TypeError, ValueError):
        return None
