"""Actions that choose and order rows."""

from __future__ import annotations

import re

import pandas as pd

from pipelines.mage.steps import ActionRefused, Step

_QUOTED = r"\"[^\"]*\"|'[^']*'"
_NULL = re.compile(rf"(?P<column>{_QUOTED}|\w+)\s*(?P<how>==|!=)\s*(?:null|None)\b")
_CONTAINS = re.compile(rf"(?P<column>{_QUOTED}|\w+)\s+(?P<no>not\s+)?contains\s+(?P<text>{_QUOTED}|\w+)")
_COMPARED = re.compile(rf"(?P<column>{_QUOTED})(?=\s*(?:==|!=|<=|>=|<|>))")


def drop_duplicates(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df.drop_duplicates(list(step.columns) or None, keep=step.options.get("keep", "last"))


def explode(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Give each item of a list a row of its own; texts are split at `separator`."""
    separator = step.options.get("separator")
    for name in step.columns:
        if separator is not None:
            df[name] = df[name].str.split(separator)
        df = df.explode(name, ignore_index=True)
    return df


def limit(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df.head(int(step.options.get("rows", step.options.get("limit", 10))))


def remove(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    return df.drop(index=list(step.options.get("rows") or ()))


def sort(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Sort by the columns; what is missing comes first in ascending order, and last in descending."""
    if not step.columns:
        return df
    ascending = bool(step.options.get("ascending", True))
    each = step.options.get("ascendings") or [ascending] * len(step.columns)
    return df.sort_values(
        list(step.columns),
        ascending=[bool(one) for one in each],
        na_position="first" if each[0] else "last",
        kind="stable",
    )


def select(df: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Keep the rows that a condition such as `age != null and name contains "a"` is true for."""
    if not step.code.strip():
        return df
    try:
        found: pd.DataFrame = df.query(query_of(df, step.code), engine="python")
    except Exception as error:  # pandas raises whatever its parser does
        raise ActionRefused(f"the condition {step.code!r} cannot be evaluated: {error}") from error
    return found


def query_of(df: pd.DataFrame, code: str) -> str:
    """Return Mage's condition as one of pandas."""

    def column(text: str) -> str:
        return f"`{text[1:-1]}`" if text[:1] in "\"'" else text

    def null(match: re.Match[str]) -> str:
        test = "isna" if match["how"] == "==" else "notna"
        return f"{column(match['column'])}.{test}()"

    def contains(match: re.Match[str]) -> str:
        text = match["text"] if match["text"][:1] in "\"'" else repr(match["text"])
        found = f"{column(match['column'])}.astype('str').str.contains({text}, regex=False, na=False)"
        return f"not {found}" if match["no"] else found

    def compared(match: re.Match[str]) -> str:
        return column(match["column"]) if match["column"][1:-1] in df.columns else match["column"]

    code = _CONTAINS.sub(contains, _NULL.sub(null, code))
    code = _COMPARED.sub(compared, code)
    code = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", code))
    return " ".join(code.split())
