"""How far a query by watermark has read, and from where it reads next.

A row may become visible after rows with a higher stamp: its transaction began earlier and ended later, or
its stamp is older than it is. Three things find it: reading begins *at* the watermark and not behind it,
for equal stamps; it begins at the watermark as it was `late` ago, for rows that
come that late; and once in a while (`sweep`) everything is read. The keys tell what is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

_MARKS = 12  # remembered, about, of the last `late`


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest stamp that a reading had come to at a moment; None: there were no rows."""

    at: datetime
    value: Any


@dataclass(frozen=True, slots=True)
class Watermark:
    marks: tuple[Mark, ...] = ()  # the oldest first; that one is `late` old, or the first there was
    swept_at: datetime | None = None  # when the last reading of everything began
    sweeps: int = 0
    reading: tuple[Any] | None = None  # where a reading that is not at its end goes on

    def begin(self, now: datetime, *, late: timedelta, sweep: timedelta | None) -> Watermark:
        """Return it with a reading begun, or with the one that was cut short."""
        if self.reading is not None:
            return self
        if self._is_sweep_due(now, late, sweep):
            return replace(self, reading=(None,), swept_at=now, sweeps=self.sweeps + 1)
        older = [mark for mark in self.marks if mark.at <= now - late]
        return replace(self, reading=((older[-1] if older else self.marks[0]).value,))

    def go_on(self, value: Any) -> Watermark:
        """Return it with the reading gone on to a stamp."""
        return replace(self, reading=(value,))

    def end(self, now: datetime, value: Any, late: timedelta) -> Watermark:
        """Return it with the reading at its end; the highest stamp was `value`, None: there were no rows."""
        marks = [*self.marks]
        if not marks or now - marks[-1].at >= late / _MARKS:
            marks.append(Mark(now, marks[-1].value if value is None and marks else value))
        while len(marks) > 1 and marks[1].at <= now - late:
            del marks[0]
        return replace(self, marks=tuple(marks), reading=None)

    def as_json(self) -> dict[str, Any]:
        return {
            "marks": [[mark.at.isoformat(), stamp_json(mark.value)] for mark in self.marks],
            "swept_at": None if self.swept_at is None else self.swept_at.isoformat(),
            "sweeps": self.sweeps,
            "reading": None if self.reading is None else [stamp_json(self.reading[0])],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Watermark:
        swept_at, reading = stored["swept_at"], stored["reading"]
        return cls(
            marks=tuple(Mark(datetime.fromisoformat(at), stamp_of(value)) for at, value in stored["marks"]),
            swept_at=None if swept_at is None else datetime.fromisoformat(swept_at),
            sweeps=stored["sweeps"],
            reading=None if reading is None else (stamp_of(reading[0]),),
        )

    def _is_sweep_due(self, now: datetime, late: timedelta, sweep: timedelta | None) -> bool:
        if not self.marks or self.swept_at is None:
            return True
        # What was on its way at the first reading may lie behind all marks: the second reading of everything
        # comes as soon as that must have arrived.
        span = late if self.sweeps == 1 else sweep
        return span is not None and now - self.swept_at >= span


def stamp_json(value: Any) -> Any:
    """Return a stamp as JSON has it. Raises TypeError for what cannot be one."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return {"datetime": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case Decimal():
            return {"decimal": str(value)}
    raise TypeError(f"a value of type {type(value).__name__} cannot be a watermark")


def stamp_of(stored: Any) -> Any:
    match stored:
        case {"datetime": text}:
            return datetime.fromisoformat(text)
        case {"date": text}:
            return date.fromisoformat(text)
        case {"decimal": text}:
            return Decimal(text)
    return stored
