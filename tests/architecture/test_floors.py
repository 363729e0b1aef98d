"""The floors of DESIGN 3, held by machine."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.architecture.floors import ROOT, imports, modules, own_module

HEAVY = ("pandas", "numpy", "pyarrow", "duckdb", "google", "adbc_driver_postgresql", "polars")

# What web and engine processes load: every one of these must stay light.
LIGHT = (
    "pipelines",
    "pipelines.blocks",
    "pipelines.io",
    "pipelines.io.config",
    "pipelines.model",
    "pipelines.parse",
    "pipelines.project",
    "pipelines.templating",
    "pipelines.variables",
    "sensors",
    "sensors.registry",
    "service.app",
    "service.cli",
    "service.engine",
    "service.supervisor",
)

MAY_IMPORT = {
    "service": {"service", "sensors", "pipelines"},
    "sensors": {"sensors"},
    "pipelines": {"pipelines"},
}

# Parts of a connector, a sensor or a kind of block that few need: the reason for late imports (DESIGN 3).
LATE_IMPORT_FLOORS = (
    "pipelines.io",
    "pipelines.blocks.dbt_child",
    "pipelines.blocks.integration",
    "pipelines.checks",
    "pipelines.sql_lint",
    "sensors",
)

MOST_LINES = 400


def test_imports_go_to_the_same_floor_or_down():
    known = modules()

    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in imports()
        if own_module(found.imported, known)
        and found.imported.partition(".")[0] not in MAY_IMPORT[found.importer.partition(".")[0]]
    ]

    assert wrong == []


def test_pipelines_and_sensors_know_nothing_of_the_service():
    foreign = ("flask", "apscheduler", "alembic", "gunicorn", "werkzeug")

    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in imports()
        if not found.importer.startswith("service") and found.imported.partition(".")[0] in foreign
    ]

    assert wrong == []


def test_only_the_store_speaks_sql_on_our_tables():
    wrong = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in imports()
        if found.importer.startswith("service.")
        and not found.importer.startswith("service.store")
        and found.imported.startswith(("sqlalchemy", "psycopg2", "sqlite3", "service.store.tables"))
    ]

    assert wrong == []


def test_imports_are_at_the_top():
    late = [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in imports()
        if found.late and not found.importer.startswith(LATE_IMPORT_FLOORS)
    ]

    assert late == []


def test_there_is_no_import_cycle():
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for found in imports():
        target = own_module(found.imported, known)
        if target and target != found.importer and not found.for_types_only and not found.late:
            graph[found.importer].add(target)

    assert _cycle(graph) is None


def test_files_stay_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules().values()
        if (count := _lines(path)) > MOST_LINES
    }

    assert long == {}


def test_nothing_happens_at_import():
    """No module calls a function that starts, opens or connects while it is imported."""
    busy = ("connect", "create_engine", "Thread", "Popen", "start", "open", "run", "getenv")
    wrong = [
        f"{name}:{call.lineno} calls {_called(call)}"
        for name, path in modules().items()
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign)
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and _called(call) in busy
    ]

    assert wrong == []


@pytest.mark.parametrize("module", LIGHT)
def test_web_and_engine_load_no_data_library(module):
    code = (
        f"import sys, {module}\n"
        f"print(*sorted(name for name in sys.modules if name.partition('.')[0] in {HEAVY!r}))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert loaded.stdout.split() == []


def _called(call: ast.Call) -> str:
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _lines(path) -> int:
    return len(path.read_text().splitlines())


def _cycle(graph: dict[str, set[str]]) -> list[str] | None:
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for target in sorted(graph[name]):
            if found := visit(target):
                return found
        path.pop()
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name))), None)
