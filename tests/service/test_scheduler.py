"""The scheduler with its real threads, in real time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sensors.files import FilesSensor
from service.clock import utc_now
from service.clocks.scheduler import Scheduler
from service.runtime import build_dispatcher, build_runtime
from service.settings import Settings
from service.watching.watcher import Watcher
from tests.parts.clockwork import Clockwork, Now, write_project
from tests.parts.waiting import wait_until

SECONDLY = "- {name: secondly, type: schedule, every: 1s}\n"
LANDED = """- name: landed
  type: sensor
  sensor: files
  options: {path: inbox}
  every: 1s
"""


class Ticking(Clockwork):
    """A clockwork with a scheduler over it, in real time."""

    def begin(self) -> Scheduler:
        watcher = Watcher(self.runtime, self.dispatcher)
        self.scheduler = Scheduler(self.runtime, self.dispatcher, watcher)
        self.scheduler.start()
        return self.scheduler


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Ticking]:
    root = tmp_path / "city"
    write_project(root, "triggers: []\n")
    (root / "inbox").mkdir()
    runtime = build_runtime(Settings(project=(root,), home=tmp_path / "home"), clock=utc_now)
    engine = Ticking(runtime, build_dispatcher(runtime), Now())
    yield engine
    engine.scheduler.stop()
    runtime.close()


def test_schedule_runs_at_its_moments(engine: Ticking) -> None:
    engine.rewrite("triggers:\n" + SECONDLY)
    engine.begin()

    wait_until(lambda: len(engine.ticks("secondly")) >= 3)

    moments = [tick.tick_at for tick in engine.ticks("secondly")]
    assert all(moment.microsecond == 0 for moment in moments)
    assert len(engine.runs()) >= 3


def test_landed_file_is_found(engine: Ticking) -> None:
    engine.rewrite("triggers:\n" + LANDED)
    engine.begin()
    wait_until(lambda: engine.scheduler.job_names > {"housekeeping"})

    (engine.root / "inbox" / "a.csv").write_text("1")

    wait_until(lambda: len(engine.events()) == 1)


def test_sensor_that_listens_listens_on_at_once(engine: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilesSensor, "shared", True)
    engine.rewrite("triggers:\n" + LANDED.replace("every: 1s", "every: 1h"))
    engine.begin()
    wait_until(lambda: engine.scheduler.job_names > {"housekeeping"})

    (engine.root / "inbox" / "a.csv").write_text("1")

    with capture_logs() as logs:
        wait_until(lambda: len(engine.events()) == 1)
    assert not any(line["event"] == "tick failed" for line in logs)


def test_triggers_come_and_go_with_the_files(engine: Ticking) -> None:
    engine.begin()
    engine.rewrite("triggers:\n" + SECONDLY)
    engine.scheduler.reconcile()
    wait_until(lambda: len(engine.ticks("secondly")) >= 1)

    engine.rewrite("triggers: []\n")
    engine.scheduler.reconcile()

    assert engine.scheduler.job_names == {"housekeeping"}


def test_trigger_that_fails_is_tried_again_and_stops_no_other(engine: Ticking) -> None:
    (engine.root / "inbox").rename(engine.root / "away")
    engine.rewrite("triggers:\n" + LANDED + SECONDLY)

    with capture_logs() as logs:
        engine.begin()
        wait_until(lambda: any(line["event"] == "tick failed" for line in logs))
    (engine.root / "away").rename(engine.root / "inbox")
    (engine.root / "inbox" / "a.csv").write_text("1")

    wait_until(lambda: len(engine.ticks("secondly")) >= 2)
    wait_until(lambda: any(event.source == "files:taxi/landed" for event in engine.events()))


def test_next_engine_catches_up_at_once(engine: Ticking) -> None:
    engine.rewrite("triggers:\n- {name: daily, type: schedule, every: 1d, catch_up: latest}\n")
    last_week = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=7)
    engine.seed_tick("daily", last_week)

    engine.begin()

    wait_until(lambda: len(engine.runs()) == 1)
