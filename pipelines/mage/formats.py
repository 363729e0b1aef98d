"""The enumerations of `mage_ai.io.base`."""

from __future__ import annotations

from enum import StrEnum

UNIQUE_CONFLICT_METHOD_IGNORE = "IGNORE"
UNIQUE_CONFLICT_METHOD_UPDATE = "UPDATE"


class FileFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    HDF5 = "hdf5"
    XML = "xml"
    EXCEL = "excel"


class ExportWritePolicy(StrEnum):
    APPEND = "append"
    FAIL = "fail"
    REPLACE = "replace"


class DataSource(StrEnum):
    API = "api"
    BIGQUERY = "bigquery"
    DUCKDB = "duckdb"
    FILE = "file"
    GOOGLE_CLOUD_STORAGE = "google_cloud_storage"
    MYSQL = "mysql"
    POSTGRES = "postgres"
    S3 = "s3"
    SNOWFLAKE = "snowflake"


class BaseIO:
    """What all of Mage's readers and writers are; here it only lets code ask `isinstance`."""
