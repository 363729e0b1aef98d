"""Names of tables, columns and labels as BigQuery wants them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.io.errors import ExportRefused, QueryFailed
from pipelines.io.sqltext import Relation

_FORBIDDEN = re.compile(r"""[!"$()*,./;?@\[\\\]^`{}~\x00-\x1f]""")
_RESERVED = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")
_MOST_CHARACTERS = 300


def quoted(name: str) -> str:
    """Return a name as a quoted identifier."""
    if not name or "\0" in name:
        raise QueryFailed(f"{name!r} cannot be the name of a table or column")
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quoted_list(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


@dataclass(frozen=True, slots=True)
class Table(Relation):
    """A table in a dataset; the schema is `dataset` or `project.dataset`."""

    @property
    def sql(self) -> str:
        return quoted(f"{self.schema}.{self.name}")


def table_of(schema: str | None, name: str | None, default: str) -> Table:
    """Return the table of a dataset and a name, or of one text: `dataset.table`, `project.dataset.table`."""
    if not name:
        dataset, _, name = (schema or "").rpartition(".")
    elif "." in name and not schema:
        dataset, _, name = name.rpartition(".")
    else:
        dataset = schema or ""
    if not name:
        raise ExportRefused("export() needs table_name, or one text such as 'dataset.table': where to write")
    if not (dataset or default):
        raise ExportRefused(
            f"the table {name!r} is named without a dataset: name one, "
            "or set GOOGLE_BIGQUERY_DATASET in the profile"
        )
    return Table(dataset or default, name)


class ColumnNames(StrEnum):
    """What becomes of the names of columns."""

    KEEP = "keep"  # as they are; those that BigQuery does not take are refused
    CLEAN = "clean"  # letters, digits and `_`, in small letters


def column_names(names: Sequence[str], how: str) -> list[str]:
    """Return the names of a frame's columns as the table has them. ExportRefused names one that cannot be."""
    if how not in list(ColumnNames):
        raise ExportRefused(f"column_names={how!r} is not known; use one of 'keep', 'clean'")
    wanted = [_cleaned(name) for name in names] if how == ColumnNames.CLEAN else list(names)
    for name in wanted:
        _check(name)
    folded = [name.casefold() for name in wanted]
    doubles = sorted({repr(name) for name in wanted if folded.count(name.casefold()) > 1})
    if doubles:
        raise ExportRefused(
            f"the columns {', '.join(doubles)} have one name for BigQuery, which takes no notice of case; "
            "rename one of them"
        )
    return wanted


def _cleaned(name: str) -> str:
    clean = re.sub(r"\W", "_", name).lower()
    return f"_{clean}" if clean[:1].isdigit() else clean


def _check(name: str) -> None:
    found = _FORBIDDEN.search(name)
    trouble = ""
    if found:
        trouble = f"may not hold {found[0]!r}"
    elif not name or len(name) > _MOST_CHARACTERS:
        trouble = f"must have 1 to {_MOST_CHARACTERS} characters"
    elif name.lower().startswith(_RESERVED):
        trouble = "begins with a word that BigQuery keeps for itself"
    if trouble:
        raise ExportRefused(
            f"the column name {name!r} {trouble}: rename the column, or export with column_names='clean'"
        )


def label(value: str) -> str:
    """Return a text as the value of a label: small letters, digits, `_` and `-`, at most 63."""
    return re.sub(r"[^\w-]", "_", value.lower())[:63]
