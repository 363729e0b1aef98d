"""Keeps the trips that began on the day of the run's execution date."""

from pipelines import test, transformer


@transformer
def keep_the_day(trips, **kwargs):
    day = kwargs["execution_date"].date()
    pickup = next(name for name in trips.columns if name.endswith("_pickup_datetime"))
    kept = trips[trips[pickup].dt.date == day].reset_index(drop=True)
    print(f"{len(kept):,} of {len(trips):,} trips began on {day}")
    return kept


@test
def test_all_trips_are_of_one_day(trips, *args):
    pickup = next(name for name in trips.columns if name.endswith("_pickup_datetime"))
    assert trips[pickup].dt.date.nunique() <= 1
