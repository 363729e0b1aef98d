"""Drops the trips that carried nobody."""

from pipelines import test, transformer


@transformer
def drop_empty_trips(trips, **kwargs):
    carried = trips[trips["passenger_count"] > 0]
    print(f"dropped {len(trips) - len(carried):,} of {len(trips):,} trips without passengers")
    return carried.reset_index(drop=True)


@test
def test_every_trip_carried_somebody(trips, *args):
    assert (trips["passenger_count"] > 0).all()
