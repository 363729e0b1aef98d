"""Gives the columns the names a warehouse likes: lower case, no spaces."""

from pipelines import test, transformer


@transformer
def standardise_columns(trips, **kwargs):
    return trips.rename(columns=lambda name: name.strip().replace(" ", "_").lower())


@test
def test_names_are_standard(trips, *args):
    assert all(name == name.lower() and " " not in name for name in trips.columns)
