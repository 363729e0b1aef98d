"""Which ticks of a schedule are due: by its timetable, once for ever, or whenever no run of it is open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.model import TriggerType
from service.clocks.catch_up import CatchUp, DueTick, Policy, due_ticks
from service.clocks.timetable import AlwaysOn, Once, Timetable
from service.matching.triggers import CompiledTrigger
from service.store import ticks
from service.store.session import Database
from service.store.sightings import unheard_of
from service.store.ticks import Standing, Tick
from service.store.values import Outcome, RunState

SECOND = timedelta(seconds=1)
REST = timedelta(minutes=1)  # after a tick of `@always_on` that started no run
ONCE_KEY = "once"


@dataclass(frozen=True, slots=True)
class Clocked:
    """A trigger with its timetable. Before `counted_from` it has no ticks: a running engine saw it appear."""

    compiled: CompiledTrigger
    timetable: Timetable
    counted_from: datetime | None = None

    @property
    def source(self) -> str:
        return f"{self.compiled.trigger.type}:{self.compiled.pipeline.name}/{self.compiled.name}"

    def due(self, standing: Standing, now: datetime, database: Database) -> list[DueTick]:
        """Return the ticks that are due by now and not recorded yet. Raises TimetableError."""
        match self.timetable:
            case Once(start):
                is_early = start is not None and start > now
                return [] if is_early or self._was_once(database) else [_keyed(now, ONCE_KEY, standing)]
            case AlwaysOn():
                return self._when_none_is_open(standing, now, database)
        spec = self.compiled.trigger.spec
        # Every deadline is judged, however late: what came in time is in the store.
        is_deadline = self.compiled.trigger.type is TriggerType.EXPECTATION
        default = Policy.ALL if is_deadline else Policy.LATEST
        since = standing.last_tick or standing.first_seen
        if self.counted_from is not None:
            since = max(since, self.counted_from)
        catch_up = CatchUp.parse(spec.get("catch_up"), default)
        return due_ticks(self.timetable, catch_up, since=since, now=now)

    def _was_once(self, database: Database) -> bool:
        report = (self.source, ONCE_KEY)
        return report not in unheard_of(database, self.compiled.project, [report])

    def _when_none_is_open(self, standing: Standing, now: datetime, database: Database) -> list[DueTick]:
        with database.read() as connection:
            last = next(iter(ticks.listing(connection, *self.compiled.state_key, limit=1)), None)
            if last is None:
                return [_keyed(now, "first", standing)]
            became = ticks.became_of(connection, last)
        if now < last.tick_at + SECOND or (became is not None and _is_open(*became, last, now)):
            return []  # what was pruned ended long ago
        return [_keyed(now, f"after {last.tick_at.isoformat()}", standing)]


def _keyed(now: datetime, key: str, standing: Standing) -> DueTick:
    """Return a tick of this very second; later than the last one, should the clock have been put back."""
    second = now.replace(microsecond=0)
    if standing.last_tick is not None:
        second = max(second, standing.last_tick.replace(microsecond=0) + SECOND)
    return DueTick(second, key=key)


def _is_open(outcome: Outcome, run_state: RunState | None, last: Tick, now: datetime) -> bool:
    if run_state is not None:
        return not run_state.is_final
    return outcome is Outcome.HELD or now < last.tick_at + REST
