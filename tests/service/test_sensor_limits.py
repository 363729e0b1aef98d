"""What a tick may take, how long, and from where it begins: limits, resets, shared sensors, dry ticks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sensors.base import Cursor, Options, Page, Sensor, SensorError, TickContext
from sensors.event import Event
from sensors.registry import find
from service.clock import utc_now
from service.store import sensors
from service.store.sensors import SensorTick
from service.store.session import Commit
from service.store.values import Outcome
from service.watching import polling
from service.watching.dry import DryTicks, Standpoint
from service.watching.standing import Standing
from service.watching.watcher import SensorTickError, Watcher
from tests.parts.clockwork import Clockwork, Now, build_clockwork
from tests.parts.waiting import wait_until

LANDED = """
triggers:
- name: landed
  type: sensor
  sensor: files
  options: {path: inbox}
  every: 10s
  filter: "{{ event.data.size > 0 }}"
  variables: {path: "{{ event.data.name }}"}
"""
POLLED = """
triggers:
- name: landed
  type: sensor
  sensor: python
  options: {path: mine.py}
  every: 10s
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Clockwork]:
    engine = build_clockwork(tmp_path / "city", tmp_path / "home", None, LANDED, Now(utc_now()))
    (engine.root / "inbox").mkdir()
    yield engine
    engine.runtime.close()


@pytest.fixture
def watcher(engine: Clockwork) -> Iterator[Watcher]:
    watcher = Watcher(engine.runtime, engine.dispatcher)
    watcher.start()
    yield watcher
    watcher.close()


def tick(engine: Clockwork, watcher: Watcher, **spec: Any) -> SensorTick | None:
    engine.now.advance(seconds=10)
    compiled = engine.trigger("landed")
    changed = replace(compiled.trigger, spec={**compiled.trigger.spec, **spec})
    return watcher.tick(replace(compiled, trigger=changed), engine.now.moment)


def land(engine: Clockwork, *names: str, content: str = "1") -> None:
    for name in names:
        (engine.root / "inbox" / name).write_text(content)


def test_max_events_leaves_the_rest_for_the_next_ticks(engine: Clockwork, watcher: Watcher) -> None:
    tick(engine, watcher)
    land(engine, "a", "b", "c", "d", "e")

    results = [tick(engine, watcher, max_events=2) for _ in range(4)]

    assert [(one.new, one.capped) for one in results if one] == [(2, 3), (2, 1), (1, 0), (0, 0)]
    assert results[0] is not None
    assert results[0].reason == "3 more are left for the next tick (max_events)"
    assert len(engine.runs()) == 5


def test_max_events_at_first_sight_loses_nothing(engine: Clockwork, watcher: Watcher) -> None:
    land(engine, "a", "b", "c")

    results = [tick(engine, watcher, max_events=2, existing="trigger") for _ in range(2)]

    assert [(one.new, one.capped) for one in results if one] == [(2, 1), (1, 0)]


class _Slow(Sensor[Options]):
    """Yields a page each time it is let, until it is told to stop."""

    name = "files"
    options_model = Options
    is_yielding = True

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        for number in range(10_000):
            if context.is_stopping():
                raise SensorError("it was told to stop")
            time.sleep(0.01)  # its work
            if self.is_yielding:
                event = Event(context.source, str(number), "slow", context.now, data={"size": 1, "name": "x"})
                yield Page((event,), str(number))


def test_time_limit_keeps_what_was_found(
    engine: Clockwork, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "sensor_of", lambda compiled: _Slow(Options()))

    result = tick(engine, watcher, timeout=0.1)

    assert result is not None
    assert result.new >= 1
    assert result.reason == "ended by its time limit of 0.1 s; the next tick goes on from here"
    assert len(engine.runs()) == result.new


def test_time_limit_before_anything_was_found_is_an_error(
    engine: Clockwork, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "sensor_of", lambda compiled: _Slow(Options()))
    monkeypatch.setattr(_Slow, "is_yielding", False)

    with pytest.raises(SensorTickError, match=r"found nothing to keep within its time limit of 0\.1 s"):
        tick(engine, watcher, timeout=0.1)


def test_stop_ends_a_tick_without_an_error(
    engine: Clockwork, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "sensor_of", lambda compiled: _Slow(Options()))
    results: list[SensorTick | None] = []
    ticking = threading.Thread(target=lambda: results.append(tick(engine, watcher)))
    ticking.start()
    wait_until(lambda: len(engine.runs()) > 0)

    watcher.stop()
    ticking.join(10)

    (result,) = results
    assert result is not None
    assert result.reason == "the engine stopped; the next tick goes on from here"


def test_claim_is_renewed_while_a_tick_goes_on(engine: Clockwork) -> None:
    settings = engine.runtime.settings.model_copy(update={"lease_seconds": 15.0, "renew_seconds": 0.05})
    watcher = Watcher(replace(engine.runtime, settings=settings), engine.dispatcher)
    watcher.start()
    held = watcher._claim(engine.trigger("landed"), engine.now.moment)
    assert held is not None

    with watcher._leases.kept(held):
        before = lease_of(engine)
        wait_until(lambda: lease_of(engine) > before, what="a longer lease")
    watcher.close()

    assert before - held.started_at == timedelta(seconds=15)


def lease_of(engine: Clockwork) -> Any:
    with engine.runtime.database.read() as connection:
        return sensors.state_of(connection, "city", "taxi", "landed").lease_until


@pytest.mark.parametrize(("existing", "outcome"), [("ignore", Outcome.BASELINE), ("trigger", Outcome.RAN)])
def test_reset_looks_as_if_for_the_first_time(
    engine: Clockwork, watcher: Watcher, existing: str, outcome: Outcome
) -> None:
    tick(engine, watcher)
    land(engine, "a")
    tick(engine, watcher)
    land(engine, "b")
    engine.now.advance(minutes=1)
    stored = Standing(None, existing).stored()
    engine.runtime.database.write(
        Commit.SENSOR, lambda tx: sensors.reset_sensor(tx, "city", "taxi", "landed", stored)
    )

    result = tick(engine, watcher)

    assert result is not None
    assert (result.new, result.duplicate) == (1, 1)  # what is known stays known
    assert [event.outcome for event in engine.events()] == [Outcome.RAN, outcome]
    with engine.runtime.database.read() as connection:
        assert isinstance(sensors.state_of(connection, "city", "taxi", "landed").cursor, str)


def test_first_sight_that_is_not_over_keeps_its_rule_and_hears_of_nothing_that_others_list(
    engine: Clockwork, watcher: Watcher
) -> None:
    land(engine, "a", "b")
    engine.now.advance(minutes=1)

    tick(engine, watcher, max_events=1, existing="trigger")
    during = is_watching(engine)
    tick(engine, watcher, existing="ignore")  # the file has changed meanwhile

    assert [event.outcome for event in engine.events()] == [Outcome.RAN] * 2
    assert [during, is_watching(engine)] == [False, True]


def is_watching(engine: Clockwork) -> bool:
    with engine.runtime.database.read() as connection:
        return bool(sensors.watching(connection))


def test_reset_ends_a_tick_that_goes_on(engine: Clockwork, watcher: Watcher) -> None:
    held = watcher._claim(engine.trigger("landed"), engine.now.moment)
    assert held is not None
    reset = Standing(None, "ignore").stored()
    engine.runtime.database.write(
        Commit.SENSOR, lambda tx: sensors.reset_sensor(tx, "city", "taxi", "landed", reset)
    )

    assert tick(engine, watcher) is not None


def test_shared_sensor_is_ticked_by_two_engines_at_once(
    engine: Clockwork, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find("files"), "shared", True)
    other = Watcher(engine.runtime, engine.dispatcher)
    trigger = engine.trigger("landed")

    claims = [one._claim(trigger, engine.now.moment) for one in (watcher, other)]

    assert all(claim is not None and claim.is_shared for claim in claims)
    assert lease_of(engine) is None


def test_what_no_notification_told_of_is_counted_and_logged(
    engine: Clockwork, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find("files"), "reconciles", True)
    land(engine, "there at first sight")
    engine.now.advance(minutes=1)
    tick(engine, watcher)
    land(engine, "told", "missed", "new")
    engine.now.advance(minutes=1)
    told, fresh = (str(engine.root / "inbox" / name) for name in ("told", "new"))
    os.utime(fresh, (engine.now.moment.timestamp(), engine.now.moment.timestamp()))
    stamp = os.stat(told).st_mtime_ns
    told_of = Event("files:taxi/landed", f"{told}#1:{stamp}", "file.created", utc_now(), data={"size": 1})
    planned = engine.dispatcher.plan("city", told_of, [], road="webhook")
    engine.runtime.database.write(Commit.ACCEPT, lambda tx: engine.dispatcher.record_page(tx, [planned]))

    with capture_logs() as logs:
        result = tick(engine, watcher)

    assert result is not None
    assert result.reconciled == 1  # the notification of the fresh one may still come
    assert "listing found what no notification had told of" in [line["event"] for line in logs]
    with engine.runtime.database.read() as connection:
        assert sensors.listing(connection, "city", "taxi", "landed")[0].result.reconciled == 1


def test_sensor_apart_is_recorded_page_by_page(engine: Clockwork, watcher: Watcher) -> None:
    engine.rewrite(POLLED)
    (engine.root / "mine.py").write_text(
        "def poll(cursor):\n"
        "    for number in range(3):\n"
        "        yield {'key': number}\n"
        "        yield {'cursor': number}\n"
        "    if cursor is not None:\n"
        "        raise RuntimeError('boom')\n"
    )

    first = tick(engine, watcher, existing="trigger")

    assert first == SensorTick(seen=3, new=3)
    with pytest.raises(SensorTickError, match=r"mine\.py:6, in poll: RuntimeError: boom"):
        tick(engine, watcher)
    assert len(engine.runs()) == 3


def test_dry_tick_tells_all_and_writes_nothing(engine: Clockwork, watcher: Watcher) -> None:
    tick(engine, watcher)
    land(engine, "a")
    tick(engine, watcher)
    land(engine, "b")
    land(engine, "empty", content="")

    found = DryTicks(engine.runtime, engine.dispatcher).tick(engine.trigger("landed"), limit=10)

    assert found.error is None
    assert dict(found.counts) == {Standpoint.KNOWN: 1, Standpoint.NEW: 2}
    assert found.cursor_after != found.cursor_before
    matches = [match for one in found.events for match in one.matches]
    assert [(match.outcome, match.run and match.run.variables) for match in matches] == [
        (Outcome.RAN, {"path": "b"}),
        (Outcome.FILTERED, None),
    ]
    assert len(engine.events()) == 1
    again = tick(engine, watcher)
    assert again is not None
    assert again.new == 2


def test_dry_tick_tells_what_is_wrong(engine: Clockwork) -> None:
    (engine.root / "inbox").rmdir()

    found = DryTicks(engine.runtime, engine.dispatcher).tick(engine.trigger("landed"), limit=10)

    assert "inbox does not exist; create it" in str(found.error)
