"""The contract of every sensor in the registry, run against its real outside system."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sensors.base import (
    PAGE_SIZE,
    Cursor,
    Existing,
    ExistingRule,
    OptionsError,
    Page,
    SensorError,
    TickContext,
)
from sensors.event import Event
from sensors.registry import SENSORS, configure, find
from tests.sensors.rig import Rig
from tests.sensors.rigs import RIGS

AN_HOUR = timedelta(hours=1)


@dataclass
class Watch:
    """One trigger's view: ticks its sensor as the engine does, keeping the cursor and the known keys."""

    sensor_name: str
    rig: Rig
    existing: Existing = field(default_factory=Existing)
    cursor: Cursor = None
    known: set[str] = field(default_factory=set)
    baseline: set[str] = field(default_factory=set)

    def pages(self) -> Generator[Page, None, None]:
        """Tick. A page counts as committed when the next one is asked for."""
        self.rig.settle()
        sensor = configure(self.sensor_name, self.rig.options)
        more_to_come = self.rig.put_so_far > len(self.known)
        context = TickContext(
            source=f"{self.sensor_name}:taxi/watch",
            now=datetime.now(UTC),
            root=self.rig.scratch,
            existing=self.existing,
            is_stopping=lambda: more_to_come and len(self.known) >= self.rig.put_so_far,
            listen_seconds=30 if more_to_come else 0.3,
        )
        yield from sensor.tick(self.cursor, context)

    def take(self, page: Page) -> list[Event]:
        """Commit one page; return its events that were not known."""
        self.cursor = page.cursor
        self.baseline |= {event.key for event in page.baseline}
        new = [event for event in page.events if event.key not in self.known]
        self.known |= {event.key for event in (*page.events, *page.baseline)}
        return new

    def tick(self) -> list[Event]:
        return [event for page in self.pages() for event in self.take(page)]


def watch_of(request: pytest.FixtureRequest, tmp_path: Path) -> Watch:
    rig = RIGS[request.param]
    server = request.getfixturevalue(rig.part) if rig.part else None
    return Watch(sensor_of(request.param), rig(tmp_path, server))


def sensor_of(use: str) -> str:
    return use.partition(",")[0]


@pytest.fixture(params=sorted(RIGS))
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Watch:
    """Over every sensor."""
    return watch_of(request, tmp_path)


@pytest.fixture(params=sorted(name for name, rig in RIGS.items() if not rig.is_stream))
def standing(request: pytest.FixtureRequest, tmp_path: Path) -> Watch:
    """Over sensors of things that stay where they are: seen at first sight, overwritten, deleted."""
    return watch_of(request, tmp_path)


def test_every_registered_sensor_has_a_rig() -> None:
    assert {sensor_of(use) for use in RIGS} == set(SENSORS)


def test_streams_are_the_sensors_that_share() -> None:
    assert {sensor_of(use) for use, rig in RIGS.items() if rig.is_stream} == {
        name for name in SENSORS if find(name).shared
    }


def test_what_is_there_at_first_sight_is_baseline(standing: Watch) -> None:
    standing.rig.put("old", "1")

    assert standing.tick() == []
    assert len(standing.baseline) == 1


def test_what_is_there_at_first_sight_triggers_where_the_trigger_says_so(watch: Watch) -> None:
    watch.existing = Existing(ExistingRule.TRIGGER)
    watch.rig.put("old", "1")

    assert len(watch.tick()) == 1
    assert not watch.baseline


def test_since_parts_what_is_there_by_its_time(standing: Watch) -> None:
    now = datetime.now(UTC)
    standing.existing = Existing(ExistingRule.SINCE, now - AN_HOUR)
    standing.rig.put("older", "1", now - 2 * AN_HOUR)
    standing.rig.put("newer", "1", now - AN_HOUR / 2)

    events = standing.tick()

    assert [event.time > now - AN_HOUR for event in events] == [True]
    assert len(standing.baseline) == 1


def test_new_thing_is_one_event(watch: Watch) -> None:
    watch.tick()

    watch.rig.put("new", "1")

    assert len(watch.tick()) == 1
    assert watch.tick() == []


def test_late_thing_with_an_old_stamp_is_not_missed(watch: Watch) -> None:
    now = datetime.now(UTC)
    watch.tick()
    watch.rig.put("in_time", "1", now)
    watch.tick()

    watch.rig.put("late", "1", now - 48 * AN_HOUR)

    assert len(watch.tick()) == 1


def test_things_out_of_order_are_not_missed(watch: Watch) -> None:
    now = datetime.now(UTC)
    watch.tick()
    found = []

    for name, age in (("b", 1), ("d", 3), ("a", 0), ("c", 2)):
        watch.rig.put(name, "1", now - age * AN_HOUR)
        found += watch.tick()

    assert len({event.key for event in found}) == 4


def test_things_of_the_same_stamp_are_not_missed(watch: Watch) -> None:
    stamp = datetime.now(UTC) - AN_HOUR
    watch.tick()
    watch.rig.put("one", "1", stamp)
    first = watch.tick()

    watch.rig.put("two", "1", stamp)
    second = watch.tick()

    assert len(first) == len(second) == 1


def test_overwritten_thing_is_a_new_event(standing: Watch) -> None:
    stamp = datetime.now(UTC) - AN_HOUR
    standing.tick()
    standing.rig.put("thing", "1", stamp)
    before = standing.tick()

    standing.rig.put("thing", "2", stamp + timedelta(milliseconds=1))
    after = standing.tick()

    assert len(before) == len(after) == 1
    assert before[0].key != after[0].key


def test_overwritten_baseline_is_a_new_event(standing: Watch) -> None:
    standing.rig.put("thing", "1", datetime.now(UTC) - AN_HOUR)
    standing.tick()

    standing.rig.put("thing", "22")

    assert len(standing.tick()) == 1


def test_deleting_a_thing_is_no_event_and_hides_no_other(standing: Watch) -> None:
    standing.tick()
    standing.rig.put("gone", "1")
    standing.tick()

    standing.rig.delete("gone")
    standing.rig.put("new", "1")

    assert len(standing.tick()) == 1


def test_lost_cursor_brings_no_key_that_is_not_the_same_as_before(watch: Watch) -> None:
    watch.existing = Existing(ExistingRule.TRIGGER)
    for number in range(3):
        watch.rig.put(f"thing{number}", "1")
    watch.tick()

    watch.cursor = None

    assert watch.tick() == []


def test_pages_are_bounded(watch: Watch) -> None:
    watch.existing = Existing(ExistingRule.TRIGGER)
    for number in range(PAGE_SIZE + 1):
        watch.rig.put(f"thing{number:04}", "1")

    sizes = [len(page.events) for page in watch.pages() if watch.take(page)]

    assert sum(sizes) == PAGE_SIZE + 1
    assert max(sizes) <= PAGE_SIZE


def test_crash_after_the_first_page_loses_nothing(watch: Watch) -> None:
    watch.existing = Existing(ExistingRule.TRIGGER)

    assert len(crash_after_the_first_page(watch)) == PAGE_SIZE + 11


def test_crash_after_the_first_page_of_the_baseline_makes_nothing_new_of_it(standing: Watch) -> None:
    assert len(crash_after_the_first_page(standing)) == 1


def crash_after_the_first_page(watch: Watch) -> set[str]:
    """Return the keys of all events that came nevertheless, and of one that came later."""
    for number in range(PAGE_SIZE + 10):
        watch.rig.put(f"thing{number:04}", "1", datetime.now(UTC) - AN_HOUR)
    with closing(watch.pages()) as pages:
        found = watch.take(next(pages))  # the rest of the pages dies with the engine
    watch.rig.put("while_we_were_away", "1")
    return {event.key for event in (*found, *watch.tick())}


@pytest.mark.parametrize("rule", [ExistingRule.TRIGGER, ExistingRule.SINCE])
def test_page_that_is_taken_in_part_loses_nothing(standing: Watch, rule: ExistingRule) -> None:
    now = datetime.now(UTC)
    standing.existing = Existing(rule, now - AN_HOUR)
    for number in range(5):
        standing.rig.put(f"thing{number}", "1", now - AN_HOUR / 2)
    with closing(standing.pages()) as pages:
        page = next(pages)
    found = standing.take(replace(page, events=page.events[:2], cursor=page.partly))

    standing.rig.put("while_we_were_away", "1", now - AN_HOUR / 4)
    found += standing.tick()

    assert len({event.key for event in found}) == 6


def test_nothing_there_is_no_event_and_no_error(watch: Watch) -> None:
    assert watch.tick() == []


def test_events_can_be_stored(watch: Watch) -> None:
    watch.tick()
    watch.rig.put("thing", "1")

    (event,) = watch.tick()

    assert json.loads(json.dumps(event.data)) == event.data
    assert event.time.utcoffset() == timedelta(0)
    assert event.source
    assert event.key.encode()


def test_cursor_is_text(standing: Watch) -> None:
    standing.rig.put("thing", "1")
    standing.tick()

    assert isinstance(standing.cursor, str)
    assert standing.cursor.encode()


def test_wrong_options_are_all_named_in_one_error(watch: Watch) -> None:
    with pytest.raises(OptionsError) as caught:
        configure(watch.sensor_name, watch.rig.wrong_options)

    assert len(caught.value.sentences) >= 2


def test_unreachable_system_is_a_sensor_error(watch: Watch) -> None:
    watch.tick()

    watch.rig.break_down()

    with pytest.raises(SensorError):
        watch.tick()
