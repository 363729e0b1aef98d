"""Whatever happens in whatever order, the ledger adds up: no event without an outcome, no run twice.

Hypothesis plays the world: senders that repeat, files that are overwritten, deleted or late, operators who
pause, clocks that jump, and a process that dies before or after any commit and is started again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.clocks.ticking import Ticker
from service.dispatcher import Dispatcher
from service.matching.planning import Arrival
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import Settings
from service.store import events, runs, ticks, triggers
from service.store.session import Commit
from service.store.values import OUTCOME_ORDER, Outcome, Recorded, StoredEvent
from service.watching.watcher import SensorTickError, Watcher
from tests.parts.clockwork import Now, write_project
from tests.parts.stores import lay_store

START = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATE = (START - timedelta(days=365)).timestamp()
HOOK, FILES, HOURLY = "hook", "files", "hourly"
KEYS = st.sampled_from([f"k{number}" for number in range(6)])
NAMES = st.sampled_from(["a.csv", "b.csv", "c.csv"])
TRIGGERS = st.sampled_from([HOOK, FILES, HOURLY])
POINTS = st.sampled_from(["before_commit", "after_commit"])
TRIGGERS_FILE = """
triggers:
- name: hook
  type: webhook
  verify: none
  key: "{{ event.data.id }}"
  filter: "{{ event.data.amount > 0 }}"
  variables: {amount: "{{ 100 / (event.data.amount - 7) }}"}
- name: files
  type: sensor
  sensor: files
  options: {path: INBOX, pattern: "*.csv"}
  every: 1h
- name: hourly
  type: schedule
  every: 1h
  catch_up: all
- name: any_file
  type: event
  event: file.created
"""


class Crashed(Exception):
    """The process dies here."""


class Ledger(RuleBasedStateMachine):
    """One service over one store. A crash leaves the store and the files, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="millrace-ledger-"))
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self.now = Now(START)
        self.crash_at: str | None = None
        self.sent: dict[str, int] = {}  # key -> amount of the first delivery
        self.told: dict[str, str] = {}  # key -> event id, of what was acknowledged
        self.paused: set[str] = set()
        write_project(self.folder / "city", TRIGGERS_FILE.replace("INBOX", str(self.inbox)))
        self.open()

    def open(self) -> None:
        chosen = Settings(project=(self.folder / "city",), home=self.folder / "home")
        lay_store(chosen.home)
        self.runtime: Runtime = build_runtime(chosen, clock=self.now)
        self.runtime.database._crash = self.crash
        self.dispatcher: Dispatcher = build_dispatcher(self.runtime)
        self.runtime.wakeups.start()
        self.dispatcher.start()
        self.watcher = Watcher(self.runtime, self.dispatcher, engine_id="engine")
        self.ticker = Ticker(self.runtime.database, self.dispatcher, self.now)

    def close(self) -> None:
        self.crash_at = None
        self.watcher.stop()
        self.dispatcher.stop()
        self.runtime.close()

    def crash(self, point: str) -> None:
        if point == self.crash_at:
            self.crash_at = None
            raise Crashed(point)

    def survive(self, work: Callable[[], object]) -> bool:
        """Do the work; if the process dies in it, start it again. Return whether it came to its end."""
        try:
            work()
        except Crashed:
            self.close()
            self.open()
            return False
        return True

    # What happens

    @initialize()
    def first_sight(self) -> None:
        (self.inbox / "old.csv").write_text("old")
        self.ticker.bring_up_to_date(self.trigger(HOURLY))
        self.tick()

    @rule(key=KEYS, amount=st.sampled_from([0, 1, 7]))
    def deliver(self, key: str, amount: int) -> None:
        amount = self.sent.setdefault(key, amount)
        self.post(key, amount)

    @rule(keys=st.lists(KEYS, min_size=2, max_size=5))
    def redeliver_in_any_order(self, keys: list[str]) -> None:
        for key in keys:
            if key in self.sent:
                self.post(key, self.sent[key])

    @rule(name=NAMES, content=st.text("ab", min_size=1, max_size=3), late=st.booleans())
    def put_or_overwrite(self, name: str, content: str, *, late: bool) -> None:
        path = self.inbox / name
        path.write_text(content)
        if late:
            os.utime(path, (LATE, LATE))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.inbox / name).unlink(missing_ok=True)

    @rule()
    def tick(self) -> None:
        self.now.advance(seconds=1)
        self.survive(lambda: self.watch())

    @rule(hours=st.sampled_from([0.3, 1, 5]))
    def clock(self, hours: float) -> None:
        self.now.advance(hours=hours)
        self.survive(lambda: self.ticker.bring_up_to_date(self.trigger(HOURLY)))

    @rule(name=TRIGGERS)
    def pause(self, name: str) -> None:
        pause = lambda tx: triggers.pause(tx, "city", "taxi", name)  # noqa: E731
        self.survive(lambda: self.runtime.database.write(Commit.TRIGGER, pause))
        self.paused.add(name)  # perhaps: when it died before the commit, nothing is held

    @rule(name=TRIGGERS)
    def resume(self, name: str) -> None:
        if self.survive(lambda: self.dispatcher.release("city", "taxi", name)):
            self.paused.discard(name)

    @rule(commit=st.sampled_from([Commit.ACCEPT, Commit.SENSOR, Commit.TICK, Commit.TRIGGER]), point=POINTS)
    def die_in(self, commit: Commit, point: str) -> None:
        """Die before or after the next commit of that kind, in whatever brings one about."""
        self.crash_at = f"{commit}.{point}"
        match commit:
            case Commit.ACCEPT:
                self.deliver(f"fatal{len(self.sent)}", 1)
            case Commit.SENSOR:
                self.put_or_overwrite(f"fatal{len(self.sent)}.csv", "a", late=False)
                self.tick()
            case Commit.TICK:
                self.clock(1)
            case _:
                self.resume(HOOK)
        self.crash_at = None

    # What must hold, always

    @invariant()
    def every_event_has_one_outcome_and_it_is_that_of_its_matches(self) -> None:
        found = self.events()
        counted = Counter(event.outcome for event in found)
        assert counted.total() == len(found) == len({(event.source, event.key) for event in found})
        for event in found:
            outcomes = {match.outcome for match in event.matches}
            assert event.outcome is next(known for known in OUTCOME_ORDER if known in outcomes)
            assert Outcome.HELD not in outcomes or self.paused, event

    @invariant()
    def every_match_that_ran_has_its_own_run(self) -> None:
        with self.runtime.database.read() as connection:
            made = runs.listing(connection, limit=10_000)
        ran = [
            (event.id, match.trigger, match.run_id)
            for event in self.events()
            for match in event.matches
            if match.outcome is Outcome.RAN
        ]
        assert sorted(ran) == sorted((run.event_id, run.trigger, run.id) for run in made)
        assert len({(event_id, trigger) for event_id, trigger, _ in ran}) == len(ran)

    @invariant()
    def what_was_acknowledged_is_there_and_nothing_else_was_made_up(self) -> None:
        stored = {event.key: event.id for event in self.events() if event.source == "webhook:taxi/hook"}
        assert self.told.items() <= stored.items()
        assert stored.keys() <= self.sent.keys()

    @invariant()
    def every_due_tick_is_recorded_once(self) -> None:
        with self.runtime.database.read() as connection:
            recorded = [
                tick.tick_at for tick in ticks.listing(connection, "city", "taxi", HOURLY, limit=2000)
            ]
        assert len(set(recorded)) == len(recorded)
        if recorded:
            assert sorted(recorded) == [min(recorded) + HOUR * n for n in range(len(recorded))]

    def teardown(self) -> None:
        """In the end, with everything resumed and repeated, nothing is open and nothing is missing."""
        try:
            self.crash_at = None
            for name in (HOOK, FILES, HOURLY):
                self.dispatcher.release("city", "taxi", name)
            self.dispatcher.release_left_over()
            self.paused.clear()
            self.redeliver_in_any_order(list(self.sent))
            self.clock(1)
            self.tick()
            self.tick()
            found = self.events()
            assert all(match.outcome is not Outcome.HELD for event in found for match in event.matches)
            assert self.told.keys() == self.sent.keys()
            present = {path.name for path in self.inbox.glob("*.csv")}
            assert present <= {event.subject for event in found if event.type == "file.created"}
            for event in found:
                if event.source == "webhook:taxi/hook":
                    assert event.outcome is _expected(self.sent[event.key])
        finally:
            self.close()
            shutil.rmtree(self.folder)

    # Steps

    def trigger(self, name: str):  # type: ignore[no-untyped-def]
        return self.dispatcher.triggers("city")["taxi", name]

    def watch(self) -> None:
        try:
            self.watcher.tick(self.trigger(FILES), self.now())
        except SensorTickError as error:
            raise Crashed(str(error)) from None

    def post(self, key: str, amount: int) -> None:
        door = self.dispatcher.door(None, "/webhooks/taxi/hook")
        assert door is not None
        body = json.dumps({"id": key, "amount": amount}).encode()
        pending: Future[Recorded] = self.dispatcher.accept(
            door, Arrival(body, {"content-type": "application/json"})
        )
        answers: list[Recorded] = []
        if self.survive(lambda: answers.append(pending.result(timeout=30))):
            (answer,) = answers
            assert self.told.setdefault(key, answer.event_id) == answer.event_id

    def events(self) -> list[StoredEvent]:
        with self.runtime.database.read() as connection:
            return events.listing(connection, project="city", limit=10_000)


def _expected(amount: int) -> Outcome:
    """Zero is filtered, seven makes the mapping divide by zero."""
    return {0: Outcome.FILTERED, 1: Outcome.RAN, 7: Outcome.MAPPING_FAILED}[amount]


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
