"""The page on connectors names every key, option, format and error that the code has, and no other."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from pipelines import io
from pipelines.io import CONNECTORS, errors
from pipelines.io.base import Connector, IfExists, OnConflict
from pipelines.io.bigquery.orders import Layout
from pipelines.io.config import Profile, check_profiles
from pipelines.io.files.formats import FORMATS
from pipelines.io.frames import FrameKind
from pipelines.io.objects.connector import ObjectConnector
from pipelines.io.sqlconnector import SqlConnector
from pipelines.parse_fields import Findings
from tests.architecture.floors import ROOT
from tests.pipelines.io.harnesses import HARNESSES
from tests.pipelines.io.projects import running_block
from tests.pipelines.io.test_conformance import COLUMNS

PAGE = (ROOT / "docs" / "connectors.md").read_text("utf-8")
_FENCE = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_WORD = re.compile(r"`(\w+)`")
SECTIONS = dict(zip(_SECTION.split(PAGE)[1::2], _SECTION.split(PAGE)[2::2], strict=True))

# What a profile must have, for the code to read all the others.
GIVEN = {
    "POSTGRES_HOST": "localhost", "POSTGRES_DBNAME": "shop", "POSTGRES_USER": "me", "DUCKDB_DATABASE": "w",
    "SQLITE_DATABASE": "w", "MYSQL_HOST": "localhost", "MYSQL_DATABASE": "shop", "MYSQL_USER": "me",
    "SQLALCHEMY_URL": "sqlite://",
}  # fmt: skip
# Rows of the table of types, and the columns of the suite that they speak of.
TYPES = {
    "whole numbers, some missing": ["whole"],
    "infinite numbers": ["endless"],
    "decimals": ["money"],
    "moments with a zone": ["moment_somewhere"],
    "moments without a zone": ["moment"],
    "dates, times of day, booleans, texts": ["day", "hour", "yes_or_no", "text", "real"],
    "bytes": ["raw"],
    "dictionaries, lists": ["facts"],
    "UUIDs": ["id"],
    "durations": ["span"],
}


def connector(name: str) -> type[Connector]:
    found: type[Connector] = getattr(io, name)
    return found


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose first column has that head, row by row."""
    lines = text[text.index(f"| {head} |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


class Recorded(Profile):
    """A profile that notes which keys are asked for, with the defaults of numbers."""

    asked: dict[str, float | None]

    def __getitem__(self, key: str) -> Any:
        self.asked.setdefault(key, None)
        return super().__getitem__(key)

    def number(self, key: str, default: float) -> float:
        self.asked[key] = default
        return super().number(key, default)

    def require(self, key: str) -> Any:
        self.asked.setdefault(key, None)
        return super().require(key)


def keys_read_by(name: str, root: Path) -> dict[str, float | None]:
    profile = Recorded.of_values(GIVEN, root=root)
    profile.asked = {}
    connector(name).from_profile(profile)
    return profile.asked


@pytest.mark.parametrize("name", CONNECTORS)
def test_keys_of_a_profile_are_those_that_its_connector_reads(name: str, tmp_path: Path) -> None:
    rows = table(SECTIONS[name], "key")[2:]
    told = {key: default for keys, _, default in rows for key in _WORD.findall(keys)}
    read = keys_read_by(name, tmp_path)

    assert told.keys() == read.keys()
    numbers = {key: f"{default:g}" for key, default in read.items() if default is not None}
    assert {key: told[key].partition(":")[0] for key in numbers} == numbers


def test_each_connector_is_in_the_table_and_each_method() -> None:
    assert {name for row in table(PAGE, "connector")[2:] for name in _WORD.findall(row[0])} == set(CONNECTORS)
    assert {row[0].strip("`") for row in table(PAGE, "method")[2:]} == {"load", "stream", "export", "execute"}


KINDS = {
    "all": lambda kind: True,
    "databases": lambda kind: issubclass(kind, SqlConnector),
    "objects": lambda kind: issubclass(kind, ObjectConnector),
    "files and objects": lambda kind: not issubclass(kind, SqlConnector),
}


def options_told(section: str) -> set[tuple[str, str]]:
    """Return (connector, option) for each row of the table of options below that heading."""
    text = PAGE.partition(f"### {section}\n")[2]
    return {
        (name, option)
        for options, of, *_ in table(text, "option")[2:]
        for option in _WORD.findall(options)
        for name in CONNECTORS
        if (KINDS[of](connector(name)) if of in KINDS else name in _WORD.findall(of))
    }


def options_of(*methods: str) -> set[tuple[str, str]]:
    """Return (connector, option) for what has a default in the methods, the place aside."""
    return {
        (name, parameter.name)
        for name in CONNECTORS
        for method in methods
        for parameter in inspect.signature(getattr(connector(name), method)).parameters.values()
        if parameter.default is not parameter.empty and parameter.name != "object_key" * (method != "export")
    }


def test_options_are_those_of_the_methods() -> None:
    assert options_told("Options of load and stream") == options_of("load", "stream")
    layout = {("BigQuery", name) for name in Layout.__dataclass_fields__}
    assert options_told("Options of export") == options_of("export") | layout


def test_words_are_those_that_the_code_takes() -> None:
    policies = table(SECTIONS["What happens to what is there"], "`if_exists`")[2:]
    assert [row[0].strip("`") for row in policies] == [one.value for one in IfExists]
    words = {*(one.value for one in OnConflict), *get_args(FrameKind), *FORMATS}
    assert [word for word in words if f"`{word}`" not in PAGE] == []
    endings = {ending for kind in FORMATS.values() for ending in kind.endings}
    assert set(re.findall(r"`(\.\w+)`", SECTIONS["Files"])) == endings | {".gz", ".zst"}


def test_errors_are_those_of_the_module() -> None:
    told = {row[0].strip("`") for row in table(SECTIONS["Errors"], "error")[2:]}

    assert told | {"ConnectorError"} == {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__module__ == errors.__name__
    }


def test_types_are_told_as_the_suite_finds_them() -> None:
    (_, *heads), _, *rows = table(SECTIONS["Types"], "value")
    assert [row[0] for row in rows] == list(TYPES)
    assert {name for names in TYPES.values() for name in names} == set(COLUMNS)
    for label, *cells in rows:
        for head, cell in zip(heads, cells, strict=True):
            for name in ("Files", "GoogleCloudStorage", "S3") if head == "Parquet" else (head,):
                harness = HARNESSES[name]
                assert (cell == "refused") == bool(set(TYPES[label]) & set(harness.refuses)), (label, head)
                if set(TYPES[label]) & set(harness.changes):
                    assert "as text" in cell, (label, head)


SNIPPETS = [(path, text) for language, path, text in _FENCE.findall(PAGE) if language == "python"]


@pytest.mark.parametrize(("path", "text"), SNIPPETS, ids=[path for path, _ in SNIPPETS])
def test_calls_of_a_snippet_fit_what_they_call(path: str, text: str) -> None:
    tree = ast.parse(text)
    made = dict(_variables(tree))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bound = 0

    for call in calls:
        if not isinstance(call.func, ast.Attribute):
            continue
        kind = _made_by(call.func.value) or made.get(getattr(call.func.value, "id", ""))
        if kind is not None:
            values = {keyword.arg: None for keyword in call.keywords if keyword.arg}
            method = inspect.signature(getattr(kind, call.func.attr))
            method.bind(None, *[None] * len(call.args), **values)
            bound += 1

    assert bound >= 3


def _variables(tree: ast.Module) -> Iterator[tuple[str, type[Connector]]]:
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(node, ast.With):
            pairs = [(item.context_expr, item.optional_vars) for item in node.items]
        if isinstance(node, ast.Assign):
            pairs = [(node.value, node.targets[0])]
        for value, target in pairs:
            kind = _made_by(value)
            if kind is not None and isinstance(target, ast.Name):
                yield target.id, kind


def _made_by(value: ast.expr) -> type[Connector] | None:
    """Return the connector that `Name.from_profile(...)` makes."""
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="from_profile")) if name in CONNECTORS:
            return connector(name)
    return None


def test_profiles_of_the_page_have_no_faults() -> None:
    (text,) = (text for _, path, text in _FENCE.findall(PAGE) if path == "io_config.yaml")
    findings = Findings("io_config.yaml")

    assert check_profiles(text, findings) == ("default", "warehouse", "google")
    assert findings.problems == []


def test_snippets_on_local_systems_run(tmp_path: Path) -> None:
    for _, path, text in _FENCE.findall(PAGE):
        (tmp_path / Path(path).name).write_text(text)
    orders = pd.DataFrame({"id": [1, 2], "amount": [5, 0]})

    with running_block(tmp_path):
        counted = function_of(tmp_path / "orders_to_warehouse.py")(orders)
        written = function_of(tmp_path / "months_to_lake.py")()

    assert counted["orders"].tolist() == [1]
    assert written == 12
    assert sorted(pd.read_csv(tmp_path / "lake" / "all_months.csv.gz")["month"]) == list(range(1, 13))


def function_of(path: Path) -> Callable[..., Any]:
    function: Callable[..., Any] = runpy.run_path(str(path))[path.stem]
    return function
