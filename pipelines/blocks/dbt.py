"""How a dbt block executes: dbt's own runner in a process of its own, by the Python that has dbt."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import io
from pipelines.blocks.children import run_child
from pipelines.blocks.dbt_child import NOT_INSTALLED
from pipelines.blocks.dbt_results import failure, relation, results
from pipelines.blocks.dbt_settings import PROFILES_FILE, PYTHON_KEY, DbtSettings, connection
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, MillraceError
from pipelines.io.config import Profile
from pipelines.io.sqlconnector import SqlConnector
from pipelines.model import BlockType
from pipelines.parse_yaml import Document

_CHILD = Path(__file__).with_name("dbt_child.py")

# dbt reports its use to its makers unless it is told not to.
_SILENCE = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}


class DbtError(MillraceError):
    """dbt could not do what a block asks, or a model or test of it has failed."""


def run_dbt(context: BlockContext, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Run the block's models and their tests; return the rows of a single model for those that follow.

    Raises DbtError with every model and test that failed.
    """
    settings = DbtSettings.of(context)
    for name, data in zip(context.upstream, inputs, strict=True):
        if data is not None and context.pipeline.block(name).type is not BlockType.DBT:
            context.logger.warning(
                "dbt reads its tables itself: it does not get what block %r returned", name
            )
    with tempfile.TemporaryDirectory(prefix="millrace-dbt-") as name:
        folder = Path(name)
        ended = _called(context, settings, folder)
        found = results(folder)
        for result in found:
            context.logger.log(20 if result.is_good else 40, "%s", result)
        failed = failure(found, ended)
        if failed is not None:
            raise DbtError(f"{context.block.path}: {failed}")
        context.effects.wrote(sum(result.rows or 0 for result in found))
        return _output(context, settings, folder)


def _called(context: BlockContext, settings: DbtSettings, folder: Path) -> list[Mapping[str, Any]]:
    """Call dbt and return how each call ended."""
    (folder / PROFILES_FILE).write_text(settings.profiles, encoding="utf-8")
    request = {"calls": list(settings.calls(folder))}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    # From a copy: the folder of a program comes first on its path, and ours has a module named dbt.
    child = shutil.copy(_CHILD, folder)
    code = run_child(
        [settings.python, str(child), str(folder)],
        folder=settings.project,
        environ={**os.environ, **_SILENCE},
        out=lambda line: _log(context.logger.info, line),
        err=lambda line: _log(context.logger.warning, line),
    )
    if code == NOT_INSTALLED:
        raise BlockCodeError(_not_installed(settings.python))
    told = folder / "result.json"
    if not told.exists():
        raise DbtError(f"{context.block.path}: dbt ended with exit code {code}; the block's log says more")
    ended: list[Mapping[str, Any]] = json.loads(told.read_text("utf-8"))
    if code and all(call["success"] for call in ended):
        raise DbtError(f"{context.block.path}: dbt ended with exit code {code}; the block's log says more")
    return ended


def _log(log: Callable[..., None], line: str) -> None:
    if line.strip():
        log("%s", line)


def _not_installed(python: str) -> str:
    return (
        f"dbt is not installed for {python}: install the extra `dbt` and an adapter such as dbt-postgres, "
        f"or name a Python that has them as {PYTHON_KEY} in the profile `default` of io_config.yaml"
    )


# --- the rows of a model -----------------------------------------------------------------------------------


def _output(context: BlockContext, settings: DbtSettings, folder: Path) -> tuple[Any, ...]:
    """Return the rows of a single model, if a block follows that is not dbt's and so wants them."""
    following = [context.pipeline.block(name) for name in context.pipeline.downstream(context.block.name)]
    is_read = any(block.type is not BlockType.DBT for block in following) or bool(context.block.checks)
    if settings.model is None or not is_read:
        return ()
    table, given = relation(folder, settings.model), connection(settings)
    if table is None or given is None:
        context.logger.warning("the rows of %s are not read: dbt made no table of it", settings.model)
        return ()
    connector = _connector(context, settings, given)
    if connector is None:
        context.logger.warning("the rows of %s are not read: no connector for %r", table, given.get("type"))
        return ()
    limit = context.block.configuration.get("limit_in_pipeline_run")
    return (connector.load(f"SELECT * FROM {table}", limit=int(limit) if limit else None),)


def _connector(context: BlockContext, settings: DbtSettings, given: Mapping[str, Any]) -> SqlConnector | None:
    """Return our connector to the database of dbt's profile; None for a database that we have none for."""
    if given.get("type") == "postgres":
        keys = {
            "POSTGRES_HOST": given.get("host"),
            "POSTGRES_PORT": given.get("port"),
            "POSTGRES_DBNAME": given.get("dbname") or given.get("database"),
            "POSTGRES_USER": given.get("user"),
            "POSTGRES_PASSWORD": given.get("password") or given.get("pass"),
            "POSTGRES_SCHEMA": given.get("schema"),
        }
        return io.Postgres.from_profile(_profile(context, keys))
    if given.get("type") == "duckdb":
        path = settings.project / str(given.get("path") or ":memory:")
        keys = {"DUCKDB_DATABASE": str(path), "DUCKDB_SCHEMA": given.get("schema")}
        return io.DuckDB.from_profile(_profile(context, keys))
    return None


def _profile(context: BlockContext, keys: Mapping[str, Any]) -> Profile:
    there = {name: value for name, value in keys.items() if value is not None}
    return Profile("dbt", Document({"dbt": there}), root=context.root, functions={})
