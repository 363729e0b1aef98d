"""Postgres: rows out and in by COPY, exports that happen once and all at once."""

from pipelines.io.postgres.connector import Postgres

__all__ = ["Postgres"]
