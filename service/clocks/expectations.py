"""Whether what was expected by a deadline has come: judged from stored events, so that all engines agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from pipelines.templating import Expression, TemplateError, expression
from sensors.event import Event
from service.clocks.clocked import Clocked
from service.clocks.timetable import Timetable, duration
from service.matching.decisions import Interval
from service.matching.planning import event_of
from service.store.expected import Wanted, events_within
from service.store.session import Database
from service.store.values import StoredEvent

MISSED_TYPE = "expectation.missed"
MET = "met"  # the outcome of a deadline by which all had come
UNJUDGED = "missed"  # of one whose window began before anybody looked
LOOK_BACK = timedelta(days=366)  # for the deadline before
USUAL_WINDOW = timedelta(days=1)  # where there is none
MAX_EVENTS = 100_000  # looked at for one deadline


@dataclass(frozen=True, slots=True)
class Amount:
    """How many events, and how many bytes by their `data.size`; None: not counted."""

    count: int
    size: int | None = None

    def lacks(self, other: Amount) -> Amount:
        size = None if other.size is None else max(other.size - (self.size or 0), 0)
        return Amount(max(other.count - self.count, 0), size)

    @property
    def is_nothing(self) -> bool:
        return not self.count and not self.size

    def as_data(self) -> dict[str, int]:
        return {"count": self.count} if self.size is None else {"count": self.count, "size": self.size}

    def __str__(self) -> str:
        events = "1 event" if self.count == 1 else f"{self.count:,} events"
        return events if self.size is None else f"{events} of {self.size:,} bytes"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a deadline: an outcome with its reason, and the event that tells of a breach."""

    window: Interval
    outcome: str
    reason: str
    breach: Event | None = None


def judge(database: Database, item: Clocked, deadline: datetime, *, first_seen: datetime) -> Judgement:
    """Judge the window that ends at the deadline. The answer is the same whenever it is asked for.

    Raises StoreUnavailable, TemplateError.
    """
    spec = item.compiled.trigger.spec
    window = _window(spec, item.timetable, deadline)
    expected = Amount(int(spec.get("count") or 1), spec.get("size"))
    found, fault = _found(database, item, window)
    missing = found.lacks(expected)
    told = f"{found} between {_iso(window.start)} and {_iso(window.end)}{fault}"
    if missing.is_nothing:
        return Judgement(window, MET, f"{told}; {expected} expected")
    if window.start < first_seen:
        reason = f"{told}; not judged, for the window began before the expectation was there"
        return Judgement(window, UNJUDGED, reason)
    reason = f"{told}; {expected} expected"
    breach = Event(
        source=item.source,
        key=_iso(deadline),
        type=MISSED_TYPE,
        time=deadline,
        subject=reason,
        data={
            "deadline": _iso(deadline),
            "window": {"start": _iso(window.start), "end": _iso(window.end)},
            "expect": dict(spec["expect"]),
            "expected": expected.as_data(),
            "found": found.as_data(),
            "missing": missing.as_data(),
        },
    )
    return Judgement(window, MISSED_TYPE, reason, breach)


def _window(spec: Mapping[str, Any], timetable: Timetable, deadline: datetime) -> Interval:
    if spec.get("within") is not None:
        return Interval(deadline - duration(spec["within"]), deadline)
    just_before = deadline - timedelta(microseconds=1)
    begin = next(timetable.due(deadline - LOOK_BACK, just_before), deadline - USUAL_WINDOW)
    return Interval(begin, deadline)


def _found(database: Database, item: Clocked, window: Interval) -> tuple[Amount, str]:
    """Return what came in the window, and a remark on events that the filter could not be asked about."""
    spec = item.compiled.trigger.spec
    wanted = _wanted(item, window)
    condition = spec["expect"].get("filter")
    compiled = expression(condition) if isinstance(condition, str) else None
    count = size = 0
    faults: list[str] = []
    with database.read() as connection:
        for event in islice(events_within(connection, wanted), MAX_EVENTS):
            try:
                passes = compiled is None or _passes(compiled, event)
            except TemplateError as error:
                faults.append(str(error))
                continue
            count += passes
            size += _size_of(event.data) if passes else 0
    fault = f" (the filter failed on {len(faults)}: {faults[0]})" if faults else ""
    return Amount(count, None if spec.get("size") is None else size), fault


def _wanted(item: Clocked, window: Interval) -> Wanted:
    expect = item.compiled.trigger.spec["expect"]
    named = str(expect.get("trigger") or "")
    pipeline, _, trigger = named.rpartition("/")
    return Wanted(
        project=item.compiled.project,
        begin=window.start,
        end=window.end,
        type=expect.get("event"),
        source=expect.get("source"),
        taken_by=(pipeline or item.compiled.pipeline.name, trigger) if named else None,
    )


def _passes(condition: Expression, event: StoredEvent) -> bool:
    return bool(condition.evaluate(event=event_of(event).as_template_value(event.id)))


def _size_of(data: Any) -> int:
    size = data.get("size") if isinstance(data, Mapping) else None
    try:
        return int(size) if size is not None and not isinstance(size, bool) else 0
    except (TypeError, ValueError):
        return 0


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
