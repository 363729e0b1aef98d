"""An S3 emulator: moto's server in a thread of the test process, with buckets of a test's own."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}


class S3Emulator:
    """A running emulator, and what tests ask of it."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._numbers = itertools.count(1)

    @property
    def keys(self) -> dict[str, str]:
        """What a profile says to speak to it."""
        return {**KEYS, "AWS_ENDPOINT": self.endpoint}

    def make_bucket(self) -> str:
        bucket = f"bucket-{next(self._numbers)}"
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
        return bucket

    @contextmanager
    def client(self) -> Iterator[Any]:
        import boto3

        made = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_REGION"],
        )
        try:
            yield made
        finally:
            made.close()


@contextmanager
def running_s3() -> Iterator[S3Emulator]:
    """Start the emulator; where it is not installed, skip at home and fail in CI."""
    if util.find_spec("moto") is None or util.find_spec("boto3") is None:
        reason = "the S3 emulator is not there: moto or boto3 is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield S3Emulator(server.get_host_and_port()[1])
    finally:
        server.stop()
