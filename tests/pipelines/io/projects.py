"""Small projects for the tests of connectors: profiles on real parts, and blocks that run in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.context import BlockContext, EffectCounter, current_block
from pipelines.crash import CrashPoints
from pipelines.io.config import Profile, Profiles
from pipelines.model import Block, BlockType, Pipeline
from pipelines.secrets import Secrets
from tests.parts.postgres import PostgresServer

POSTGRES_KEYS = ("POSTGRES_HOST", "POSTGRES_DBNAME", "POSTGRES_USER")


def write_profiles(root: Path, **profiles: Mapping[str, Any]) -> Profiles:
    """Write `io_config.yaml` and read it back."""
    lines = []
    for name, values in profiles.items():
        lines.append(f"{name}:")
        lines += [f"  {key}: {json.dumps(value, default=str)}" for key, value in values.items()]
    (root / "io_config.yaml").write_text("\n".join(lines) + "\n")
    return read_profiles(root)


def read_profiles(root: Path) -> Profiles:
    return Profiles(root, environ={}, secrets=Secrets(None, {}))


def postgres_keys(server: PostgresServer, database: str) -> dict[str, Any]:
    return {
        "POSTGRES_HOST": server.socket_dir,
        "POSTGRES_DBNAME": database,
        "POSTGRES_USER": server.user,
    }


def postgres_profile(root: Path, server: PostgresServer, database: str, **more: Any) -> Profile:
    return write_profiles(root, default={**postgres_keys(server, database), **more}).profile()


@contextmanager
def running_block(
    root: Path, *, run_id: str = "run-1", attempt: int = 1, crash: CrashPoints | None = None
) -> Iterator[BlockContext]:
    """Be one attempt of the block `export` of the pipeline `trips`."""
    block = Block("export", BlockType.DATA_EXPORTER, "python", "data_exporters/export.py")
    context = BlockContext(
        run_id=run_id,
        project="test",
        root=root,
        pipeline=Pipeline("trips", "pipelines/trips/metadata.yaml", (block,)),
        block=block,
        attempt=attempt,
        keywords={},
        upstream=(),
        source="",
        profiles=read_profiles(root),
        logger=logging.getLogger("block.export"),
        effects=EffectCounter(run_id, block.name),
        crash=crash or CrashPoints(),
    )
    token = current_block.set(context)
    try:
        yield context
    finally:
        current_block.reset(token)
