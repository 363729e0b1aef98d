"""Every time zone, seven years, forty cron texts: no tick missed, none doubled.

The judge is `tests.parts.crontab`, which enumerates real minutes and knows nothing of our timetables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from service.clocks.timetable import Cron
from tests.parts.crontab import END, FIRST, Crontab, Span, Zone, zone_names

RARE = """
0 0 * * 0
30 2 * * sun
15 1 * * mon
0 0 1 * *
30 2 1 * *
59 23 L * *
30 1 LW * *
0 12 13 * 5
0 3 1,15 * wed
0 0 * * 5L
30 2 * * SUN#2
0 1 * mar-nov sun#1
30 0 31 * *
0 0 29 2 *
30 3 28-31 3,10 *
5 4 1 jan *
0 2 8-14 3 *
45 23 31 12 *
""".strip().splitlines()

DAILY = """
0 0 * * *
30 0 * * *
30 1 * * *
30 2 * * *
0 3 * * *
0 5 * * mon-fri
59 23 * * *
0,30 1,2,3 * * *
0 0-6/2 * * *
15 10,22 */2 * 1-5
""".strip().splitlines()

# With how far around each change of the clocks they are tried.
FREQUENT = {
    "* * * * *": timedelta(minutes=70),
    "*/5 * * * *": timedelta(hours=4),
    "7-59/15 * * * *": timedelta(hours=6),
    "*/20 0-4 * * *": timedelta(days=1),
    "0 * * * *": timedelta(days=1),
    "30 * * * mon-sat": timedelta(days=1),
    "0 */2 * * *": timedelta(days=2),
    "45 */3 * * sun,mon": timedelta(days=2),
    "*/30 2 * * *": timedelta(days=2),
    "* 0 L * *": timedelta(days=1),
    "0-59 1 * * *": timedelta(days=1),
    "0 0-23 * * *": timedelta(days=1),
}
REACHES = dict.fromkeys(RARE, timedelta(days=6)) | dict.fromkeys(DAILY, timedelta(days=2)) | FREQUENT
SHARES = 2
IN_FULL = "CHAOS_CLOCKS"
CRONTABS = {text: Crontab(text) for text in [*RARE, *DAILY, *FREQUENT]}  # they remember their days


def differences(text: str, zone: Zone, spans: Sequence[Span]) -> Iterator[str]:
    cron = Cron(text, ZoneInfo(zone.name))
    for (begin, end), right in zip(spans, CRONTABS[text].due(zone, spans), strict=True):
        found = list(takewhile(lambda due, end=end: due <= end, cron.after(begin)))
        if found != right:
            missed, false = sorted(set(right) - set(found)), sorted(set(found) - set(right))
            told = f"{zone.name} {text!r}: {len(found)} ticks, {len(right)} expected"
            yield f"{told}; missed {list(map(str, missed[:3]))}, not due {list(map(str, false[:3]))}"


def tried(zone: Zone, place: int) -> Iterator[tuple[str, list[Span]]]:
    """Yield the texts for a zone, each with the spans of time in which it is tried.

    In all the years each has every sixth of the rare texts; where clocks are changed also one of the daily
    ones, and around each change it has them all. `make chaos` tries all rare and daily ones in all the years.
    """
    daily = DAILY[place % len(DAILY)]
    sample = [*RARE[place % 6 :: 6], *([daily] if zone.changes else [])]
    for text in [*RARE, *DAILY] if IN_FULL in os.environ else sample:
        yield text, [(FIRST, END)]
    moments = zone.changes or [FIRST + timedelta(days=10 + place)]
    for text, reach in REACHES.items():
        yield text, [(moment - reach, moment + reach) for moment in moments]


@pytest.mark.parametrize("share", range(SHARES))
def test_every_zone_has_each_tick_of_seven_years_once(share: int) -> None:
    wrong: list[str] = []
    for place, name in enumerate(zone_names()):
        if place % SHARES == share:
            zone = Zone(name)
            for text, spans in tried(zone, place):
                wrong += differences(text, zone, spans)

    assert wrong == []


def test_the_campaign_is_as_large_as_it_says() -> None:
    assert len(CRONTABS) == 40
    assert len(zone_names()) > 60
