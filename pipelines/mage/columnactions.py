"""Actions that add, change, name and remove columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from pandas.api import types

from pipelines.mage.cleaning import snake_case
from pipelines.mage.columntypes import infer_column_types
from pipelines.mage.constants import ActionType, ColumnType, ImputationStrategy
from pipelines.mage.rowactions import select as rows_where
from pipelines.mage.steps import ActionRefused, Step

_CURRENCY = re.compile(r"(-)?(?:\$|CAD|£|€|¥|Rs\.?|元)(-)?|\s+|,")


def _mode(values: pd.Series) -> Any:
    found = values.mode()
    return found.iloc[0] if len(found) else None


_AGGREGATES: Mapping[str, str | Callable[[pd.Series], Any]] = {
    ActionType.AVERAGE: "mean",
    ActionType.COUNT: "count",
    ActionType.COUNT_DISTINCT: "nunique",
    ActionType.FIRST: "first",
    ActionType.LAST: "last",
    ActionType.MAX: "max",
    ActionType.MEDIAN: "median",
    ActionType.MIN: "min",
    ActionType.MODE: _mode,
    ActionType.SUM: "sum",
}


def aggregate(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Add to each row the aggregate of its group, or of all rows, over those that the condition takes."""
    chosen = _in_window(rows_where(df, step), step)
    how, keys = _AGGREGATES[step.type], step.grouped_by()
    for column, output in step.pairs():
        if keys:
            found = chosen.groupby(keys, dropna=False)[column].agg(how).rename(output)
            df = df.merge(found, how="left", left_on=keys, right_index=True)
        else:
            df[output] = _whole(chosen[column], how)
    return df


def _whole(values: pd.Series, how: str | Callable[[pd.Series], Any]) -> Any:
    if how == "first":
        return values.iloc[0] if len(values) else None
    if how == "last":
        return values.iloc[-1] if len(values) else None
    return values.agg(how)


def _in_window(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    first, second = step.options.get("timestamp_feature_a"), step.options.get("timestamp_feature_b")
    seconds = step.options.get("window")
    if not (first and second and seconds):
        return df
    begin, moment = pd.to_datetime(df[first]), pd.to_datetime(df[second])
    is_within = (moment >= begin) & (moment <= begin + pd.Timedelta(seconds=int(seconds)))
    within: pd.DataFrame = df.loc[is_within]
    return within


def add(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Add a column: the sum of columns and a `value`, or what an expression of columns gives."""
    if len(step.outputs) != 1:
        raise ActionRefused(f"the action {step.type!r} needs one output: the name of the new column")
    if step.code.strip():
        df[step.outputs[0]] = df.eval(step.code)
        return df
    value = step.options.get("value")
    parts: list[Any] = [df[name] for name in step.columns] + ([] if value is None else [value])
    if not parts:
        raise ActionRefused(f"the action {step.type!r} needs arguments, or a `value` among its options")
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    df[step.outputs[0]] = total
    return df


def clean_names(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df.rename(columns={name: snake_case(str(name)) for name in step.columns})


def difference(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    if pair := step.first_pair():
        df[pair[1]] = df[pair[0]].diff()
    return df


def shift_up(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    if pair := step.first_pair():
        df[pair[1]] = df[pair[0]].shift(-1)
    return df


def shift_down(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    if pair := step.first_pair():
        keys, periods = step.grouped_by(), int(step.options.get("periods", 1))
        source = df.groupby(keys)[pair[0]] if keys else df[pair[0]]
        df[pair[1]] = source.shift(periods)
    return df


def select(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df[list(step.columns)]


def remove(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df.drop(columns=list(step.columns))


def normalize(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    for name in step.columns:
        low, high = df[name].min(), df[name].max()
        df[name] = (df[name] - low) / (high - low)
    return df


def standardize(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    for name in step.columns:
        df[name] = (df[name] - df[name].mean()) / df[name].std()
    return df


def mark_syntax_errors(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Take out what is not of the type that most of its column has; in texts it becomes `invalid`."""
    kinds = infer_column_types(df[list(step.columns)])
    for name in step.columns:
        if kinds[name] == ColumnType.DATETIME:
            df[name] = pd.to_datetime(df[name], errors="coerce")
        elif kinds[name] in (ColumnType.NUMBER, ColumnType.NUMBER_WITH_DECIMALS):
            df[name] = pd.to_numeric(df[name], errors="coerce")
        elif kinds[name] == ColumnType.EMAIL:
            is_wrong = df[name].notna() & ~df[name].astype("str").str.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+")
            df[name] = df[name].mask(is_wrong, "invalid")
    return df


def reformat(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Change the form of values: capitals, currencies to numbers, texts to times, no blanks around them."""
    how = step.options.get("reformat")
    change = _REFORMATS.get(str(how))
    if how is not None and change is None:
        raise ActionRefused(f"the reformat {how!r} is not known; use one of {', '.join(_REFORMATS)}")
    for name in step.columns:
        if change is not None:
            df[name] = change(df[name], step.options)
    return df


def _capitals(values: pd.Series, options: Mapping[str, Any]) -> pd.Series:
    if not _is_text(values):
        return values
    return values.str.upper() if options.get("capitalization") == "uppercase" else values.str.lower()


def _numbers(values: pd.Series, _: Mapping[str, Any]) -> pd.Series:
    if not _is_text(values):
        return values
    return pd.to_numeric(values.str.replace(_CURRENCY, r"\1\2", regex=True), errors="coerce")


def _times(values: pd.Series, _: Mapping[str, Any]) -> pd.Series:
    return pd.to_datetime(values, errors="coerce")


def _trimmed(values: pd.Series, _: Mapping[str, Any]) -> pd.Series:
    return values.str.strip() if _is_text(values) else values


def _is_text(values: pd.Series) -> bool:
    return bool(types.is_string_dtype(values) or types.is_object_dtype(values))


_REFORMATS: Mapping[str, Callable[[pd.Series, Mapping[str, Any]], pd.Series]] = {
    "caps_standardization": _capitals,
    "currency_to_num": _numbers,
    "date_format_conversion": _times,
    "date_time_conversion": _times,
    "trim": _trimmed,
}


def impute(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Fill in what is missing, by the strategy that the options name."""
    strategy = str(step.options.get("strategy", ImputationStrategy.CONSTANT)).lower()
    if strategy == ImputationStrategy.NOOP:
        return df
    if strategy in ("sequential", "seq"):
        order = list(step.options.get("timeseries_cols") or ())
        df = df.sort_values(order, kind="stable") if order else df
    for name in step.columns:
        df[name] = _filled(df, name, strategy, step)
    return df


def _filled(df: pd.DataFrame, name: str, strategy: str, step: Step) -> pd.Series:
    values = df[name]
    match strategy:
        case "average":
            return values.fillna(values.mean())
        case "median":
            return values.fillna(values.median())
        case "mode":
            found = _mode(values)
            return values if found is None else values.fillna(found)
        case "sequential" | "seq":
            return values.ffill()
        case "random":
            there = values.dropna()
            drawn = there.sample(len(values), replace=True).set_axis(values.index) if len(there) else values
            return values.fillna(drawn)
        case "column":
            return values.fillna(df[step.options["value"]])
        case "constant" | "constants":
            return _filled_with(values, step.options.get("value"))
    known = ", ".join(sorted(ImputationStrategy))
    raise ActionRefused(f"the strategy {strategy!r} of an imputation is not known; use one of {known}")


def _filled_with(values: pd.Series, value: Any) -> pd.Series:
    """Fill in a constant, as a number where the column holds numbers; without one, a word or 0."""
    if types.is_numeric_dtype(values):
        return values.fillna(0 if value is None else pd.to_numeric(value))
    if types.is_datetime64_any_dtype(values):
        return values.fillna(pd.Timestamp(0) if value is None else pd.Timestamp(value))
    return values.fillna("missing" if value is None else value)
