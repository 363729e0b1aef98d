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
    require_partition_filter: bool = False
    cluster_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: dict[str, Any]) -> Layout:
        """Take the keywords of an export that concern the layout out of `given`."""
        cluster = given.pop("cluster_by", None) or ()
        bounds = given.pop("partition_range", None)
        period = str(given.pop("partition_period", None) or "DAY").upper()
        if period not in _PERIODS:
            raise ExportRefused(f"partition_period={period!r} is not known; use one of {', '.join(_PERIODS)}")
        found = cls(
            partition_by=given.pop("partition_by", None),
            partition_period=period,
            partition_range=None if bounds is None else _three(bounds),
            partition_expiration_days=given.pop("partition_expiration_days", None),
            require_partition_filter=bool(given.pop("require_partition_filter", False)),
            cluster_by=(cluster,) if isinstance(cluster, str) else tuple(cluster),
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise for what would be left out in silence."""
        is_by_time = self.partition_by is not None and self.partition_range is None
        if not is_by_time and (self.partition_expiration_days is not None or self.require_partition_filter):
            raise ExportRefused(
                "partition_expiration_days and require_partition_filter want partitions by time: "
                "give partition_by, and no partition_range"
            )
        if self.partition_range is not None and self.partition_by is None:
            raise ExportRefused("partition_range needs partition_by: the column that is in the range")

    def apply(self, config: Any) -> None:
        """Give the layout to the settings of a load or query job."""
        if self.partition_range is not None:
            start, end, width = self.partition_range
            config.range_partitioning = bigquery.RangePartitioning(
                field=self.partition_by, range_=bigquery.PartitionRange(start, end, width)
            )
        elif self.partition_by is not None:
            config.time_partitioning = self._by_time()
        if self.cluster_by:
            config.clustering_fields = list(self.cluster_by)

    def _by_time(self) -> bigquery.TimePartitioning:
        days = self.partition_expiration_days
        expires = {} if days is None else {"expirationMs": str(int(days * _MS_PER_DAY))}
        # The library warns of this one as an argument; a job has no other place to say it.
        wanted = {"requirePartitionFilter": True} if self.require_partition_filter else {}
        return bigquery.TimePartitioning.from_api_repr(
            {"type": self.partition_period, "field": self.partition_by, **expires, **wanted}
        )


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


_OURS = frozenset({"labels", "source_format"})  # which run wrote how many rows, and how they are spooled


def check_job_options(given: Mapping[str, Any]) -> None:
    """Raise TypeError for keywords that load jobs do not have either."""
    unknown = sorted(
        name for name in given if not isinstance(getattr(bigquery.LoadJobConfig, name, None), property)
    )
    if unknown:
        raise TypeError(f"BigQuery.export() got unknown keyword(s) {', '.join(unknown)}")
    if ours := sorted(_OURS & given.keys()):
        raise TypeError(f"BigQuery.export() sets {', '.join(ours)} of the load job itself")
