"""What the engine and a sensor process tell each other, as JSON has it.

The engine sends `tick` and gets pages; it answers each with `next` once it is committed, or with `close`, and
may send `stop` at any time. The process says `begun`, ends a tick by `done` or `failed`, and answers `stale`
instead when it has loaded modules of the project that have changed since.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sensors.base import Cursor, Page
from sensors.event import Event
from service.running.executors.base import Message

PART_CHARACTERS = 8_000_000  # of events in one message: far below what a message may have


@dataclass(frozen=True, slots=True)
class TickRequest:
    """All that a tick needs to know."""

    sensor: str
    options: Mapping[str, Any] = field(repr=False)  # rendered: may hold secrets
    cursor: Cursor
    existing: Any  # as the trigger has it
    source: str
    root: Path
    now: datetime
    seconds: float  # the time limit
    listen_seconds: float = 0.0


def tick_message(request: TickRequest, tick: int, *, alone: bool) -> Message:
    """Return the message that asks for the tick. `alone`: the process does nothing else meanwhile."""
    return {
        "type": "tick",
        "tick": tick,
        "alone": alone,
        "sensor": request.sensor,
        "options": json.loads(json.dumps(request.options, default=str)),  # YAML has dates, JSON has not
        "cursor": request.cursor,
        "existing": json.loads(json.dumps(request.existing, default=str)),
        "source": request.source,
        "root": str(request.root),
        "now": request.now.isoformat(),
        "seconds": request.seconds,
        "listen_seconds": request.listen_seconds,
    }


def request_of(message: Message) -> TickRequest:
    return TickRequest(
        sensor=message["sensor"],
        options=message["options"],
        cursor=message["cursor"],
        existing=message["existing"],
        source=message["source"],
        root=Path(message["root"]),
        now=datetime.fromisoformat(message["now"]),
        seconds=message["seconds"],
        listen_seconds=message["listen_seconds"],
    )


def page_messages(page: Page, tick: int) -> Iterator[Message]:
    """Yield the messages of a page: its events in parts of bounded size, last what it is beside them."""
    named = [("events", event) for event in page.events] + [("baseline", event) for event in page.baseline]
    part: dict[str, list[str]] = {"events": [], "baseline": []}
    characters = 0
    for kind, event in named:
        text = _event_text(event)
        if characters and characters + len(text) > PART_CHARACTERS:
            yield {"type": "part", "tick": tick, **part}
            part, characters = {"events": [], "baseline": []}, 0
        part[kind].append(text)
        characters += len(text)
    yield {"type": "page", "tick": tick, **part, "cursor": page.cursor, "partly": page.partly}


def page_of(parts: Sequence[Message], last: Message) -> Page:
    messages = (*parts, last)
    return Page(
        events=tuple(_event_of(text) for message in messages for text in message["events"]),
        baseline=tuple(_event_of(text) for message in messages for text in message["baseline"]),
        cursor=last["cursor"],
        partly=last["partly"],
    )


def _event_text(event: Event) -> str:
    """Raises ValueError or TypeError for data that JSON does not have."""
    values = {item.name: getattr(event, item.name) for item in fields(event)}
    values["time"] = event.time.isoformat()
    values["headers"] = dict(event.headers)
    values["raw"] = None if event.raw is None else base64.b64encode(event.raw).decode()
    return json.dumps(values)


def _event_of(text: str) -> Event:
    values = json.loads(text)
    values["time"] = datetime.fromisoformat(values["time"])
    values["raw"] = None if values["raw"] is None else base64.b64decode(values["raw"])
    return Event(**values)
