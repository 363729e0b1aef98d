"""The harness of each connector that is in the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.io.harnesses import HARNESSES, Harness


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    kind = HARNESSES[request.param]
    part = request.getfixturevalue(kind.fixture) if kind.fixture else None
    return kind(tmp_path, part)
