"""Fills in what the passenger list leaves out: the median age, and the commonest port."""

from pipelines import test, transformer


@transformer
def fill_in_missing_values(passengers, **kwargs):
    return passengers.assign(
        Age=passengers["Age"].fillna(passengers["Age"].median()),
        Fare=passengers["Fare"].fillna(passengers["Fare"].median()),
        Cabin=passengers["Cabin"].fillna("unknown"),
        Embarked=passengers["Embarked"].fillna(passengers["Embarked"].mode().iloc[0]),
    )


@test
def test_nothing_is_missing(passengers, *args):
    missing = passengers.columns[passengers.isna().any()]
    assert missing.empty, f"there are still gaps in {', '.join(missing)}"
