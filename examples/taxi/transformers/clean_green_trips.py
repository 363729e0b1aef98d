"""The cleaning of the green quarter: real trips only, a pick-up date, and names in snake_case."""

import re

from pipelines import test, transformer

WORD_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
VENDORS = {1, 2}


@transformer
def clean_green_trips(trips, **kwargs):
    real = trips[(trips["passenger_count"] > 0) & (trips["trip_distance"] > 0)].reset_index(drop=True)
    print(f"kept {len(real):,} of {len(trips):,} trips")
    dated = real.assign(lpep_pickup_date=real["lpep_pickup_datetime"].dt.date)
    return dated.rename(columns=snake_case)


def snake_case(name):
    return WORD_BORDER.sub("_", name).lower()


@test
def test_vendors_are_known(trips, *args):
    assert "vendor_id" in trips.columns
    assert set(trips["vendor_id"].unique()) <= VENDORS, "there is a vendor nobody has heard of"


@test
def test_every_trip_carried_somebody(trips, *args):
    assert (trips["passenger_count"] > 0).all()


@test
def test_every_trip_went_somewhere(trips, *args):
    assert (trips["trip_distance"] > 0).all()
