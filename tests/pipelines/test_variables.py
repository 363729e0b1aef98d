"""Inputs are checked at the door, variables merge in order, and blocks get what the design says."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from pipelines.model import Block, BlockType, Input, InputType, Pipeline
from pipelines.variables import InputError, RunFacts, block_keywords, check_inputs, merged_variables

BLOCK = Block("load", BlockType.DATA_LOADER, "python", "data_loaders/load.py", configuration={"a": 1})
MONTH = Input("month", InputType.DATE, required=True, description="which month")


def pipeline(*inputs: Input, **variables: Any) -> Pipeline:
    return Pipeline("taxi", "pipelines/taxi/metadata.yaml", (BLOCK,), variables=variables, inputs=inputs)


@pytest.mark.parametrize(
    ("kind", "given", "stored", "seen"),
    [
        (InputType.STRING, "a", "a", "a"),
        (InputType.STRING, 7, "7", "7"),
        (InputType.INTEGER, "7", 7, 7),
        (InputType.INTEGER, 7.0, 7, 7),
        (InputType.NUMBER, "1.5", 1.5, 1.5),
        (InputType.BOOLEAN, "true", True, True),
        (InputType.DATE, "2024-01-31", "2024-01-31", date(2024, 1, 31)),
        (InputType.DATE, "2024-01-31T10:00:00Z", "2024-01-31", date(2024, 1, 31)),
        (
            InputType.DATETIME,
            "2024-01-31T10:00:00+02:00",
            "2024-01-31T08:00:00Z",
            datetime(2024, 1, 31, 8, tzinfo=UTC),
        ),
        (InputType.DATETIME, "2024-01-31", "2024-01-31T00:00:00Z", datetime(2024, 1, 31, tzinfo=UTC)),
        (InputType.OBJECT, '{"a": 1}', {"a": 1}, {"a": 1}),
        (InputType.LIST, [1, 2], [1, 2], [1, 2]),
    ],
)
def test_typed_input_is_stored_as_json_and_seen_as_python(
    kind: InputType, given: Any, stored: Any, seen: Any
) -> None:
    declared = pipeline(Input("x", kind))

    checked = check_inputs(declared, {"x": given})

    assert json.loads(json.dumps(checked)) == {"x": stored}
    assert merged_variables(declared, checked)["x"] == seen


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (InputType.STRING, {"a": 1}),
        (InputType.INTEGER, "seven"),
        (InputType.INTEGER, 7.5),
        (InputType.INTEGER, True),
        (InputType.INTEGER, "9" * 10_000),
        (InputType.NUMBER, "nan"),
        (InputType.BOOLEAN, "perhaps"),
        (InputType.DATE, "2024-02-30"),
        (InputType.DATE, 20240101),
        (InputType.DATETIME, "yesterday"),
        (InputType.OBJECT, "[1]"),
        (InputType.LIST, "{"),
        (InputType.LIST, "[" * 200_000),
        (InputType.OBJECT, '{"a": NaN}'),
        (InputType.INTEGER, Decimal("1.5")),
        (InputType.INTEGER, float("inf")),
    ],
)
def test_wrong_value_is_refused(kind: InputType, given: Any) -> None:
    with pytest.raises(InputError, match="input 'x' must be"):
        check_inputs(pipeline(Input("x", kind)), {"x": given})


def test_all_wrong_inputs_are_told_together() -> None:
    declared = pipeline(
        MONTH, Input("n", InputType.INTEGER), Input("c", InputType.STRING, choices=("red", "blue"))
    )

    with pytest.raises(InputError) as refused:
        check_inputs(declared, {"n": "x", "c": "green"})

    assert refused.value.problems == (
        "input 'month' (which month) is required: give a date",
        "input 'n' must be a whole number, not 'x'",
        "input 'c' must be one of red, blue, not 'green'",
    )


def test_names_that_are_no_inputs_pass_as_they_are() -> None:
    assert check_inputs(pipeline(), {"anything": {"a": [1]}}) == {"anything": {"a": [1]}}


def test_required_input_is_met_by_a_variable_of_the_pipeline() -> None:
    declared = pipeline(MONTH, month="2024-01-01")

    assert check_inputs(declared, {}) == {}
    assert merged_variables(declared, {})["month"] == date(2024, 1, 1)


def test_later_variables_win() -> None:
    declared = pipeline(
        Input("a", InputType.INTEGER, default=1),
        Input("b", InputType.INTEGER, default=1),
        Input("c", InputType.INTEGER, default=1),
        Input("d", InputType.STRING),
        b=2,
        c=2,
        e="mage",
    )

    assert merged_variables(declared, {"c": "3", "f": 4}) == {
        "a": 1,
        "b": 2,
        "c": 3,
        "d": None,
        "e": "mage",
        "f": 4,
    }


def facts(**changes: Any) -> RunFacts:
    given: dict[str, Any] = {
        "run_id": "r1",
        "project": "shop",
        "pipeline": "taxi",
        "trigger": "nightly",
        "execution_date": datetime(2024, 3, 9, 23, 30, tzinfo=UTC),
    }
    return RunFacts(**(given | changes))


def test_block_receives_the_facts_of_its_run() -> None:
    start, end = datetime(2024, 3, 9, 23, 30, tzinfo=UTC), datetime(2024, 3, 10, 0, 30, tzinfo=UTC)

    keywords = block_keywords(
        facts(timezone="Europe/Berlin", interval_start=start, interval_end=end, attempt=2, event={"id": "e"}),
        BLOCK,
        {"color": "yellow"},
    )

    assert keywords["color"] == "yellow"
    assert (keywords["ds"], keywords["hr"], keywords["ds_local"], keywords["hr_local"]) == (
        "2024-03-09",
        "23",
        "2024-03-10",
        "00",
    )
    assert keywords["execution_date_local"].isoformat() == "2024-03-10T00:30:00+01:00"
    assert (keywords["interval_start_datetime"], keywords["interval_end_datetime"]) == (start, end)
    assert keywords["interval_seconds"] == 3600
    assert keywords["execution_partition"] == "nightly/20240309T233000"
    assert (keywords["run_id"], keywords["attempt"], keywords["trigger_name"]) == ("r1", 2, "nightly")
    assert (keywords["pipeline_uuid"], keywords["block_uuid"], keywords["env"]) == ("taxi", "load", "prod")
    assert (keywords["event"], keywords["configuration"]) == ({"id": "e"}, {"a": 1})


def test_variables_never_hide_what_the_run_itself_says() -> None:
    keywords = block_keywords(facts(), BLOCK, {"run_id": "mine", "ds": "never", "block_uuid": "other"})

    assert (keywords["run_id"], keywords["ds"], keywords["block_uuid"]) == ("r1", "2024-03-09", "load")


def test_run_without_interval_and_event_still_has_their_names() -> None:
    keywords = block_keywords(facts(trigger=None), BLOCK, {})

    assert keywords["interval_start_datetime"] is None
    assert keywords["event"] == {}
    assert keywords["execution_partition"] == "taxi/20240309T233000_000000"
