"""What every sensor is: options, and a tick that turns a cursor into pages of events.

A sensor watches one outside system for one trigger. It knows nothing of the store: whoever ticks it hands
the pages on, drops the events whose keys are known, and keeps the cursor.

The rule that every sensor keeps, and that `tests/sensors` holds it to: **the keys decide, the cursor only
saves work**. An event's key names one version of one thing for ever, so reporting it twice does no harm; a
cursor may only skip what was certainly reported before. Whatever comes late, out of order, with an old or an
equal time stamp, or over something that was there, has a key of its own and is reported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sensors.event import Event

PAGE_SIZE = 500  # the most events that are committed at once


class SensorError(Exception):
    """The outside system could not be read. The message names it and says what to do; it is tried again."""


class OptionsError(Exception):
    """A trigger's options do not fit its sensor; `sentences` has one line for each thing wrong."""

    def __init__(self, sensor: str, sentences: Sequence[str]) -> None:
        self.sensor = sensor
        self.sentences = tuple(sentences)
        super().__init__(f"the options of the sensor '{sensor}' are not valid: {'; '.join(sentences)}")


class ExistingRule(StrEnum):
    """What happens to the things that are there when a trigger looks for the first time."""

    IGNORE = "ignore"  # they are recorded as the baseline and start nothing
    TRIGGER = "trigger"  # they are events like all later ones
    SINCE = "since"  # those of a time stamp before `since` are baseline, the others events


@dataclass(frozen=True, slots=True)
class Existing:
    rule: ExistingRule = ExistingRule.IGNORE
    since: datetime | None = None  # aware; wanted by SINCE

    @classmethod
    def parse(cls, value: object) -> Existing:
        """Read a trigger's `existing`: `ignore`, `trigger`, or `{since: <time>}`.

        ValueError says what is wrong.
        """
        match value:
            case None | "ignore":
                return cls()
            case "trigger":
                return cls(ExistingRule.TRIGGER)
            case {"since": since}:
                return cls(ExistingRule.SINCE, _aware(since))
            case str() if value.startswith("since:"):
                return cls(ExistingRule.SINCE, _aware(value.removeprefix("since:").strip()))
        raise ValueError(f"existing is {value!r}; it may be ignore, trigger, or since: <time>")

    def makes_baseline(self, time: datetime) -> bool:
        """Tell whether a thing of that time stamp, there at first sight, starts nothing."""
        if self.rule is ExistingRule.SINCE:
            return self.since is not None and time < self.since
        return self.rule is ExistingRule.IGNORE


def _aware(value: object) -> datetime:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"existing: since is {value!r}; write a time such as 2024-01-31T00:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _no_profile(name: str) -> Mapping[str, Any]:
    raise SensorError(f"the profile '{name}' is wanted, but this tick has no profiles")


@dataclass(frozen=True, slots=True)
class TickContext:
    """What a tick may use. Everything of the outside comes from here, nothing from the process."""

    source: str  # the events' source, e.g. "files:taxi/month_landed", for sensors without a wider identity
    now: datetime  # aware UTC
    root: Path  # the project's folder, where relative paths begin
    existing: Existing = field(default_factory=Existing)
    profile: Callable[[str], Mapping[str, Any]] = _no_profile  # connection settings by profile name
    is_stopping: Callable[[], bool] = bool  # true: end after the current page
    listen_seconds: float = 0.0  # how long a `shared` sensor waits for news before its tick ends


Cursor = str | None  # opaque text of the sensor's own; None at first sight


@dataclass(frozen=True, slots=True)
class Page:
    """Events to be committed together, and the cursor that stands once they are."""

    events: tuple[Event, ...]
    cursor: Cursor
    baseline: tuple[Event, ...] = ()  # there at first sight, and starting nothing
    # The cursor when only some of the events are committed (`max_events`); None: that of the page before.
    partly: Cursor = None


class Options(BaseModel):
    """The base of every sensor's options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


class Sensor(ABC, Generic[OptionsT]):
    """One way to watch an outside system. A subclass names itself and its options, and ticks."""

    name: ClassVar[str]
    options_model: ClassVar[type[Options]]

    # It speaks to a network, loads an SDK or runs project code: it is ticked in a sensor process, which may
    # be killed, and never in the engine. Its module must all the same be light to import.
    apart: ClassVar[bool] = False

    # It consumes: what a tick yields was given to this tick alone, so that any number of engines may tick at
    # once, without a claim and without a cursor. A tick listens for `context.listen_seconds`; the next one
    # begins at once.
    shared: ClassVar[bool] = False

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @classmethod
    def configure(cls, options: Mapping[str, Any]) -> Self:
        """Build the sensor from the options of a trigger, already rendered. Raises OptionsError."""
        try:
            parsed = cls.options_model.model_validate(dict(options))
        except ValidationError as error:
            raise OptionsError(cls.name, [cls._sentence(item) for item in error.errors()]) from None
        return cls(parsed)  # type: ignore[arg-type]  # options_model is the class's OptionsT

    @classmethod
    def _sentence(cls, error: Mapping[str, Any]) -> str:
        where = ".".join(str(part) for part in error["loc"])
        said = str(error["msg"]).removeprefix("Value error, ")
        match error["type"]:
            case "missing":
                return f"'{where}' is missing"
            case "extra_forbidden":
                return f"'{where}' is not an option of it"
            case "string_pattern_mismatch":
                return f"'{where}' is not as it should be: {cls._meaning(error['loc'])}"
        return f"'{where}': {said[:1].lower()}{said[1:]}" if where else said

    @classmethod
    def _meaning(cls, path: Sequence[str | int]) -> str:
        declared = cls.options_model.model_fields.get(str(path[0]))
        return (declared and declared.description) or "its form is another one"

    def faults(self, root: Path) -> Iterator[str]:
        """Say what a tick would miss in the project's folder. Runs no code and connects to nothing."""
        return iter(())

    @property
    def reconciles(self) -> bool:
        """Tell whether other roads bring the news, so that what a tick finds first is what they missed."""
        return False

    def covers(self, event: Event) -> bool:
        """Tell whether news that came by another road is what this sensor would have found itself."""
        return False

    @abstractmethod
    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        """Yield what is new since `cursor`, in pages of at most PAGE_SIZE events.

        It is continued only after the page is committed; a page that could not be committed, or not all of
        it, ends it there by `close()`, that is by GeneratorExit at the yield. Nothing may be held open across
        a yield that a crash there would lose: after one, the next tick starts from the cursor of the last
        page that was taken. A tick that finds nothing yields one page without events when the cursor has
        moved, else none. Raises SensorError.
        """


def pages_of(
    events: Iterator[tuple[Event, bool]], *, during: Cursor, final: Cursor, size: int = PAGE_SIZE
) -> Iterator[Page]:
    """Cut (event, is baseline) pairs into pages.

    `during` is the cursor of all pages but the last, and `final` that of the last. There is always a last
    page, empty if need be, so that the final cursor is kept.
    """
    chunk = list(islice(events, size))
    while True:
        following = list(islice(events, size))
        yield Page(
            events=tuple(event for event, is_baseline in chunk if not is_baseline),
            cursor=during if following else final,
            baseline=tuple(event for event, is_baseline in chunk if is_baseline),
            partly=during,
        )
        if not following:
            return
        chunk = following
