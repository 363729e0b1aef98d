"""The zoomcamp project, in a folder of its own and with real parts around it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.parts.bigquery import PROJECT, BigQueryEmulator
from tests.parts.example import Bench, bench
from tests.parts.gcs import GcsEmulator
from tests.parts.google_tokens import key_of
from tests.parts.postgres import PostgresServer
from tests.pipelines.projects import ProjectFolder

PROJECTS = Path(__file__).parent / "projects"


@dataclass(frozen=True)
class Zoomcamp:
    """The project while an engine runs its pipelines."""

    bench: Bench
    server: PostgresServer
    database: str
    bucket: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.fetch(sql, self.database)


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path / "my-shop")


@pytest.fixture(scope="module")
def zoomcamp(
    postgres_server: PostgresServer,
    gcs: GcsEmulator,
    bigquery: BigQueryEmulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Zoomcamp]:
    """Lay the project as `docker compose` has it: a key beside it, and the address of things in variables."""
    around = tmp_path_factory.mktemp("zoomcamp")
    root = Path(shutil.copytree(PROJECTS / "magic-zoomcamp", around / "magic-zoomcamp"))
    write_key(around / "personal-gcp.json")
    database, bucket = postgres_server.create_database(), gcs.make_bucket()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "POSTGRES_HOST": postgres_server.socket_dir,
            "POSTGRES_DBNAME": database,
            "POSTGRES_USER": postgres_server.user,
            "POSTGRES_PASSWORD": "not-asked-for-on-a-socket",
            "POSTGRES_SCHEMA": "magic",
            "POSTGRES_PORT": "5432",
            "GCS_BUCKET": bucket,
            "BIGQUERY_EMULATOR_HOST": bigquery.endpoint,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": gcs.endpoint,
            **gcs.environ,
        }.items():
            environment.setenv(name, value)
        environment.delenv("MILLRACE_DATABASE_URL", raising=False)
        with bench(root) as running:
            yield Zoomcamp(running, postgres_server, database, bucket)
    postgres_server.drop_database(database)


def write_key(path: Path) -> None:
    """Write a service account's key that nobody gave out."""
    private = key_of("zoomcamp").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "one",
        "private_key": private.decode(),
        "client_email": f"zoomcamp@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }
    path.write_text(json.dumps(key))
