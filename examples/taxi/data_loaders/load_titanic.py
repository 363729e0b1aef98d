"""Loads the passenger list, as the example pipeline of Mage does."""

import pandas as pd

from pipelines import data_loader, test


@data_loader
def load_titanic(**kwargs):
    return pd.read_csv(f"{kwargs['source'].rstrip('/')}/titanic.csv")


@test
def test_list_is_complete(passengers, *args):
    assert passengers["PassengerId"].is_unique
    assert {"Survived", "Pclass", "Sex", "Age", "Fare"} <= set(passengers.columns)
