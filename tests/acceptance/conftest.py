"""What acceptance tests share: real services on both stores, killed at the end whatever happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.parts.service import Service

StartService = Callable[..., Service]

# Leases short enough for a test to wait for one to lapse, and no more worker processes than a run needs.
QUICK = {
    "MILLRACE_LEASE_SECONDS": "3",
    "MILLRACE_RENEW_SECONDS": "1",
    "MILLRACE_LOG_LEVEL": "info",
    "MILLRACE_SLOTS": "1",
}


@pytest.fixture(params=["sqlite", "postgres"])
def store_environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that chooses the store."""
    if request.param == "sqlite":
        return {}
    return {"MILLRACE_DATABASE_URL": request.getfixturevalue("postgres_url")}


@pytest.fixture
def start_service() -> Iterator[StartService]:
    """Start services that are gone when the test is."""
    started: list[Service] = []

    def start(*projects: Path, environ: Mapping[str, str] | None = None) -> Service:
        service = Service(projects, environ={**QUICK, **(environ or {})})
        started.append(service)
        service.start()
        service.wait_ready()
        return service

    yield start
    for service in started:
        service.__exit__(None, None, None)
