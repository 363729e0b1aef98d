"""Data checks: what a block's YAML says must hold of its tables, judged by pandera before they are handed on.

All checks of a block are judged, and what failed is told together. A stream is looked at a batch at a time:
what concerns single rows batch by batch, what concerns the whole of it at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, MillraceError
from pipelines.io.frames import is_list_of_mappings, to_arrow, to_pandas
from pipelines.io.sqltext import quoted
from pipelines.model import CheckKind, DataCheck
from pipelines.streams import Stream

MAX_SAMPLES = 3  # values shown of those that failed

_NO_PANDERA = "the checks of block {!r} need pandera, which is not installed; install the extra `checks`"


class ChecksFailed(MillraceError):
    """A table of a block does not keep what the block's checks ask for."""


def check_outputs(context: BlockContext, outputs: Sequence[Any]) -> None:
    """Judge every table among the outputs; log what failed with `severity: warning`, raise for the others.

    Raises ChecksFailed with every check that failed, and BlockCodeError where there is no table to look at.
    """
    pandera = _pandera(context)
    tables = [frames for output in outputs if (frames := _frames(output)) is not None]
    if not tables:
        raise BlockCodeError(
            f"block {context.block.name!r} has checks, but returned no table for them to look at; return a "
            f"DataFrame, or take its `checks` away"
        )
    failed = []
    for number, frames in enumerate(tables, start=1):
        where = f"table {number}: " if len(tables) > 1 else ""
        for verdict in _judged(context, pandera, frames):
            log = context.logger.warning if verdict.check.is_warning else context.logger.error
            log("check %s%s", where, verdict)
            if not verdict.check.is_warning:
                failed.append(f"{where}{verdict}")
    if failed:
        raise ChecksFailed(f"{len(failed)} of its checks failed: {'; '.join(failed)}")


def _pandera(context: BlockContext) -> Any:
    try:
        import pandera.pandas
    except ImportError:
        raise BlockCodeError(_NO_PANDERA.format(context.block.name)) from None
    return pandera.pandas


# --- tables ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frames:
    """A table as one frame or several of them, and as one in Arrow."""

    parts: Callable[[], Iterable[pd.DataFrame]]
    reader: Callable[[], pa.RecordBatchReader]
    is_whole: bool  # there is one part


def _frames(output: Any) -> _Frames | None:
    """Return an output as frames; None when it is no table."""
    if isinstance(output, Stream):
        return _Frames(lambda: iter(output), output.reader, is_whole=False)
    if isinstance(output, pd.Series):
        output = output.to_frame("value" if output.name is None else output.name)
    if isinstance(output, pd.DataFrame):
        frame = output
    elif isinstance(output, pa.Table | pa.RecordBatch) or hasattr(output, "__arrow_c_stream__"):
        frame = to_pandas(to_arrow(output))
    elif is_list_of_mappings(output):
        frame = pd.DataFrame(output)
    else:
        return None
    return _Frames(lambda: [frame], lambda: to_arrow(frame).to_reader(), is_whole=True)


# --- judging -----------------------------------------------------------------------------------------------


@dataclass
class _Verdict:
    """What was found against one check."""

    check: DataCheck
    bad: int = 0  # rows
    rows: int = 0  # looked at
    samples: list[str] = field(default_factory=list)
    faults: dict[str, None] = field(default_factory=dict)  # sentences that concern no single row

    @property
    def has_failed(self) -> bool:
        return self.bad > 0 or bool(self.faults)

    def __str__(self) -> str:
        told = list(self.faults)
        if self.bad:
            samples = f", such as {', '.join(self.samples)}" if self.samples else ""
            told.insert(0, f"{self.bad} of {self.rows} rows{samples}")
        return f"{_title(self.check)}: {', '.join(told)}"


def _title(check: DataCheck) -> str:
    if check.kind is CheckKind.SCHEMA:
        return check.kind.value
    bounds = [f"{key} {check.options[key]}" for key in ("min", "max") if key in check.options]
    return f"{check.kind}({', '.join([*check.columns, *bounds])})"


def _judged(context: BlockContext, pandera: Any, frames: _Frames) -> Iterator[_Verdict]:
    """Yield the checks that failed."""
    verdicts = [_Verdict(check) for check in context.block.checks]
    newest: dict[str, Any] = {}
    for part in frames.parts():
        frame = part.reset_index(drop=True)
        for verdict in verdicts:
            if verdict.check.kind is CheckKind.FRESHNESS:
                _take_newest(verdict, frame, newest)
            elif verdict.check.kind is not CheckKind.UNIQUE or frames.is_whole:
                _validate(verdict, frame, pandera)
            verdict.rows += len(frame)
    for verdict in verdicts:
        if verdict.check.kind is CheckKind.ROW_COUNT:
            _count(verdict)
        elif verdict.check.kind is CheckKind.FRESHNESS:
            _compare_newest(verdict, newest, _reference(context, verdict.check))
        elif verdict.check.kind is CheckKind.UNIQUE and not frames.is_whole:
            _find_doubles(verdict, frames.reader())
    yield from (verdict for verdict in verdicts if verdict.has_failed)


def _validate(verdict: _Verdict, frame: pd.DataFrame, pandera: Any) -> None:
    """Let pandera judge one frame."""
    schema = _schema(verdict.check, frame, pandera)
    if schema is None:
        return
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        _take_cases(verdict, frame, error.failure_cases)


def _take_cases(verdict: _Verdict, frame: pd.DataFrame, cases: pd.DataFrame) -> None:
    """Count the rows that pandera found, and keep what it found beside rows."""
    of_rows = cases[cases["index"].notna()]
    verdict.bad += of_rows["index"].nunique()
    for row in of_rows["index"].drop_duplicates().head(MAX_SAMPLES - len(verdict.samples)):
        verdict.samples.append(_sample(verdict, frame, int(row)))
    for _, case in cases[cases["index"].isna()].iterrows():
        verdict.faults[_fault(verdict.check, frame, case)] = None


def _sample(verdict: _Verdict, frame: pd.DataFrame, row: int) -> str:
    if verdict.check.kind is CheckKind.NOT_NULL:
        return f"row {verdict.rows + row}"
    values = [frame[column].iloc[row] for column in verdict.check.columns]
    return repr(_plain(values[0])) if len(values) == 1 else repr(tuple(map(_plain, values)))


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def _fault(check: DataCheck, frame: pd.DataFrame, case: pd.Series[Any]) -> str:
    if case["check"] == "column_in_dataframe":
        return f"there is no column {case['failure_case']!r}"
    if case["check"] == "column_in_schema":
        return f"the column {case['failure_case']!r} is not expected"
    if check.kind is CheckKind.SCHEMA and case["column"] in frame:
        return f"{case['column']!r} is {_type_of(frame[case['column']])}, not {case['check']}"
    if check.kind is CheckKind.RANGE and case["column"] in frame:
        return (
            f"{case['column']!r} is {_type_of(frame[case['column']])}, and cannot be compared with its bounds"
        )
    return str(case["failure_case"])


# --- as pandera's schemas ---------------------------------------------------------------------------------


def _schema(check: DataCheck, frame: pd.DataFrame, pandera: Any) -> Any:
    """Return a check as a schema of pandera; None for one that says nothing of single frames."""
    if check.kind is CheckKind.NOT_NULL:
        return pandera.DataFrameSchema({name: pandera.Column(nullable=False) for name in check.columns})
    if check.kind is CheckKind.UNIQUE:
        columns = {name: pandera.Column(nullable=True) for name in check.columns}
        return pandera.DataFrameSchema(columns, unique=list(check.columns), report_duplicates="exclude_first")
    if check.kind is CheckKind.SCHEMA:
        return _types_schema(check.options, pandera)
    if check.kind in (CheckKind.RANGE, CheckKind.SET):
        (name,) = check.columns
        rules = _rules(check, frame[name] if name in frame else pd.Series(dtype=object), pandera)
        return pandera.DataFrameSchema({name: pandera.Column(nullable=True, checks=rules)})
    return None


def _rules(check: DataCheck, column: pd.Series[Any], pandera: Any) -> list[Any]:
    options = check.options
    if check.kind is CheckKind.SET:
        return [pandera.Check.isin([_comparable(value, column) for value in options["values"]])]
    makers = {"min": pandera.Check.ge, "max": pandera.Check.le}
    return [make(_comparable(options[key], column)) for key, make in makers.items() if key in options]


def _comparable(value: Any, column: pd.Series[Any]) -> Any:
    """Return a value of YAML as what pandas compares with the column's values."""
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        return value
    moment = pd.Timestamp(value)
    zone = getattr(column.dtype, "tz", None)
    if zone is None:
        return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    return moment.tz_convert(zone) if moment.tzinfo else moment.tz_localize(zone)


def _types_schema(options: Mapping[str, Any], pandera: Any) -> Any:
    columns = {
        name: pandera.Column(
            nullable=True,
            required=name not in options["optional"],
            checks=pandera.Check(_has_type(kind), name=kind),
        )
        for name, kind in options["types"].items()
    }
    return pandera.DataFrameSchema(columns, strict=not options["extra"])


def _has_type(kind: str) -> Callable[[pd.Series[Any]], bool]:
    def has_type(column: pd.Series[Any]) -> bool:
        found = _type_of(column)
        return kind in ("any", found) or found == "empty" or (kind == "number" and found in _NUMBERS)

    return has_type


_NUMBERS = ("int", "float", "decimal")
# What pandas calls a column of objects -> our word, where they differ.
_INFERRED = {"integer": "int", "floating": "float", "boolean": "bool", "datetime64": "datetime"}


def _type_of(column: pd.Series[Any]) -> str:
    """Return the type of a column in our words; "empty" where nothing tells it."""
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _type_of(pd.Series(column.cat.categories))
    for name, is_it in (
        ("bool", types.is_bool_dtype),
        ("int", types.is_integer_dtype),
        ("float", types.is_float_dtype),
        ("datetime", types.is_datetime64_any_dtype),
    ):
        if is_it(column.dtype):
            return name
    there = column.dropna()
    kinds = {type(value) for value in there.head(100)}
    if kinds in ({dict}, {list}):
        return kinds.pop().__name__
    inferred = str(types.infer_dtype(there, skipna=True))
    return _INFERRED.get(inferred, inferred)


# --- of the whole table -----------------------------------------------------------------------------------


def _count(verdict: _Verdict) -> None:
    least, most = verdict.check.options.get("min"), verdict.check.options.get("max")
    if (least is not None and verdict.rows < least) or (most is not None and verdict.rows > most):
        verdict.faults[f"the table has {verdict.rows} rows"] = None


def _find_doubles(verdict: _Verdict, rows: pa.RecordBatchReader) -> None:
    """Count the rows of a stream whose key was there before; DuckDB goes to the disk where it must."""
    missing = [name for name in verdict.check.columns if name not in rows.schema.names]
    if missing:
        verdict.faults.update({f"there is no column {name!r}": None for name in missing})
        return
    import duckdb  # only here, so that no other run waits for it

    keys = ", ".join(map(quoted, verdict.check.columns))
    with duckdb.connect() as connection:
        connection.register("stream_rows", rows)
        connection.execute(
            f"CREATE TEMP TABLE doubles AS SELECT {keys}, count(*) AS times FROM stream_rows "
            f"GROUP BY {keys} HAVING count(*) > 1"
        )
        found = connection.execute("SELECT coalesce(sum(times - 1), 0) FROM doubles").fetchone()
        samples = connection.execute(f"SELECT {keys} FROM doubles LIMIT {MAX_SAMPLES}").fetchall()
    verdict.bad = int(found[0]) if found else 0
    verdict.samples = [repr(values[0] if len(values) == 1 else values) for values in samples]


def _take_newest(verdict: _Verdict, frame: pd.DataFrame, newest: dict[str, Any]) -> None:
    (name,) = verdict.check.columns
    if name not in frame:
        verdict.faults[f"there is no column {name!r}"] = None
        return
    there = frame[name].dropna()
    if len(there):
        newest[name] = max(newest.get(name, there.max()), there.max())


def _compare_newest(verdict: _Verdict, newest: Mapping[str, Any], reference: datetime) -> None:
    (name,) = verdict.check.columns
    if verdict.faults:
        return
    if name not in newest:
        verdict.faults["there is no value that is not null"] = None
        return
    moment = _moment(newest[name])
    if moment is None:
        verdict.faults[f"{newest[name]!r} is no moment in time"] = None
    elif reference - moment > timedelta(seconds=verdict.check.options["within"]):
        verdict.faults[f"the newest is {moment.isoformat()}, {_age(reference - moment)} old"] = None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None


def _age(age: timedelta) -> str:
    return f"{age.days} days" if age.days else f"{age.total_seconds() / 3600:.1f} hours"


def _reference(context: BlockContext, check: DataCheck) -> datetime:
    if check.options["of"] == "execution_date":
        moment: datetime = context.keywords["execution_date"]
        return moment
    return datetime.now(UTC)
