"""Previews of backfills, and their submission: the list that was looked at, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from pipelines.model import TriggerType
from service.backfills.choosing import events_of
from service.backfills.judging import Found, Status, judge_slots
from service.backfills.making import Declared, Filtered, Maker, Unmade
from service.backfills.preview import Preview, of_dates, of_events
from service.backfills.request import BackfillError, Dates, Request
from service.backfills.slots import Range, Slot, Step, steps_of, ticks_of
from service.clocks.timetable import TimetableError, timetable_of
from service.dispatcher import Dispatcher
from service.running.launch import find_pipeline
from service.runtime import Runtime
from service.store import backfill_slots, backfills
from service.store.backfill_slots import Span
from service.store.backfills import Backfill, BackfillState, Place
from service.store.ids import new_id
from service.store.session import Commit, Connection, Transaction


class PreviewChanged(BackfillError):
    """What is there has changed since the preview; nothing was submitted."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        shown = ", ".join(f"{number} {name}" for name, number in counts.items())
        super().__init__(
            f"the state of the slots has changed since the preview (now: {shown}); nothing was submitted. "
            "Look at a new preview, and submit that"
        )


class NothingToRun(BackfillError):
    """No slot of the list is to be run."""

    def __init__(self, preview: Preview) -> None:
        shown = ", ".join(
            f"{number} {name}" for name, number in preview.counts.items() if name not in ("run", "skip")
        )
        super().__init__(f"nothing to run: {shown or 'there are no slots'}")


class Backfills:
    """Makes lists of slots, and backfills of them."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher

    def preview(self, request: Request) -> Preview:
        """Return every slot with what would happen to it. Writes nothing.

        Raises BackfillError, SlotError, UnknownProject or UnknownPipeline.
        """
        prepared = self._prepared(request)
        with self._runtime.database.read() as connection:
            return prepared.preview(connection)

    def submit(self, request: Request, *, token: str | None = None) -> Backfill:
        """Store a backfill of the list as it is now; engines begin with it at once.

        With the token of a preview, only that list: raises PreviewChanged when it would be another one now.
        Raises NothingToRun when no slot needs a run.
        """
        prepared = self._prepared(request)
        created_at = self._runtime.clock()

        def work(tx: Transaction) -> Backfill:
            backfills.begin_alone(tx, request.place)
            preview = prepared.preview(tx.connection)
            if token is not None and token != preview.token:
                raise PreviewChanged(preview.counts)
            if not preview.runs:
                raise NothingToRun(preview)
            new = Backfill(
                new_id(),
                request.place,
                preview.request.spec() | {"timezone": prepared.timezone},
                BackfillState.RUNNING,
                None,
                request.concurrency,
                request.stop_after,
                created_at,
            )
            backfills.add(tx, new, preview.slots())
            return new

        return self._runtime.database.write(Commit.BACKFILL, work)

    def declared(self, place: Place) -> Declared:
        """Return the pipeline and the trigger. Raises BackfillError, UnknownProject or UnknownPipeline."""
        project = self._runtime.projects.get(place.project)
        pipeline = find_pipeline(project, place.pipeline)
        if place.trigger is None:
            return Declared(place, pipeline, None)
        compiled = self._dispatcher.triggers(project.name).get((pipeline.name, place.trigger))
        if compiled is None:
            known = ", ".join(one.name for one in pipeline.triggers if one.enabled) or "none"
            raise BackfillError(
                f"pipeline {pipeline.name!r} has no enabled trigger {place.trigger!r}; it has: {known}"
            )
        return Declared(place, pipeline, compiled)

    def _prepared(self, request: Request) -> _OverDates | _OverEvents:
        """Do all that needs no store."""
        request = request.checked()
        declared = self.declared(request.place)
        if isinstance(request.over, Dates):
            return _OverDates(request, declared, request.over)
        return _OverEvents(request, declared, self._dispatcher)


class _OverDates:
    """A list of spans of time."""

    def __init__(self, request: Request, declared: Declared, dates: Dates) -> None:
        zone = declared.zone(request.timezone)
        self.timezone = zone.key
        self._request = request
        self._slots = _slots(declared, dates, zone)
        self._maker = Maker(declared, request.variables, zone.key, request.chunk > 1)
        self._tried: dict[Slot, Found | None] = {}

    def preview(self, connection: Connection) -> Preview:
        found: Sequence[Found] = ()
        if self._slots:
            span = span_of(self._request.place, self._slots)
            found = judge_slots(self._slots, backfill_slots.covering(connection, span))
        return of_dates(self._request, self._slots, found, self._try)

    def _try(self, slot: Slot) -> Found | None:
        # Asked again when a transaction lost a race; templates give the same again.
        if slot not in self._tried:
            self._tried[slot] = self._problem(slot)
        return self._tried[slot]

    def _problem(self, slot: Slot) -> Found | None:
        try:
            self._maker.run([slot])
        except Filtered as filtered:
            return Found(Status.IMPOSSIBLE, str(filtered))
        except Unmade as unmade:
            return Found(Status.IMPOSSIBLE, f"no run can be made of it: {unmade}")
        return None


class _OverEvents:
    """A list of stored events."""

    timezone: str | None = None

    def __init__(self, request: Request, declared: Declared, dispatcher: Dispatcher) -> None:
        assert declared.compiled is not None
        self._request = request
        self._compiled = declared.compiled
        self._triggers = dispatcher.all_triggers(declared.place.project)

    def preview(self, connection: Connection) -> Preview:
        return of_events(self._request, events_of(connection, self._request, self._compiled, self._triggers))


def span_of(place: Place, slots: Sequence[Slot]) -> Span:
    """Return where runs that cover the slots, given in the order of time, are to be found."""
    return Span(place.project, place.pipeline, place.trigger, slots[0].start, slots[-1].end)


def _slots(declared: Declared, dates: Dates, zone: ZoneInfo) -> list[Slot]:
    span = Range.of(dates.start, dates.end, zone)
    if dates.every is not None:
        return steps_of(span, Step.parse(dates.every), zone)
    assert declared.compiled is not None
    trigger = declared.compiled.trigger
    if trigger.type is not TriggerType.SCHEDULE:
        raise BackfillError(
            f"trigger {trigger.name!r} has no schedule; say how long a slot is, e.g. every 1d"
        )
    try:
        return ticks_of(span, timetable_of(trigger.spec))
    except TimetableError as error:
        raise BackfillError(f"trigger {trigger.name!r}: {error}") from error
