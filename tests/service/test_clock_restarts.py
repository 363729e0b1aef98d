"""Several engines over one store, in injected time, with random steps and outages: each tick once."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.clocks.clocked import Clocked
from service.clocks.ticking import Ticker
from service.clocks.timetable import timetable_of
from service.store.values import Outcome
from tests.parts.clockwork import Clockwork, Now, build_clockwork
from tests.parts.crontab import Crontab, Zone

ZONES = {  # with a moment shortly before their clocks are changed
    "America/New_York": "2026-03-07T20:01:00Z",
    "Australia/Lord_Howe": "2026-04-03T20:01:00Z",
    "Pacific/Chatham": "2026-04-03T20:01:00Z",
    "Africa/Cairo": "2026-10-28T20:01:00Z",
}
CRONS = ("30 1 * * *", "30 2 * * *", "0 0 * * *", "*/30 * * * *", "45 */3 * * *", "0 2 * * sun")
ENGINES = 3
SPAN = timedelta(days=3)


def declared(zone: str) -> str:
    lines = [
        f"- {{name: t{place}, type: schedule, cron: '{cron}', timezone: {zone}, catch_up: {{all: 10000}}}}"
        for place, cron in enumerate(CRONS)
    ]
    return "\n".join(["triggers:", *lines])


def tick_all(engine: Clockwork) -> None:
    clocked = [
        Clocked(compiled, timetable_of(compiled.trigger.spec))
        for compiled in engine.dispatcher.triggers("city").values()
    ]
    answers = Ticker(engine.runtime.database, engine.dispatcher, engine.now).bring_all_up_to_date(clocked)
    assert not [answer for answer in answers if isinstance(answer, Exception)]


@pytest.mark.parametrize("zone", ZONES)
def test_each_tick_is_recorded_once_over_a_change_of_the_clocks(zone: str, tmp_path: Path) -> None:
    dice = random.Random(zone)
    begin = datetime.fromisoformat(ZONES[zone])
    now = Now(begin)
    engines = [
        build_clockwork(tmp_path / "city", tmp_path / "home", None, declared(zone), now)
        for _ in range(ENGINES)
    ]
    for place in range(len(CRONS)):
        engines[0].seed_tick(f"t{place}", begin)

    while now.moment < begin + SPAN:
        now.advance(minutes=dice.choice([1, 7, 31, 64, 240, 700]))  # the long ones are outages
        awake = dice.sample(engines, dice.randrange(1, ENGINES + 1))
        threads = [threading.Thread(target=tick_all, args=[engine]) for engine in awake]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    clocks = Zone(zone)
    expected = 0
    for place, cron in enumerate(CRONS):
        recorded = engines[0].ticks(f"t{place}")[1:]
        (due,) = Crontab(cron).due(clocks, [(begin, now.moment)])
        assert [tick.tick_at for tick in recorded] == due, cron
        assert {tick.outcome for tick in recorded} <= {Outcome.RAN}
        expected += len(due)
    runs = engines[0].runs()
    assert len(runs) == len({(run.trigger, run.execution_date) for run in runs}) == expected
    for engine in engines:
        engine.runtime.close()


def test_the_moments_are_before_changes() -> None:
    for zone, moment in ZONES.items():
        begin = datetime.fromisoformat(moment).astimezone(UTC)
        assert any(begin < change < begin + SPAN for change in Zone(zone).changes), zone
