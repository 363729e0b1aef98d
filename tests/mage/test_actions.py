"""Transformer actions do to frames what Mage's documentation says of them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipelines.mage.actions import COLUMN_ACTIONS, ROW_ACTIONS, BaseAction, build_transformer_action
from pipelines.mage.columntypes import infer_column_types
from pipelines.mage.constants import ActionType, Axis, ColumnType
from pipelines.mage.names import DIFFERS
from pipelines.mage.steps import ActionRefused

REFUSED = {
    "custom",
    "expand_column",
    "group",
    "join",
    "remove_outliers",
    "union",
    "update_type",
    "update_value",
}


def done(df: pd.DataFrame, action_type: str, *arguments: str, **more: Any) -> pd.DataFrame:
    action = build_transformer_action(df, action_type=action_type, arguments=list(arguments), **more)
    return BaseAction(action).execute(df)


@pytest.fixture
def trips() -> pd.DataFrame:
    return pd.DataFrame(
        {"shop": ["a", "b", "a", None], "fare": [1.0, 2.0, 5.0, None], "PULocationID": [1, 2, 3, 4]}
    )


def test_every_action_is_done_or_refused() -> None:
    assert {*ActionType} == {*COLUMN_ACTIONS, *ROW_ACTIONS, *REFUSED}
    told = DIFFERS["data_cleaner.transformer_actions.constants.ActionType"]
    assert all(name in told for name in REFUSED)
    for name in REFUSED:
        with pytest.raises(ActionRefused, match="pandas"):
            BaseAction({"action_type": name, "axis": "column"})


def test_groups_give_each_row_their_aggregate(trips: pd.DataFrame) -> None:
    result = done(
        trips,
        ActionType.AVERAGE,
        "fare",
        options={"groupby_columns": ["shop"]},
        outputs=[{"uuid": "mean_fare", "column_type": "number_with_decimals"}],
    )

    assert result["mean_fare"].tolist()[:3] == [3.0, 2.0, 3.0]
    assert "mean_fare" not in trips.columns


@pytest.mark.parametrize(
    ("action", "value"),
    [("sum", 8.0), ("count", 3), ("max", 5.0), ("min", 1.0), ("median", 2.0), ("first", 1.0),
     ("count_distinct", 3)],
)  # fmt: skip
def test_aggregate_of_all_rows(trips: pd.DataFrame, action: str, value: float) -> None:
    result = done(trips, action, "fare", outputs=[{"uuid": "x"}], axis=Axis.COLUMN)

    assert result["x"].tolist() == [value] * 4


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("fare > 1 and PULocationID <= 3", [2, 3]),
        ("shop == null", [4]),
        ("shop != null and fare < 5", [1, 2]),
        ("shop contains 'a'", [1, 3]),
        ("shop != null and (shop not contains a)", [2]),
        ("'fare' >= 5", [3]),
        ('shop == "b"', [2]),
    ],
)
def test_filter(trips: pd.DataFrame, code: str, left: list[int]) -> None:
    result = done(trips, ActionType.FILTER, axis=Axis.ROW, action_code=code)

    assert result["PULocationID"].tolist() == left


def test_names_are_cleaned(trips: pd.DataFrame) -> None:
    frame = trips.rename(columns={"shop": " The Shop! ", "fare": "342%34"})

    result = done(frame, ActionType.CLEAN_COLUMN_NAME, *frame.columns)

    assert list(result.columns) == ["the_shop", "number_34234", "pu_location_id"]


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"strategy": "constant", "value": "7"}, 7),
        ({"strategy": "average"}, 8 / 3),
        ({"strategy": "median"}, 2),
        ({"strategy": "sequential"}, 5),
        ({"strategy": "column", "value": "PULocationID"}, 4),
    ],
)
def test_missing_values_are_filled_in(trips: pd.DataFrame, options: dict[str, Any], last: float) -> None:
    result = done(trips, ActionType.IMPUTE, "fare", options=options)

    assert result["fare"].iloc[3] == pytest.approx(last)


def test_rows_are_sorted_removed_and_made_distinct(trips: pd.DataFrame) -> None:
    rows = {"axis": Axis.ROW}

    assert done(trips, "sort", "fare", options={"ascending": False}, **rows)["fare"].tolist()[:3] == [5, 2, 1]
    assert len(done(trips, "remove", options={"rows": [0, 1]}, **rows)) == 2
    assert done(trips, "drop_duplicate", "shop", options={"keep": "first"}, **rows)["fare"].tolist()[0] == 1
    assert list(done(trips, "remove", "fare").columns) == ["shop", "PULocationID"]
    assert done(trips, "shift_down", "fare", outputs=[{"uuid": "before"}])["before"].tolist()[1:] == [1, 2, 5]


def test_currencies_become_numbers() -> None:
    prices = pd.DataFrame({"price": ["  $ 10000", "- ¥ 22.5", "0.42 €", "Rs - 1,000.23"]})

    result = done(prices, "reformat", "price", options={"reformat": "currency_to_num"})

    assert result["price"].tolist() == [10000, -22.5, 0.42, -1000.23]


def test_column_that_is_not_there_is_named(trips: pd.DataFrame) -> None:
    with pytest.raises(ActionRefused, match=r"names 'fares'.*its columns are shop, fare"):
        done(trips, ActionType.SUM, "fares", outputs=[{"uuid": "x"}])


def test_types_of_columns(trips: pd.DataFrame) -> None:
    frame = trips.assign(mail=["a@b.cd"] * 4, day=["2024-01-01", "2024-02-03", "2024-03-04", "2024-03-05"])

    found = infer_column_types(frame)

    assert (found["PULocationID"], found["mail"]) == (ColumnType.NUMBER, ColumnType.EMAIL)
    assert (found["day"], found["shop"]) == (ColumnType.DATETIME, ColumnType.TRUE_OR_FALSE)
