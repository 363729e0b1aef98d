"""Calls of pandas 1 and 2 do in the code of Mage's projects what they did."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.mage.places import Places
from pipelines.mage.sources import compiled, is_of_mage


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fare": [1.0, None, 3.0],
            "zone": ["a", "a", "b"],
            "at": pd.to_datetime(["2024-01-01 05:30", "2024-01-31 06:10", "2024-02-01 07:59"]),
        }
    )


def value_of(expression: str, frame: pd.DataFrame, tmp_path: Path) -> Any:
    names: dict[str, Any] = {"df": frame, "pd": pd, "np": np}
    source = f"'doc'\nfrom __future__ import annotations\nimport io  # for mage_ai\nfound = {expression}\n"
    exec(compiled(source, str(tmp_path / "block.py"), Places(tmp_path)), names)
    return names["found"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("df['fare'].fillna(method='ffill').tolist()", [1, 1, 3]),
        ("df.fillna(method='bfill', limit=1)['fare'].tolist()", [1, 3, 3]),
        ("df[['zone']].applymap(str.upper)['zone'].tolist()", ["A", "A", "B"]),
        ("pd.to_datetime(['2024-01-02'], infer_datetime_format=True)[0].day", 2),
        ("pd.to_numeric(df['zone'], errors='ignore').tolist()", ["a", "a", "b"]),
        ("pd.to_numeric(pd.Series(['1']), errors='ignore').tolist()", [1]),
        ("df.drop(columns=['none'], errors='ignore').shape", (3, 3)),
        ("df.set_index('at')[['fare']].resample('M').sum()['fare'].tolist()", [1, 3]),
        ("df.groupby(pd.Grouper(key='at', freq='Q-DEC'))['fare'].sum().tolist()", [4]),
        ("[when.hour for when in pd.date_range('2024-01-01', periods=3, freq='2H')]", [0, 2, 4]),
        ("df['at'].dt.floor('15T').dt.minute.tolist()", [30, 0, 45]),
        ("df['at'].dt.to_period('M').astype(str).tolist()", ["2024-01", "2024-01", "2024-02"]),
        (
            "pd.read_csv(io.StringIO('a b\\n1  2'), delim_whitespace=True).to_dict('list')",
            {"a": [1], "b": [2]},
        ),
        ("pd.read_csv(io.StringIO('a,b\\n1,2\\n1,2,3\\n'), error_bad_lines=False).shape", (1, 2)),
        ("pd.DataFrame({'a': [1]}).to_csv(index=False, line_terminator=';')", "a;1;"),
        ("pd.read_json('[{\"a\": 1}]').to_dict('list')", {"a": [1]}),
        ("df.groupby('zone').apply(lambda group: group['zone'].iloc[0]).tolist()", ["a", "b"]),
        ("df.groupby('zone')['fare'].apply(len).tolist()", [2, 1]),
        ("df['fare'].apply(lambda fare: fare * 2).iloc[0]", 2),
        ("[column for column in df if df[column].dtype == 'object']", ["zone"]),
        ("[column for column in df if df[column].dtype != object]", ["fare", "at"]),
        ("[column for column in df if df.dtypes[column] == np.object_]", ["zone"]),
        ("list(df.dtypes[df.dtypes == 'O'].index)", ["zone"]),
        ("list(df.dtypes[df.dtypes != 'object'].index)", ["fare", "at"]),
        ("df['fare'].dtype == 'float64'", True),
        ("df['at'].astype('int64').tolist()[0] // 10**9", 1704087000),
        ("(df['at'].values.astype(np.int64) // 10**9).tolist()[0]", 1704087000),
        ("(df['at'] - df['at'][0]).astype(int).tolist()[1] // 10**9", 2594400),
        ("df['at'].dt.tz_localize('UTC').astype(int)[0] // 10**9", 1704087000),
        ("df['at'].astype('datetime64[s]').astype('int64').tolist()[0]", 1704087000),
        ("df['fare'].fillna(0).astype(int).tolist()", [1, 0, 3]),
        ("df.iloc[0][1]", "a"),
        ("df.iloc[0][-2]", "a"),
        ("str(df.dtypes[0])", "float64"),
        ("df['zone'].value_counts()[0]", 2),
        ("df[['fare', 'zone']].apply(lambda row: row[1], axis=1).tolist()", ["a", "a", "b"]),
        ("df['zone'][2]", "b"),
        ("df.iloc[1:]['zone'][1]", "a"),
        ("{1: 'x'}[1] + ['y'][-1]", "xy"),
        ("list(df.drop(columns=['at'], axis=1).columns)", ["fare", "zone"]),
        ("df.drop(index=[0], axis=0).shape", (2, 3)),
        ("list(df.drop('at', axis=1).columns)", ["fare", "zone"]),
        ("df.head(1)[['zone', 'fare']].to_csv(None, ';', index=False)", "zone;fare\na;1.0\n"),
        ("df.head(1)[['zone']].to_json(None, 'records')", '[{"zone":"a"}]'),
        ("str(np.NaN)", "nan"),
    ],
)
def test_call_does_what_it_did(expression: str, value: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    assert value_of(expression, frame, tmp_path) == value


@pytest.mark.parametrize(
    ("expression", "called"),
    [
        ("pd.read_gbq('SELECT 1', project_id='p')", (("SELECT 1",), {"project_id": "p"})),
        ("df[['zone']].head(1).to_gbq('a.b', if_exists='append').pop()", {"if_exists": "append"}),
        ("type('Client', (), {'read_gbq': staticmethod(len)}).read_gbq('abc')", 3),
    ],
)
def test_bigquery_is_reached_by_the_library_that_pandas_left_it_to(
    expression: str, called: Any, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ModuleType("pandas_gbq")
    library.read_gbq = lambda *given, **named: (given, named)  # type: ignore[attr-defined]
    library.to_gbq = lambda *given, **named: [*given, named]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas_gbq", library)

    assert value_of(expression, frame, tmp_path) == called


@pytest.mark.parametrize("expression", ["df.iloc[1:]['zone'][0]", "df[0]", "{1: 'x'}[0]"])
def test_label_that_is_not_there_is_still_an_error(
    expression: str, frame: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(KeyError):
        value_of(expression, frame, tmp_path)


def test_text_in_place_of_a_number_is_still_an_error(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unable to parse"):
        value_of("pd.to_numeric(df['zone'])", frame, tmp_path)


@pytest.mark.parametrize(
    ("source", "is_so"),
    [
        ("from mage_ai.io.file import FileIO", True),
        ("import pandas\n@transformer\ndef f(df): ...", True),
        ("from pipelines import transformer\n@transformer\ndef f(df): ...", False),
        ("import pipelines as p\n@p.transformer\ndef f(df): ...", False),
        ("def helper(): ...", False),
    ],
)
def test_code_for_mage_is_known(source: str, is_so: bool) -> None:
    assert is_of_mage(source) is is_so
