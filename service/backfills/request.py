"""What a backfill is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pipelines.errors import MillraceError
from service.matching.mapping import MappingError, plain
from service.store.backfills import Place
from service.store.values import Outcome

CONCURRENCY = 4
MOST_AT_ONCE = 1000
MOST_IN_CHUNK = 1000
MOST = 1_000_000
PRIORITY = -10  # below what comes from triggers: fresh data goes first


class BackfillError(MillraceError):
    """A backfill cannot be made of what was asked for. One sentence."""


class Reprocess(StrEnum):
    """Which slots are run that have had a run before. One that is in flight never is."""

    NONE = "none"
    FAILED = "failed"  # and cancelled ones
    ALL = "all"


class Order(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Dates:
    """Over a range of time: of even steps, or of the ticks of the trigger's own schedule."""

    start: date | datetime
    end: date | datetime  # included
    every: str | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """Over the stored events that concern the trigger."""

    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """All that was asked for. A preview and what is submitted are made of the same."""

    place: Place
    over: Dates | Events
    timezone: str | None = None  # the trigger's, else UTC
    variables: Mapping[str, Any] = field(default_factory=dict)  # win over those of the trigger
    reprocess: Reprocess | None = None
    order: Order = Order.FORWARD
    concurrency: int = CONCURRENCY
    chunk: int = 1
    limit: int | None = None
    stop_after: int | None = None

    @property
    def reprocesses(self) -> Reprocess:
        """Dates are filled where they are empty; events are there to be done again."""
        if self.reprocess is not None:
            return self.reprocess
        return Reprocess.ALL if isinstance(self.over, Events) else Reprocess.NONE

    def checked(self) -> Request:
        """Return the request. Raises BackfillError when its parts do not fit together."""
        if isinstance(self.over, Events):
            self._check_events()
        elif self.over.every is None and self.place.trigger is None:
            raise BackfillError("say how long a slot is, e.g. every 1d, or name a trigger with a schedule")
        try:
            plain(self.variables, "`variables`")
        except MappingError as error:
            raise BackfillError(str(error)) from error
        for name, most in (("concurrency", MOST_AT_ONCE), ("chunk", MOST_IN_CHUNK)):
            if not 1 <= getattr(self, name) <= most:
                raise BackfillError(f"`{name}` must be from 1 to {most}")
        if any(number is not None and not 1 <= number <= MOST for number in (self.limit, self.stop_after)):
            raise BackfillError(f"`limit` and `stop_after` must be from 1 to {MOST}")
        return self

    def spec(self) -> dict[str, Any]:
        """Return what is kept of the request, as JSON holds it. `of_spec` reads what is needed later."""
        over = {name: _text(value) for name, value in asdict(self.over).items() if value is not None}
        return {
            "over": "events" if isinstance(self.over, Events) else "dates",
            **over,
            "timezone": self.timezone,
            "variables": dict(self.variables),
            "reprocess": self.reprocesses.value,
            "order": self.order.value,
            "chunk": self.chunk,
            "limit": self.limit,
            "stop_after": self.stop_after,
        }

    def _check_events(self) -> None:
        if self.place.trigger is None:
            raise BackfillError("a backfill over events needs the trigger whose events are done again")
        if self.chunk != 1:
            raise BackfillError("events cannot be put into chunks: each starts a run of its own")
        if self.variables or self.timezone:
            raise BackfillError("events bring their own variables and times; leave out both")


def moment_of(text: str) -> date | datetime:
    """Read a date or an ISO 8601 time. Raises BackfillError."""
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text.strip())
        except ValueError:
            continue
    raise BackfillError(
        f"{text[:40]!r} is not a date such as 2024-01-31, or a time such as 2024-01-31T05:00Z"
    )


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
