"""Files and partitioned datasets, which appear whole or not at all."""

from pipelines.io.files.connector import Files

__all__ = ["Files"]
