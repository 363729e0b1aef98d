"""What an export is to do, and how the table it makes is laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud import bigquery

from pipelines.io.base import IfExists, Policy
from pipelines.io.bigquery.names import Table
from pipelines.io.errors import ExportRefused

_PERIODS = ("HOUR", "DAY", "MONTH", "YEAR")
_MS_PER_DAY = 24 * 3600 * 1000

DISPOSITIONS = {
    IfExists.REPLACE: "WRITE_TRUNCATE",
    IfExists.APPEND: "WRITE_APPEND",
    IfExists.FAIL: "WRITE_EMPTY",
    IfExists.MERGE: "WRITE_EMPTY",  # of a table that is not there yet
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is partitioned and clustered."""

    partition_by: str | None = None
    partition_period: str = "DAY"
    partition_range: tuple[int, int, int] | None = None  # start, end, width: for whole numbers
    partition_expiration_days: float | None = None
    require_partition_filter: bool | None = None
    cluster_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: dict[str, Any]) -> Layout:
        """Take the keywords of an export that concern the layout out of `given`."""
        cluster = given.pop("cluster_by", None) or ()
        bounds = given.pop("partition_range", None)
        period = str(given.pop("partition_period", None) or "DAY").upper()
        if period not in _PERIODS:
            raise ExportRefused(f"partition_period={period!r} is not known; use one of {', '.join(_PERIODS)}")
        return cls(
            partition_by=given.pop("partition_by", None),
            partition_period=period,
            partition_range=None if bounds is None else _three(bounds),
            partition_expiration_days=given.pop("partition_expiration_days", None),
            require_partition_filter=given.pop("require_partition_filter", None),
            cluster_by=(cluster,) if isinstance(cluster, str) else tuple(cluster),
        )

    def apply(self, config: Any) -> None:
        """Give the layout to the settings of a load or query job."""
        if self.partition_range is not None:
            start, end, width = self.partition_range
            config.range_partitioning = bigquery.RangePartitioning(
                field=self.partition_by, range_=bigquery.PartitionRange(start, end, width)
            )
        elif self.partition_by is not None:
            days = self.partition_expiration_days
            config.time_partitioning = bigquery.TimePartitioning(
                type_=self.partition_period,
                field=self.partition_by,
                expiration_ms=None if days is None else int(days * _MS_PER_DAY),
                require_partition_filter=self.require_partition_filter,
            )
        if self.cluster_by:
            config.clustering_fields = list(self.cluster_by)


def _three(bounds: Sequence[int]) -> tuple[int, int, int]:
    if len(bounds) != 3:
        raise ExportRefused("partition_range wants three whole numbers: start, end and width")
    start, end, width = bounds
    return start, end, width


@dataclass(frozen=True, slots=True)
class Order:
    """What an export is to do."""

    target: Table
    policy: Policy
    layout: Layout = field(default_factory=Layout)
    column_names: str = "keep"
    schema_update_options: tuple[str, ...] = ()
    max_bytes_billed: int | None = None
    job_options: Mapping[str, Any] = field(default_factory=dict)  # further properties of the load job

    @property
    def if_exists(self) -> IfExists:
        return self.policy.if_exists

    def prepare(self, config: Any) -> None:
        """Give the order to the settings of the job that writes the target."""
        config.write_disposition = DISPOSITIONS[self.if_exists]
        self.layout.apply(config)
        if self.schema_update_options:
            config.schema_update_options = list(self.schema_update_options)
        for name, value in self.job_options.items():
            setattr(config, name, value)


def check_job_options(given: Mapping[str, Any]) -> None:
    """Raise TypeError for keywords that load jobs do not have either."""
    unknown = sorted(
        name for name in given if not isinstance(getattr(bigquery.LoadJobConfig, name, None), property)
    )
    if unknown:
        raise TypeError(f"BigQuery.export() got unknown keyword(s) {', '.join(unknown)}")
