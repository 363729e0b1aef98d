"""Decides, while events are recorded, which of their runs have room: skips, delays, or cancels older runs.

Only runs that have a throttle, or a limit that does not simply queue, are looked at; for all others claims
decide alone. Rows are locked in one order everywhere: keys of events, then gates, windows of throttles, runs
by id, limits. Each kind is sorted, so that no two transactions wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, func, select, update

from service.store import limits
from service.store.bulk import BulkInsert
from service.store.claims import end_cancelled
from service.store.columns import to_micros
from service.store.database import Transaction
from service.store.outcomes import first_outcome
from service.store.statements import OR_LOCK, upsert
from service.store.tables import run_limits, runs, throttles
from service.store.values import (
    OPEN_STATES,
    Limit,
    NewEvent,
    NewMatch,
    NewRun,
    Outcome,
    RunState,
    Throttle,
    WhenFull,
)

_OPEN = (
    select(run_limits.c.key, runs.c.id)
    .join(runs, runs.c.id == run_limits.c.run_id)
    .where(run_limits.c.key.in_(bindparam("keys", expanding=True)), runs.c.state.in_(OPEN_STATES))
)
_COUNT_OPEN = _OPEN.with_only_columns(run_limits.c.key, func.count()).group_by(run_limits.c.key)
_OLDEST_LAST = _OPEN.where(runs.c.cancel_requested.is_(False)).order_by(run_limits.c.key, runs.c.id.desc())
_LOCK_RUNS = (
    select(runs.c.id, runs.c.state)
    .where(runs.c.id.in_(bindparam("run_ids", expanding=True)))
    .order_by(runs.c.id)
    .with_for_update()
)
_ASK_CANCEL = update(runs).where(runs.c.id.in_(bindparam("run_ids", expanding=True))).values(
    cancel_requested=True
)  # fmt: skip
_SAY_WHY = update(runs).where(runs.c.id.in_(bindparam("run_ids", expanding=True))).values(
    error="cancelled for a newer run of the same trigger"
)  # fmt: skip

_insert_or_lock_windows = BulkInsert(throttles, tail=OR_LOCK)
_WINDOWS = select(throttles.c.key, throttles.c.window_start, throttles.c.count).where(
    throttles.c.key.in_(bindparam("keys", expanding=True))
)
_COUNT_IN_WINDOW = select(throttles.c.count).where(throttles.c.key == bindparam("name"))
_SET_WINDOWS = upsert(throttles, "window_start", "count")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Window:
    """Where a throttle stands: up to `start` it has no room, and so many runs begin in the window from there.

    A run that another throttle delays for longer is counted ahead, by a row of its own: the runs that come
    after it must not wait for it.
    """

    start: datetime
    count: int


class Admission:
    """Judges new matches one after the other, in one transaction; `finish` once their runs are inserted.

    `hopeful`, and the runs that somebody `asked` for, are all that might be judged: what they need is locked
    at once.
    """

    def __init__(self, tx: Transaction, hopeful: Iterable[NewMatch], asked: Iterable[NewRun] = ()) -> None:
        self._tx = tx
        wanted = [match.run for match in hopeful if match.run is not None] + list(asked)
        picky = [limit for run in wanted for limit in run.limits if limit.when_full is not WhenFull.QUEUE]
        self._skipping = {limit.key for limit in picky if limit.when_full is WhenFull.SKIP}
        self._cancelling: dict[str, int] = {}  # what has to go for a new run: key and maximum
        self._changed: set[str] = set()  # throttles whose window has
        self._ahead: dict[str, _Window] = {}  # windows ahead of where their throttle stands, by name
        self.is_needed = bool(picky) or any(run.throttles for run in wanted)
        limits.lock(tx, {_gate(limit.key) for limit in picky})
        self._windows = self._locked_windows({throttle.key for run in wanted for throttle in run.throttles})
        self._open = self._counted(self._skipping)

    def event(self, event: NewEvent) -> NewEvent:
        """Return the event with its matches as they are after all."""
        judged = self.matches(event.matches)
        if judged == event.matches:
            return event
        outcome, reason = first_outcome([(match.outcome, match.reason) for match in judged])
        return replace(event, matches=judged, outcome=outcome, reason=reason)

    def matches(self, found: Sequence[NewMatch]) -> tuple[NewMatch, ...]:
        """Return each as it is, with its run delayed, or skipped."""
        if not self.is_needed:
            return tuple(found)
        return tuple(match if match.run is None else self._match(match, match.run) for match in found)

    def run(self, run: NewRun) -> NewRun:
        """Return the run, delayed where a throttle wants it. A person's run is never skipped."""
        starts = self._starts(run.throttles)
        for throttle in run.throttles:
            self._take(throttle, starts)
        for limit in run.limits:
            self._open[limit.key] += limit.key in self._skipping
            if limit.when_full is WhenFull.CANCEL_RUNNING:
                self._cancelling[limit.key] = limit.maximum
        is_later = starts > self._tx.now if run.throttles else False
        if not is_later:
            return run
        return replace(run, available_at=max(starts, run.available_at or starts))

    def finish(self) -> None:
        """Write the windows down, and cancel the runs that newer ones are to replace."""
        changed = {key: self._windows[key] for key in self._changed}
        changed |= {name: window for name, window in self._ahead.items() if window.count}
        if changed:
            self._tx.connection.execute(
                _SET_WINDOWS[self._tx.database.dialect],
                [
                    {"key": key, "window_start": window.start, "count": window.count}
                    for key, window in sorted(changed.items())
                ],
            )
        if self._cancelling:
            self._cancel_older()

    def _match(self, match: NewMatch, run: NewRun) -> NewMatch:
        refusal = self._full_limit(run.limits) or self._full_throttle(run.throttles)
        if refusal is not None:
            return replace(match, outcome=Outcome.SKIPPED, reason=refusal, run=None)
        return replace(match, run=self.run(run))

    def _full_limit(self, wanted: Sequence[Limit]) -> str | None:
        for limit in wanted:
            if limit.when_full is WhenFull.SKIP and self._open[limit.key] >= limit.maximum:
                return (
                    f"the limit {limit.key} is full: {self._open[limit.key]} runs are open of {limit.maximum}"
                )
        return None

    def _full_throttle(self, wanted: Sequence[Throttle]) -> str | None:
        for throttle in wanted:
            if throttle.when_full is WhenFull.SKIP and self._starts([throttle]) > self._tx.now:
                span = timedelta(seconds=throttle.seconds)
                return f"the throttle {throttle.key} is used up: {throttle.maximum} in {span}"
        return None

    # Windows

    def _locked_windows(self, keys: set[str]) -> dict[str, _Window]:
        if not keys:
            return {}
        new = [{"key": key, "window_start": _EPOCH, "count": 0} for key in sorted(keys)]
        _insert_or_lock_windows(self._tx.connection, new)
        rows = self._tx.connection.execute(_WINDOWS, {"keys": sorted(keys)})
        return {key: _Window(start, count) for key, start, count in rows}

    def _starts(self, wanted: Sequence[Throttle]) -> datetime:
        """Return when a run may begin: in the first window that has room in each of its throttles."""
        starts = self._tx.now
        while True:
            later = max([starts, *(self._room_from(throttle, starts) for throttle in wanted)])
            if later == starts:
                return starts
            starts = later

    def _room_from(self, throttle: Throttle, moment: datetime) -> datetime:
        span = timedelta(seconds=throttle.seconds)
        begin = max(_window_of(moment, throttle.seconds), self._windows[throttle.key].start)
        while self._window(throttle, begin).count >= throttle.maximum:
            begin += span
        return max(moment, begin)

    def _window(self, throttle: Throttle, begin: datetime) -> _Window:
        """Return the window that begins there: where the throttle stands, or ahead of that."""
        stands = self._windows[throttle.key]
        if stands.start == begin:
            return stands
        name = _ahead(throttle, begin)
        if name not in self._ahead:
            found = self._tx.connection.execute(_COUNT_IN_WINDOW, {"name": name}).scalar_one_or_none()
            self._ahead[name] = _Window(begin, found or 0)
        return self._ahead[name]

    def _take(self, throttle: Throttle, starts: datetime) -> None:
        stands_at = _window_of(self._room_from(throttle, self._tx.now), throttle.seconds)
        window = self._window(throttle, _window_of(starts, throttle.seconds))
        window.count += 1
        if window.start <= stands_at:
            self._windows[throttle.key] = window
            self._ahead.pop(_ahead(throttle, window.start), None)
            self._changed.add(throttle.key)

    # Open runs

    def _counted(self, keys: set[str]) -> Counter[str]:
        if not keys:
            return Counter()
        rows = self._tx.connection.execute(_COUNT_OPEN, {"keys": sorted(keys)})
        return Counter({key: count for key, count in rows})

    def _cancel_older(self) -> None:
        """Keep the newest runs of each key, as many as its limit allows, and cancel all older ones."""
        kept: Counter[str] = Counter()
        doomed: set[str] = set()
        for key, run_id in self._tx.connection.execute(_OLDEST_LAST, {"keys": sorted(self._cancelling)}):
            kept[key] += 1
            if kept[key] > self._cancelling[key]:
                doomed.add(run_id)
        if not doomed:
            return
        # All at once and by id, as reports and renewals do; limits are only locked after the last of them.
        states = self._tx.connection.execute(_LOCK_RUNS, {"run_ids": sorted(doomed)}).all()
        running = [run_id for run_id, state in states if state == RunState.RUNNING]
        waiting = [
            run_id for run_id, state in states if not RunState(state).is_final and run_id not in running
        ]
        if running:
            self._tx.connection.execute(_ASK_CANCEL, {"run_ids": running})
            for run_id in running:
                self._tx.notify(f"cancel:{run_id}")
        if waiting:
            self._tx.connection.execute(_SAY_WHY, {"run_ids": waiting})
            end_cancelled(self._tx, waiting)


def _gate(key: str) -> str:
    """Name the row that those lock who decide by a limit.

    Not the limit's own: who reports the end of a run holds the run, and then wants that one. Here a run is
    wanted by who holds this.
    """
    return f"gate:{key}"


def _ahead(throttle: Throttle, begin: datetime) -> str:
    return f"{throttle.key}@{to_micros(begin)}"


def _window_of(moment: datetime, seconds: float) -> datetime:
    span = timedelta(seconds=seconds)
    return _EPOCH + ((moment - _EPOCH) // span) * span
