"""The connector for S3, and for stores that speak as it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self

from pipelines.io.errors import AccessRefused, ConnectionFailed, ConnectorError
from pipelines.io.objects.connector import ObjectConnector
from pipelines.io.objects.store import ObjectChanged, ObjectMissing, Store, Stored

if TYPE_CHECKING:
    from pipelines.io.config import Profile

_PART = 16 * 2**20  # larger files go in parts of this many bytes
_MOST_PARTS = 10_000

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_CHANGED = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)


@dataclass(frozen=True)
class S3Settings:
    """The keys of a profile that concern S3."""

    profile: str
    key_id: str | None
    secret: str | None
    token: str | None
    region: str | None
    endpoint: str | None

    @classmethod
    def of(cls, profile: Profile) -> S3Settings:
        def text(key: str) -> str | None:
            return str(profile.get(key) or "") or None

        return cls(
            profile=profile.name,
            key_id=text("AWS_ACCESS_KEY_ID"),
            secret=text("AWS_SECRET_ACCESS_KEY"),
            token=text("AWS_SESSION_TOKEN"),
            region=text("AWS_REGION"),
            endpoint=text("AWS_ENDPOINT"),
        )

    def __repr__(self) -> str:
        return f"S3Settings(profile={self.profile!r})"


class S3(ObjectConnector):
    """Loads and exports objects in buckets of S3; see ObjectConnector.

    Profile, all optional: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN (without them what
    the machine has), AWS_REGION, AWS_ENDPOINT (another store that speaks S3).
    """

    name: ClassVar[str] = "s3"

    def __init__(self, settings: S3Settings) -> None:
        super().__init__()
        self._settings = settings

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(S3Settings.of(profile))

    def _opened(self) -> Store:
        return S3Store(self._settings)


class S3Store(Store):
    """S3 by boto3, which adds a checksum to what is sent and checks the one of what comes."""

    scheme = "s3"

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._client = _client(settings)

    def head(self, bucket: str, name: str) -> Stored | None:
        try:
            with self._told(bucket, name):
                found = self._client.head_object(Bucket=bucket, Key=name)
        except ObjectMissing:
            return None
        return Stored(name, int(found["ContentLength"]), found["ETag"], dict(found["Metadata"]))

    def listed(self, bucket: str, prefix: str) -> Iterator[Stored]:
        with self._told(bucket, prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", ()):
                    yield Stored(each["Key"], int(each["Size"]), each["ETag"])

    def fetch(self, bucket: str, name: str, path: Path) -> None:
        with self._told(bucket, name), path.open("wb") as file:
            # One answer, read in pieces: only of a whole answer the client checks the checksum.
            for piece in self._client.get_object(Bucket=bucket, Key=name)["Body"].iter_chunks(2**20):
                file.write(piece)

    def put(
        self, bucket: str, name: str, path: Path, *, instead_of: Stored | None, metadata: Mapping[str, str]
    ) -> None:
        place = {"Bucket": bucket, "Key": name}
        condition = {"IfNoneMatch": "*"} if instead_of is None else {"IfMatch": instead_of.version}
        with self._told(bucket, name, is_write=True), path.open("rb") as file:
            if path.stat().st_size <= _PART:
                self._client.put_object(**place, Body=file, Metadata=dict(metadata), **condition)
            else:
                self._put_parts(place, file, path.stat().st_size, dict(metadata), condition)

    def _put_parts(
        self,
        place: Mapping[str, str],
        file: BinaryIO,
        size: int,
        metadata: Mapping[str, str],
        condition: Mapping[str, str],
    ) -> None:
        upload = self._client.create_multipart_upload(**place, Metadata=metadata)
        place = {**place, "UploadId": upload["UploadId"]}
        try:
            parts = []
            for number, piece in enumerate(_pieces(file, max(_PART, -(-size // _MOST_PARTS))), start=1):
                sent = self._client.upload_part(**place, PartNumber=number, Body=piece)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            self._client.abort_multipart_upload(**place)
            raise

    def delete(self, bucket: str, seen: Stored) -> None:
        try:
            with self._told(bucket, seen.name):
                self._client.delete_object(Bucket=bucket, Key=seen.name, IfMatch=seen.version)
        except (ObjectMissing, ObjectChanged):
            return

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _told(self, bucket: str, name: str, *, is_write: bool = False) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        address = self.address(bucket, name)
        try:
            yield
        except ClientError as error:
            raise self._said(error.response.get("Error", {}), bucket, address, is_write=is_write) from error
        except NoCredentialsError as error:
            raise AccessRefused(
                f"{address}: there are no AWS credentials: profile {self._settings.profile!r} has no "
                "AWS_ACCESS_KEY_ID, and the machine has none of its own"
            ) from error
        except BotoCoreError as error:
            raise ConnectionFailed(f"{address}: no answer: {error}") from error

    def _said(self, said: Mapping[str, str], bucket: str, address: str, *, is_write: bool) -> ConnectorError:
        code, text = str(said.get("Code", "")), said.get("Message", "")
        if code == "NoSuchBucket" or (code in _MISSING and is_write):
            return ObjectMissing(f"there is no bucket {bucket!r}")
        if code in _MISSING:
            return ObjectMissing(f"there is no object {address}")
        if code in _CHANGED:
            return ObjectChanged(
                f"{address} was changed by somebody else while it was written; nothing was written. "
                "Try again, or let only one run at a time write it"
            )
        if code in _REFUSED:
            return AccessRefused(
                f"{address}: profile {self._settings.profile!r} may not do that ({code}: {text})"
            )
        if code.startswith("5") or code in ("InternalError", "ServiceUnavailable", "SlowDown"):
            return ConnectionFailed(f"{address}: no answer: {code}: {text}")
        return ConnectorError(f"{address}: {code}: {text}")


def _client(settings: S3Settings) -> Any:
    try:
        import boto3
        from botocore.session import Session
    except ImportError:
        raise ConnectorError("S3 needs boto3, which is not installed: pip install 'millrace[s3]'") from None
    quick = Session()
    quick.register_component("data_loader", _models())
    session = boto3.Session(
        botocore_session=quick,
        aws_access_key_id=settings.key_id,
        aws_secret_access_key=settings.secret,
        aws_session_token=settings.token,
        region_name=settings.region,
    )
    region = None if session.region_name or not settings.endpoint else "us-east-1"
    return session.client("s3", endpoint_url=settings.endpoint, region_name=region)


@cache
def _models() -> Any:
    """Return the SDK's reader of what services can do; it keeps what it has read, which takes long."""
    from botocore.loaders import create_loader

    return create_loader()


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece
