"""Object stores: `mage_ai.io.google_cloud_storage` and `mage_ai.io.s3`."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from pipelines import io
from pipelines.mage.files import named_format, without_mages
from pipelines.mage.formats import BaseIO
from pipelines.mage.profiles import BaseConfigLoader, ConfigFileLoader


class _ObjectStore(BaseIO):
    connector: ClassVar[str]

    def __init__(self, verbose: bool = False, **settings: Any) -> None:
        config = settings.pop("config", None) or ConfigFileLoader(config=settings)
        self._connector = getattr(io, self.connector).from_profile(config.settings)

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **_: Any) -> Self:
        return cls(config=config)

    def __enter__(self) -> Self:
        self._connector.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._connector.__exit__(*error)

    def load(self, bucket_name: str, object_key: str, format: str | None = None, **options: Any) -> Any:
        """Return the rows of an object. UnreadableFile names one that is not there."""
        kind = named_format(object_key, format)
        return self._connector.load(bucket_name, object_key, format=kind, **without_mages(options))

    def export(
        self, data: Any, bucket_name: str, object_key: str, format: str | None = None, **options: Any
    ) -> None:
        """Write a frame, or upload the local file whose path was given."""
        kind = named_format(object_key, format)
        if isinstance(data, str | os.PathLike):
            data = str(data)
        self._connector.export(data, bucket_name, object_key, format=kind, **without_mages(options))

    def exists(self, bucket_name: str, prefix: str, *_: Any, **__: Any) -> bool:
        return bool(self._connector.exists(bucket_name, prefix))


class GoogleCloudStorage(_ObjectStore):
    """Reads and writes objects of Google Cloud Storage, by the keys of a profile."""

    connector = "GoogleCloudStorage"


class S3(_ObjectStore):
    """Reads and writes objects of S3, by the keys of a profile."""

    connector = "S3"
