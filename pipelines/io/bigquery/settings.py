"""The keys of a profile that concern BigQuery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.io.google import GoogleSettings

if TYPE_CHECKING:
    from pipelines.io.config import Profile


@dataclass(frozen=True)
class BigQuerySettings:
    """Where tables lie, and how much a query may cost."""

    google: GoogleSettings
    dataset: str  # of tables that are named without one; may be empty
    location: str | None  # of datasets that are made
    max_bytes_billed: int | None  # by one query

    @classmethod
    def of(cls, profile: Profile) -> BigQuerySettings:
        return cls(
            google=GoogleSettings.of(
                profile, endpoint_key="GOOGLE_BIGQUERY_ENDPOINT", emulator_variable="BIGQUERY_EMULATOR_HOST"
            ),
            dataset=str(profile.get("GOOGLE_BIGQUERY_DATASET") or ""),
            location=str(profile.get("GOOGLE_LOCATION") or "") or None,
            max_bytes_billed=int(profile.number("GOOGLE_BIGQUERY_MAX_BYTES_BILLED", 0)) or None,
        )
