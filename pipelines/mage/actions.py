"""Transformer actions: `BaseAction(build_transformer_action(df, ...)).execute(df)`.

An action is a dictionary. What each type of action does to a frame is one function of `columnactions` or
`rowactions`; all of them give a new frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from pipelines.mage import columnactions, rowactions
from pipelines.mage.constants import ActionType, Axis
from pipelines.mage.steps import ActionRefused, Step

Do = Callable[[pd.DataFrame, Step], pd.DataFrame]

COLUMN_ACTIONS: Mapping[str, Do] = {
    ActionType.ADD: columnactions.add,
    ActionType.ADD_COLUMN: columnactions.add,
    ActionType.AVERAGE: columnactions.aggregate,
    ActionType.CLEAN_COLUMN_NAME: columnactions.clean_names,
    ActionType.COUNT: columnactions.aggregate,
    ActionType.COUNT_DISTINCT: columnactions.aggregate,
    ActionType.DIFF: columnactions.difference,
    ActionType.EXPLODE: rowactions.explode,
    ActionType.FIRST: columnactions.aggregate,
    ActionType.FIX_SYNTAX_ERRORS: columnactions.mark_syntax_errors,
    ActionType.IMPUTE: columnactions.impute,
    ActionType.LAST: columnactions.aggregate,
    ActionType.MAX: columnactions.aggregate,
    ActionType.MEDIAN: columnactions.aggregate,
    ActionType.MIN: columnactions.aggregate,
    ActionType.MODE: columnactions.aggregate,
    ActionType.NORMALIZE: columnactions.normalize,
    ActionType.REFORMAT: columnactions.reformat,
    ActionType.REMOVE: columnactions.remove,
    ActionType.REMOVE_COLUMN: columnactions.remove,
    ActionType.SCALE: columnactions.normalize,
    ActionType.SELECT: columnactions.select,
    ActionType.SHIFT_DOWN: columnactions.shift_down,
    ActionType.SHIFT_UP: columnactions.shift_up,
    ActionType.STANDARDIZE: columnactions.standardize,
    ActionType.SUM: columnactions.aggregate,
}
ROW_ACTIONS: Mapping[str, Do] = {
    ActionType.DROP_DUPLICATE: rowactions.drop_duplicates,
    ActionType.EXPLODE: rowactions.explode,
    ActionType.FILTER: rowactions.select,
    ActionType.LIMIT: rowactions.limit,
    ActionType.REMOVE: rowactions.remove,
    ActionType.SORT: rowactions.sort,
}


def build_transformer_action(
    df: pd.DataFrame,
    action_type: str,
    arguments: Iterable[str] | None = None,
    action_code: str = "",
    options: Mapping[str, Any] | None = None,
    axis: str = Axis.COLUMN,
    outputs: Iterable[Mapping[str, Any]] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Return what `BaseAction` takes."""
    return {
        "action_type": str(action_type),
        "action_arguments": list(arguments) if arguments is not None else [],
        "action_code": action_code,
        "action_options": dict(options or {}),
        "axis": str(axis),
        "outputs": [dict(output) for output in outputs or ()],
    }


class BaseAction:
    """One action, ready to be done to frames."""

    def __init__(self, action: Mapping[str, Any]) -> None:
        self.action = action
        self._step = Step(
            type=str(action.get("action_type", "")).lower(),
            columns=tuple(action.get("action_arguments") or ()),
            code=str(action.get("action_code") or ""),
            options=dict(action.get("action_options") or {}),
            outputs=tuple(str(output["uuid"]) for output in action.get("outputs") or ()),
        )
        self._do = _action(self._step.type, str(action.get("axis") or Axis.COLUMN).lower())

    def execute(self, df: pd.DataFrame, **_: Any) -> pd.DataFrame:
        """Return a changed copy of the frame. Raises ActionRefused."""
        missing = [name for name in self._step.columns if name not in df.columns]
        if missing:
            there = ", ".join(map(str, df.columns))
            raise ActionRefused(
                f"the action {self._step.type!r} names {', '.join(map(repr, missing))}, which the frame does "
                f"not have (its columns are {there})"
            )
        return self._do(df.copy(), self._step)


def _action(name: str, axis: str) -> Do:
    first, second = (ROW_ACTIONS, COLUMN_ACTIONS) if axis == Axis.ROW else (COLUMN_ACTIONS, ROW_ACTIONS)
    found = first.get(name) or second.get(name)
    if found is None:
        known = ", ".join(sorted({*COLUMN_ACTIONS, *ROW_ACTIONS}))
        raise ActionRefused(
            f"the action {name!r} is not done here; write it with pandas in the block (there are {known})"
        )
    return found
