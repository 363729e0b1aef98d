"""BigQuery: `mage_ai.io.bigquery`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import pandas as pd

from pipelines import io
from pipelines.io.errors import ConnectorError
from pipelines.mage.formats import BaseIO
from pipelines.mage.profiles import BaseConfigLoader, ConfigFileLoader
from pipelines.mage.repository import absolute


class BigQuery(BaseIO):
    """Reads and writes tables of BigQuery, by the keys of a profile."""

    def __init__(self, *, config: BaseConfigLoader | None = None, **settings: Any) -> None:
        self._connector = io.BigQuery.from_profile((config or ConfigFileLoader(config=settings)).settings)

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **_: Any) -> Self:
        return cls(config=config)

    @classmethod
    def with_credentials_file(cls, path_to_credentials: str | os.PathLike[str], **_: Any) -> Self:
        return cls(GOOGLE_SERVICE_ACC_KEY_FILEPATH=str(absolute(path_to_credentials)))

    @classmethod
    def with_credentials_object(cls, credentials: Any, **_: Any) -> Self:
        return cls(GOOGLE_SERVICE_ACC_KEY=credentials)

    @property
    def client(self) -> Any:
        """Google's own client, connected as the profile says. It stays open until the run's process ends."""
        return self._connector.client()

    def __enter__(self) -> Self:
        self._connector.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._connector.__exit__(*error)

    def load(
        self,
        query_string: str,
        limit: int | None = None,
        display_query: str | None = None,
        verbose: bool = True,
        **_: Any,
    ) -> pd.DataFrame:
        """Return the rows of a query."""
        found: pd.DataFrame = self._connector.load(query_string, limit=limit)
        return found

    def execute(self, query_string: str, **_: Any) -> None:
        """Run statements, and wait for their end."""
        self._connector.execute(query_string)

    def sample(self, schema: str, table: str, size: int = 10_000_000, **_: Any) -> pd.DataFrame:
        return self.load(f"SELECT * FROM `{schema}.{table}`", limit=size)

    def export(
        self,
        df: Any,
        table_id: str,
        database: str | None = None,
        if_exists: str = "replace",
        overwrite_types: dict[str, str] | None = None,
        query_string: str | None = None,
        verbose: bool = True,
        unique_conflict_method: str | None = None,
        unique_constraints: Sequence[str] | None = None,
        write_disposition: str | None = None,
        create_dataset: bool = True,
        **options: Any,
    ) -> None:
        """Write a frame into a table, `dataset.table` or `project.dataset.table`, by a load job.

        Further options are properties of the load job, as Google's library names them.
        """
        if overwrite_types:
            raise ConnectorError(
                f"BigQuery().export() takes no overwrite_types (given for {', '.join(overwrite_types)}): "
                f"give the columns these types in the frame"
            )
        if query_string:
            df = self.load(query_string)
        if isinstance(df, pd.DataFrame):
            df = df.rename(columns={name: str(name).replace(" ", "_") for name in df.columns})
        table = table_id if database is None or table_id.count(".") > 1 else f"{database}.{table_id}"
        given: dict[str, Any] = {
            "unique_conflict_method": unique_conflict_method,
            "unique_constraints": unique_constraints,
        }
        self._connector.export(
            df,
            table_name=table,
            if_exists=_if_exists(if_exists, write_disposition),
            **{name: value for name, value in given.items() if value},
            **options,
        )


def _if_exists(given: Any, write_disposition: str | None) -> str:
    """Return what becomes of a table that exists; `write_disposition` counts for more, as in Mage."""
    if not write_disposition:
        return str(getattr(given, "value", given))
    if write_disposition not in _DISPOSITIONS:
        raise ConnectorError(
            f"BigQuery().export() does not know write_disposition={write_disposition!r}; "
            f"use one of {', '.join(_DISPOSITIONS)}"
        )
    return _DISPOSITIONS[write_disposition]


_DISPOSITIONS = {"WRITE_TRUNCATE": "replace", "WRITE_APPEND": "append", "WRITE_EMPTY": "fail"}
