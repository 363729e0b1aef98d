"""BigQuery: rows go in by load jobs from Parquet, never one by one; every job runs once."""

from pipelines.io.bigquery.connector import BigQuery

__all__ = ["BigQuery"]
