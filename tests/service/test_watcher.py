"""Sensors of triggers against a real store and a real folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.store import sensors
from service.store.sensors import SensorTick
from service.store.session import Commit
from service.store.triggers import pause
from service.store.values import Outcome
from service.watching.watcher import SensorTickError, Watcher
from tests.parts.clockwork import Build, Clockwork, Now, build_clockwork

LANDED = """
triggers:
- name: landed
  type: sensor
  sensor: files
  options: {path: inbox, pattern: "*.csv"}
  every: 10s
  filter: "{{ event.data.size > 0 }}"
  variables: {path: "{{ event.data.path }}"}
"""


@pytest.fixture(params=["sqlite", "postgres"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    built: list[Clockwork] = []

    def engine(triggers: str) -> Clockwork:
        now = built[0].now if built else Now()
        built.append(build_clockwork(tmp_path / "city", tmp_path / "home", url, triggers, now))
        (tmp_path / "city" / "inbox").mkdir(exist_ok=True)
        return built[-1]

    yield engine
    for one in built:
        one.runtime.close()


def tick(engine: Clockwork, *, watcher: Watcher | None = None) -> SensorTick | None:
    """Tick ten seconds later than the last time."""
    engine.now.advance(seconds=10)
    watcher = watcher or Watcher(engine.runtime, engine.dispatcher)
    return watcher.tick(engine.trigger("landed"), engine.now.moment)


def land(engine: Clockwork, name: str, content: str = "1") -> Path:
    file = engine.root / "inbox" / name
    file.write_text(content)
    return file


def test_landed_file_starts_a_run_with_its_variables(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    file = land(engine, "a.csv")

    result = tick(engine)

    (run,) = engine.runs()
    (event,) = engine.events()
    assert result == SensorTick(seen=1, new=1)
    assert dict(run.variables) == {"path": str(file)}
    assert (event.source, event.type, event.outcome) == ("files:taxi/landed", "file.created", Outcome.RAN)
    assert event.run_ids == (run.id,)


def test_file_there_at_first_sight_is_a_baseline_event_and_starts_nothing(build: Build) -> None:
    engine = build(LANDED)
    land(engine, "old.csv")
    engine.now.advance(seconds=60)  # the file lay there before

    result = tick(engine)

    assert result is not None
    assert result.reason == "1 baseline"
    assert [event.outcome for event in engine.events()] == [Outcome.BASELINE]
    assert engine.runs() == []


def test_existing_trigger_starts_runs_for_what_is_there(build: Build) -> None:
    engine = build(LANDED + "  existing: trigger\n")
    land(engine, "old.csv")

    tick(engine)

    assert len(engine.runs()) == 1


def test_known_files_are_counted_and_not_recorded_again(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    land(engine, "a.csv")
    tick(engine)
    land(engine, "b.csv")

    result = tick(engine)

    assert result == SensorTick(seen=2, new=1, duplicate=1)
    assert len(engine.runs()) == 2
    with engine.runtime.database.read() as connection:
        assert len(sensors.listing(connection, "city", "taxi", "landed")) == 3


def test_row_says_why_nothing_ran(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    nothing = tick(engine)
    land(engine, "empty.csv", "")

    filtered = tick(engine)

    assert nothing == SensorTick(reason="nothing has changed")
    assert filtered == SensorTick(seen=1, new=1, filtered=1, reason="1 filtered")


def test_pages_of_a_great_many_files_are_all_committed(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    for number in range(1100):
        land(engine, f"{number}.csv")

    result = tick(engine)

    assert result == SensorTick(seen=1100, new=1100)
    assert len({run.event_id for run in engine.runs()}) == 1000  # as many as the listing gives


def test_second_engine_leaves_a_claimed_tick_alone(build: Build) -> None:
    engine, other = build(LANDED), build(LANDED)
    tick(engine)
    land(engine, "a.csv")
    moment = engine.now.moment

    first = Watcher(engine.runtime, engine.dispatcher).tick(engine.trigger("landed"), moment)
    engine.now.advance(seconds=10)
    held = Watcher(engine.runtime, engine.dispatcher)._claim(engine.trigger("landed"), engine.now.moment)
    second = Watcher(other.runtime, other.dispatcher).tick(other.trigger("landed"), engine.now.moment)

    assert first is None  # that moment was ticked already
    assert held is not None
    assert second is None


def test_tick_that_lost_its_claim_writes_nothing(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    land(engine, "a.csv")
    watcher = _Overtaken(engine.runtime, engine.dispatcher)

    result = tick(engine, watcher=watcher)

    assert result is None
    assert engine.events() == []


class _Overtaken(Watcher):
    """A watcher whose claim is taken over before it has committed anything."""

    def _take(self, *arguments: object) -> None:
        self._runtime.database.write(
            Commit.SENSOR, lambda tx: tx.connection.exec_driver_sql("UPDATE sensors SET claim = claim + 1")
        )
        super()._take(*arguments)  # type: ignore[arg-type]


def test_missing_folder_is_told_in_the_row_and_mended_by_the_next_tick(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    (engine.root / "inbox").rename(engine.root / "away")
    with pytest.raises(SensorTickError, match=r"inbox does not exist; create it"):
        tick(engine)

    (engine.root / "away").rename(engine.root / "inbox")
    land(engine, "a.csv")
    tick(engine)

    with engine.runtime.database.read() as connection:
        rows = sensors.listing(connection, "city", "taxi", "landed")
    assert ["does not exist" in (row.result.error or "") for row in rows] == [False, True, False]
    assert len(engine.runs()) == 1


def test_wrong_options_are_told_in_the_row(build: Build) -> None:
    engine = build(LANDED.replace("pattern:", "patern:"))

    with pytest.raises(SensorTickError, match="'patern' is not an option"):
        tick(engine)


def test_files_landing_while_paused_are_held(build: Build) -> None:
    engine = build(LANDED)
    tick(engine)
    engine.runtime.database.write(Commit.TRIGGER, lambda tx: pause(tx, "city", "taxi", "landed"))
    land(engine, "a.csv")

    result = tick(engine)

    assert result is not None
    assert result.reason == "1 held"
    assert engine.runs() == []


def test_a_tick_that_the_store_cut_off_is_taken_up_at_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build(LANDED)
    watcher = Watcher(engine.runtime, engine.dispatcher)
    tick(engine, watcher=watcher)
    land(engine, "a.csv")

    def go_away(*_: object) -> None:
        raise StoreUnavailable("the store", "it is away")

    with monkeypatch.context() as away:
        away.setattr(sensors, "commit_page", go_away)
        with pytest.raises(StoreUnavailable):
            tick(engine, watcher=watcher)
    other = tick(engine)  # another engine's: the lease of the first one holds

    assert other is None
    assert tick(engine, watcher=watcher) == SensorTick(seen=1, new=1)
