"""Whether a slot needs a run: what has become of it so far, and what is wanted of such slots."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.backfills.request import Reprocess
from service.backfills.slots import Slot
from service.store.backfill_slots import Covering
from service.store.values import Outcome, RunState


class Status(StrEnum):
    """What has become of a slot before the backfill."""

    MISSING = "missing"
    FAILED = "failed"  # or cancelled
    DONE = "done"
    IN_FLIGHT = "in_flight"
    IMPOSSIBLE = "impossible"  # no run can be made of it


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of a slot, in words as well."""

    status: Status
    reason: str


MISSING = Found(Status.MISSING, "it has no run yet")

_WANTED: Mapping[Reprocess, frozenset[Status]] = {
    Reprocess.NONE: frozenset((Status.MISSING,)),
    Reprocess.FAILED: frozenset((Status.MISSING, Status.FAILED)),
    Reprocess.ALL: frozenset((Status.MISSING, Status.FAILED, Status.DONE)),
}


def wants(reprocess: Reprocess, found: Found) -> bool:
    return found.status in _WANTED[reprocess]


def judge_slots(slots: Sequence[Slot], covering: Sequence[Covering]) -> list[Found]:
    """Return what is there of each slot. `slots` are in the order of time, `covering` the oldest first.

    What is in flight counts most; else the newest run does.
    """
    found = [MISSING] * len(slots)
    starts = [slot.start for slot in slots]
    for one in covering:
        for place in _covered(starts, slots, one):
            if found[place].status is not Status.IN_FLIGHT:
                found[place] = _of(one)
    return found


def judge_event(outcome: Outcome | None, run_id: str | None, states: Mapping[str, RunState]) -> Found:
    """Return what is there of an event, by what its trigger made of it last."""
    if outcome is Outcome.HELD:
        return Found(Status.IN_FLIGHT, "its trigger holds it")
    if run_id is None:
        return Found(Status.MISSING, f"it started no run: {outcome or Outcome.UNMATCHED}")
    state = states.get(run_id)
    if state is None:
        return Found(Status.DONE, f"run {run_id} is not stored any more")
    return of_run(run_id, state)


def of_run(run_id: str, state: RunState) -> Found:
    if not state.is_final:
        return Found(Status.IN_FLIGHT, f"run {run_id} is {state}")
    if state is RunState.SUCCEEDED:
        return Found(Status.DONE, f"run {run_id} succeeded")
    return Found(Status.FAILED, f"run {run_id} {'failed' if state is RunState.FAILED else 'was cancelled'}")


def _of(one: Covering) -> Found:
    if one.run_id is None:
        return Found(Status.IN_FLIGHT, f"it waits in backfill {one.backfill_id}")
    return of_run(one.run_id, one.state)


def _covered(starts: Sequence[datetime], slots: Sequence[Slot], one: Covering) -> Iterable[int]:
    """Return the slots within its interval; of a run without one, the slot that begins at its moment."""
    if one.start is None or one.end is None:
        place = bisect_left(starts, one.moment)
        return [place] if place < len(slots) and starts[place] == one.moment else []
    first, beyond = bisect_left(starts, one.start), bisect_left(starts, one.end)
    return [place for place in range(first, beyond) if slots[place].end <= one.end]
