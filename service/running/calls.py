"""Answers what blocks ask of the service, on a thread of its own: the readers of channels must not wait.

Two ways to wait for a run end here. A block that *waits* (`trigger_pipeline(check_status=True)`) keeps its
process, and its run lends its slot for that time: `awaited` says for which runs. A block that is *parked*
(a global data product) keeps nothing; its run is told to look again. Both are woken by the topic of the run
that they wait for, and look by themselves now and then, should a wake-up get lost.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from pipelines.errors import MillraceError
from service.errors import ClaimLost, MillraceServiceError, StoreError
from service.running import answers, product_answers
from service.running.active_run import ActiveRun
from service.running.answers import Caller, Refused
from service.running.executors.base import Message
from service.running.executors.messages import outputs_message, run_answer
from service.runtime import Runtime
from service.store import calls, runs
from service.store.session import Commit
from service.store.values import Run, RunState

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0  # a lost wake-up costs so much
AGAIN_SECONDS = 0.5  # while the store is away
_TOPIC = "run:"


@dataclass(frozen=True, slots=True)
class _Ask:
    run: ActiveRun
    message: Message


@dataclass(frozen=True, slots=True)
class _Ended:
    run: ActiveRun


@dataclass(frozen=True, slots=True)
class _Topic:
    run_id: str


class _Drain:
    """Runs that only wait for other runs are given back."""


_Item = _Ask | _Ended | _Topic | _Drain


@dataclass(frozen=True, slots=True)
class _Wait:
    """A call that is answered at the end of a run, or when its time is over."""

    run: ActiveRun
    call: int
    awaited: str
    is_child: bool
    until: float  # monotonic


@dataclass
class _Parked:
    """Which runs are parked until another one is over: awaited -> waiting."""

    waiting: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def concerned(self, run_id: str) -> set[str]:
        """Return the awaited runs that news of this run are about: itself, and what it waits for."""
        own = {awaited for awaited, waiting in self.waiting.items() if run_id in waiting}
        return own | ({run_id} & self.waiting.keys())

    def below(self, run_ids: set[str]) -> set[str]:
        """Return these runs and all that they wait for, however far."""
        found = set(run_ids)
        while more := {one for one, waiting in self.waiting.items() if waiting & found} - found:
            found |= more
        return found


class Calls:
    """All calls of the runs that this engine executes."""

    def __init__(
        self, runtime: Runtime, *, on_start: Callable[[str], None], on_wait: Callable[[], None]
    ) -> None:
        """`on_start` hears of every run that a block started, `on_wait` that other runs are awaited."""
        self._runtime = runtime
        self._on_start = on_start
        self._on_wait = on_wait
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._waits: list[_Wait] = []
        self._parked = _Parked()
        self._later: list[_Ask] = []  # the store was away
        self._draining = False
        self._awaited: frozenset[str] = frozenset()
        self._lenders: frozenset[str] = frozenset()
        self._look_at = math.inf
        self._thread = threading.Thread(target=self._work, name="calls", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._items.put(None)
        self._thread.join(timeout=5)

    def ask(self, run: ActiveRun, message: Message) -> None:
        """Take a call; the answer goes to the run's process."""
        self._items.put(_Ask(run, message))

    def ended(self, run: ActiveRun) -> None:
        """Forget the calls of a run that this engine executes no more."""
        self._items.put(_Ended(run))

    def heard(self, topic: str) -> None:
        if topic.startswith(_TOPIC) and (self._waits or self._parked.waiting):
            self._items.put(_Topic(topic.removeprefix(_TOPIC)))

    def drain(self) -> None:
        """Give runs back that only wait for others: those may take longer than a stop does."""
        self._items.put(_Drain())

    @property
    def awaited(self) -> frozenset[str]:
        """The runs for whose sake slots are lent: those that are waited for, and what these wait for."""
        return self._awaited

    @property
    def lenders(self) -> frozenset[str]:
        """The active runs that wait, or have waited, for another run."""
        return self._lenders

    def _work(self) -> None:
        while True:
            try:
                item = self._items.get(timeout=self._seconds_to_next())
            except queue.Empty:
                self._guarded(self._look)
                continue
            if item is None:
                return
            self._guarded(partial(self._take, item))

    def _guarded(self, duty: Callable[[], None]) -> None:
        try:
            duty()
        except StoreError as error:
            logger.warning("the store is not there; calls of blocks wait", error=str(error))
            self._look_at = time.monotonic() + AGAIN_SECONDS
        except Exception:
            logger.exception("a call of a block met an error")

    def _seconds_to_next(self) -> float | None:
        due = min([self._look_at, *(wait.until for wait in self._waits)])
        return None if due == math.inf else max(0.0, due - time.monotonic())

    def _take(self, item: _Item) -> None:
        match item:
            case _Ask():
                self._answer(item)
            case _Ended():
                self._forget(item.run)
            case _Topic():
                self._hear(item.run_id)
            case _Drain():
                self._draining = True
                self._give_back_waiting()

    # Answering

    def _answer(self, ask: _Ask) -> None:
        """Do what a block asks for, and tell it; what the store cannot do now is tried again."""
        call = ask.message["id"]
        try:
            answer = self._answered(ask.run, ask.message)
        except StoreError as error:
            logger.warning("the store is not there; a call of a block waits", error=str(error))
            self._later.append(ask)
            self._look_at = min(self._look_at, time.monotonic() + AGAIN_SECONDS)
        except ClaimLost:
            ask.run.lose_claim()
        except (MillraceError, MillraceServiceError) as error:
            is_final = not isinstance(error, answers.Failed)
            ask.run.answer({"id": call, "error": str(error), "terminal": is_final})
        except Exception as error:
            logger.exception("a call of a block failed", run_id=ask.run.id)
            text = f"Millrace itself failed on this call: {error!r}"
            ask.run.answer({"id": call, "error": text, "terminal": False})
        else:
            if answer is not None:
                ask.run.answer({"id": call, "value": answer})

    def _answered(self, run: ActiveRun, message: Message) -> dict[str, Any] | None:
        """Return the answer; None where it comes later."""
        caller = Caller(run.id, run.claim, run.project)
        wanted = message["wanted"]
        match message["call"]:
            case "start":
                started, is_new = answers.start(self._runtime, caller, wanted)
                self._on_start(started.id)
                return run_answer(started, is_new=is_new)
            case "wait":
                return self._wait(run, message["id"], wanted)
            case "latest":
                found = answers.latest(self._runtime, caller, wanted)
                return {"outputs": [] if found is None else [outputs_message(found)]}
            case "product":
                return self._product(run, caller, wanted)
            case unknown:
                raise Refused(f"the service does not know the call {unknown!r}")

    def _wait(self, run: ActiveRun, call: int, wanted: Message) -> dict[str, Any] | None:
        awaited = answers.look(self._runtime, wanted["run_id"])
        if awaited is None or awaited.project != run.project:
            raise Refused(f"there is no run {wanted['run_id']!r} to wait for")
        timeout = wanted["timeout_seconds"]
        if awaited.state.is_final or (timeout is not None and timeout <= 0):
            return run_answer(awaited)
        until = math.inf if timeout is None else time.monotonic() + timeout
        self._waits.append(_Wait(run, call, awaited.id, awaited.parent_run_id == run.id, until))
        self._lenders |= {run.id}
        self._note()
        if self._draining:
            self._give_back_waiting()
        return None

    def _product(self, run: ActiveRun, caller: Caller, wanted: Message) -> dict[str, Any]:
        found, awaited = product_answers.answer(self._runtime, caller, wanted)
        if awaited is not None:
            self._on_start(awaited)
            if wanted["is_parked"]:
                self._parked.waiting[awaited].add(run.id)
                self._note()
        return {"outputs": [outputs_message(one) for one in found], "awaited": awaited}

    # Waiting

    def _look(self) -> None:
        """Do what was put off, and look at all that is waited for."""
        later, self._later = self._later, []
        self._look_at = math.inf
        for ask in later:
            self._answer(ask)
        self._check({wait.awaited for wait in self._waits})
        self._wake(set(self._parked.waiting))
        self._note()

    def _hear(self, run_id: str) -> None:
        self._check({run_id} & {wait.awaited for wait in self._waits})
        self._wake(self._parked.concerned(run_id))
        self._note()

    def _check(self, awaited: set[str]) -> None:
        """Answer the waits for those of these runs that are over, and those whose time is."""
        now = time.monotonic()
        with self._runtime.database.read() as connection:
            states = calls.states(connection, sorted(awaited))
        over = {run_id for run_id in awaited if run_id not in states or states[run_id].is_final}
        done = [wait for wait in self._waits if wait.awaited in over or wait.until <= now]
        for wait in done:
            self._finish(wait, answers.look(self._runtime, wait.awaited))

    def _finish(self, wait: _Wait, run: Run | None) -> None:
        if run is None:
            text = f"run {wait.awaited} was deleted while a block waited for it"
            wait.run.answer({"id": wait.call, "error": text, "terminal": True})
        else:
            wait.run.answer({"id": wait.call, "value": run_answer(run)})
        self._waits.remove(wait)

    def _wake(self, awaited: set[str]) -> None:
        """Let the runs look again that are parked for these, as far as they are over."""
        if not awaited:
            return
        with self._runtime.database.read() as connection:
            states = calls.states(connection, sorted({*awaited, *self._waiting_for(awaited)}))
        over = {run_id for run_id in awaited if _is_over(states, run_id)}
        parked = {run_id for run_id in self._waiting_for(over) if states.get(run_id) is RunState.WAITING}
        if parked:
            self._runtime.database.write(Commit.CLAIM, lambda tx: calls.wake(tx, sorted(parked)))
        self._forget_parked(over, parked, states)

    def _waiting_for(self, awaited: set[str]) -> set[str]:
        return {waiting for one in awaited for waiting in self._parked.waiting.get(one, ())}

    def _forget_parked(self, over: set[str], woken: set[str], states: dict[str, RunState]) -> None:
        """Leave what is not over, and who is still on the way to being parked."""
        for awaited in over:
            left = {
                run_id
                for run_id in self._parked.waiting.pop(awaited, ())
                if run_id not in woken and not _is_over(states, run_id)
            }
            if left:
                self._parked.waiting[awaited] = left

    def _note(self) -> None:
        """Tell for whom slots are lent now, and when to look again."""
        held = {wait.awaited for wait in self._waits}
        before, self._awaited = self._awaited, frozenset(self._parked.below(held))
        if self._waits or self._parked.waiting or self._later:
            self._look_at = min(self._look_at, time.monotonic() + LOOK_SECONDS)
        if self._awaited != before:
            self._on_wait()

    # Ends

    def _forget(self, run: ActiveRun) -> None:
        lost = [wait for wait in self._waits if wait.run is run]
        self._waits = [wait for wait in self._waits if wait.run is not run]
        self._later = [ask for ask in self._later if ask.run is not run]
        self._lenders -= {run.id}
        self._note()
        if run.is_cancelled:
            for wait in lost:
                if wait.is_child:
                    self._cancel(wait.awaited)

    def _cancel(self, run_id: str) -> None:
        """Cancel a run whose parent was cancelled while it waited for it."""
        try:
            self._runtime.database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run_id))
        except MillraceServiceError as error:  # it has ended by now, or the store is away
            logger.info("a run that was waited for is not cancelled", run_id=run_id, reason=str(error))

    def _give_back_waiting(self) -> None:
        """Give back the runs all of whose blocks wait; they go on where they were, under another claim."""
        for run in {wait.run for wait in self._waits}:
            if sum(wait.run is run for wait in self._waits) >= run.running_count:
                run.give_back()


def _is_over(states: dict[str, RunState], run_id: str) -> bool:
    return run_id not in states or states[run_id].is_final
