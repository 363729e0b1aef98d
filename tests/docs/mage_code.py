"""What the code knows of Mage, by the areas of the table in docs/mage.md.

All of it comes from the registries by which the code itself decides, or from asking it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines import cron_names, parse, parse_blocks, parse_inputs, parse_mage_triggers, parse_products
from pipelines.calls import MAGE_STATUS
from pipelines.io.config import _NESTED, Profile
from pipelines.mage import addressed, places
from pipelines.mage.actions import COLUMN_ACTIONS, ROW_ACTIONS
from pipelines.mage.constants import ActionType, BlockLanguage, PipelineType
from pipelines.mage.keys import WITHOUT_EFFECT
from pipelines.mage.names import DIFFERS, MODULES, REMEDIES
from pipelines.mage.profiles import ConfigKey
from pipelines.model import Block, BlockType
from pipelines.nodes import State
from pipelines.parse_fields import Findings, Section
from pipelines.parse_yaml import Document
from pipelines.secrets import Secrets
from pipelines.sql_providers import ONLY_OF_MAGE, PROVIDERS
from pipelines.templating import TemplateError, file_functions
from pipelines.variables import RunFacts, block_keywords
from tests.architecture.floors import ROOT

RUNS = frozenset(("works", "differs"))
NO_EFFECT = frozenset(("no effect",))
NOT_RUN = frozenset(("not run",))
NOT_HERE = frozenset(("not here",))


@dataclass(frozen=True)
class Known:
    """What the page may say of a name, and what it has to say beside that; None leaves it the words."""

    statuses: frozenset[str]
    note: str | None = None


Area = Mapping[str, Known]


def _runs(names: Iterable[str]) -> dict[str, Known]:
    return {name: Known(RUNS) for name in names}


def _mage_ai() -> Area:
    found = {
        ": ".join(filter(None, (module, name))): f"{module}.{name}".lstrip(".")
        for module, (_, names) in MODULES.items()
        for name in names
    }
    told = {
        shown: Known(frozenset(("differs",)), DIFFERS[whole])
        if whole in DIFFERS
        else Known(frozenset(("works",)))
        for shown, whole in found.items()
    }
    assert set(found.values()) >= set(DIFFERS)
    return told | {name: Known(NOT_HERE, remedy) for name, remedy in REMEDIES.items()}


def _actions() -> Area:
    done = {*COLUMN_ACTIONS, *ROW_ACTIONS}
    return {str(one): Known(RUNS if one in done else NOT_HERE) for one in ActionType}


def _block_types() -> Area:
    left_out = {*parse_blocks.IGNORED_TYPES, *parse_blocks.LEFT_OUT_TYPES}
    return _runs(map(str, BlockType)) | dict.fromkeys(left_out, Known(NOT_RUN))


def _languages() -> Area:
    return {
        str(one): Known(RUNS if str(one) in parse_blocks.EXTENSIONS else NOT_RUN) for one in BlockLanguage
    }


def _pipeline_types() -> Area:
    remedies = {name: Known(NOT_RUN, remedy) for name, remedy in parse.NOT_RUN.items()}
    return {str(one): Known(RUNS) for one in PipelineType} | remedies


def _providers() -> Area:
    return _runs(PROVIDERS) | dict.fromkeys(ONLY_OF_MAGE, Known(NOT_HERE))


def _schedule_types() -> Area:
    def is_run(kind: str) -> bool:
        given = {"schedule_type": kind, "schedule_interval": "@daily", "start_time": None}
        return parse_mage_triggers.read_mage_trigger("p", "t", _section(given)) is not None

    return {kind: Known(RUNS if is_run(kind) else NOT_RUN) for kind in parse_mage_triggers.SCHEDULE_TYPES}


def _keys(kind: str, read: Iterable[str]) -> Area:
    unused = {name: Known(NO_EFFECT, reason) for name, reason in WITHOUT_EFFECT[kind].items()}
    assert not unused.keys() & set(read)
    return _runs(read) | unused


def _configuration() -> Area:
    """Find the keys of a block's configuration in what the code asks of things that are named so."""
    asked = {
        key
        for file in _python("pipelines")
        if file.parent.name in ("pipelines", "blocks")
        for key in _asked_of(file, ("configuration", "given"))
    }
    asked |= {
        node.args[1].value
        for node in ast.walk(_tree(ROOT / "pipelines/blocks/dbt_settings.py"))
        if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        if str(node.args[1].value).startswith("dbt_")
    }
    foreign = {
        key
        for name in ("dbt.py", "integration_settings.py", "integration_ends.py")
        for key in _asked_of(ROOT / "pipelines" / "blocks" / name, ("given",))
    } | {key for key in _asked_of(ROOT / "pipelines" / "parse_checks.py", ("given",))}
    return _keys("configuration", asked - foreign - WITHOUT_EFFECT["configuration"].keys())


def _profile_keys() -> Area:
    read = {text for file in _python("pipelines/io") if file.name != "config.py" for text in _texts(file)}
    read |= _read_by_addressed()
    return {str(key): Known(RUNS if str(key) in read else NO_EFFECT) for key in ConfigKey}


def _read_by_addressed() -> set[str]:
    asked: set[str] = set()

    class Asked(Profile):
        def __getitem__(self, key: str) -> str:
            asked.add(key)
            return "1"

    for kind in (addressed.MSSQL, addressed.OracleDB, addressed.Redshift, addressed.Snowflake):
        given = {str(key): "1" for key in ConfigKey}
        kind.url_of(Asked("p", Document({"p": given}), root=ROOT, functions={}))
        asked.add(f"{kind.prefix}_{kind.schema_key}")
    return asked


def _templates() -> Area:
    def is_here(name: str) -> bool:
        try:
            functions[name]("x")
        except TemplateError as error:
            return "not asked" not in str(error)
        except Exception:
            return True
        return True

    functions = file_functions({}, Secrets(None, {}))
    found = {
        "env.var" if name == "env" else name: Known(RUNS if is_here(name) else NOT_HERE) for name in functions
    }
    of_sql = {"variables", "block_output"}
    assert of_sql <= {name for file in ROOT.glob("pipelines/blocks/sql*.py") for name in _names_defined(file)}
    return found | _runs(of_sql)


def _keywords() -> Area:
    facts = RunFacts("r", "p", "p", None, datetime(2024, 1, 1, tzinfo=UTC))
    block = Block("b", BlockType.CUSTOM, "python", "custom/b.py")
    given = {*block_keywords(facts, block, {}), *parse_inputs.RESERVED_NAMES}
    at_times = {"context", "dynamic_block_index", "parent_block_uuid", "__error", "__input", "events"}
    assert at_times <= {
        *_texts(ROOT / "pipelines/blockruns.py"),
        *_texts(ROOT / "pipelines/blocks/add_ons.py"),
    }
    absent = {"spark", "pipeline_run"}
    assert not given & absent
    return _runs(given | at_times) | dict.fromkeys(absent, Known(NOT_HERE))


def _addresses() -> Area:
    rules = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", text)
        for file in _python("service/web")
        for text in _texts(file)
        if text.startswith("/api/") and not text.startswith("/api/v1")
    }
    there = {rule.replace("<schedule_id>", "<id>") for rule in rules}
    absent = {"/api/runs", "/api/events", "/api/event_matchers"}
    assert there
    assert not there & absent
    return _runs(there) | dict.fromkeys(absent, Known(NOT_HERE))


def _places() -> Area:
    return _runs([places.SOURCE_FOLDER, f"{places.SOURCE_FOLDER}/{places._DATA_FOLDER}"])


def _statuses() -> Area:
    ours: dict[str, list[str]] = {}
    for state, status in MAGE_STATUS.items():
        ours.setdefault(status, []).append(state)
    told = {status: Known(RUNS, ", ".join(states)) for status, states in ours.items()}
    return told | {
        "upstream_failed": Known(RUNS, str(State.UPSTREAM_FAILED)),
        "condition_failed": Known(RUNS, str(State.SKIPPED)),
    }


AREAS: Mapping[str, Callable[[], Area]] = {
    "folder": _places,
    "mage_ai": _mage_ai,
    "transformer action": _actions,
    "keyword": _keywords,
    "block type": _block_types,
    "language": _languages,
    "pipeline type": _pipeline_types,
    "SQL provider": _providers,
    "io_config.yaml": _profile_keys,
    "io_config.yaml, older form": lambda: _runs(_NESTED),
    "template": _templates,
    "address": _addresses,
    "status": _statuses,
    "schedule_type": _schedule_types,
    "schedule_interval": lambda: _runs([*cron_names.IN_MAGE, *cron_names.WITHOUT_EXPRESSION]),
    "trigger": lambda: _keys("trigger", parse_mage_triggers.TRIGGER_KEYS),
    "trigger settings": lambda: _keys("settings", parse_mage_triggers.SETTINGS_KEYS),
    "project": lambda: _keys("project", parse.PROJECT_KEYS),
    "pipeline": lambda: _keys("pipeline", parse.PIPELINE_KEYS),
    "block": lambda: _keys("block", parse_blocks.BLOCK_KEYS),
    "configuration": _configuration,
    "retry_config": lambda: _runs(parse_blocks.RETRY_KEYS),
    "concurrency_config": lambda: _runs(parse.CONCURRENCY_KEYS),
    "data product": lambda: _keys("data product", parse_products.PRODUCT_KEYS),
}


def _section(values: Mapping[str, object]) -> Section:
    return Section(Document(dict(values)), (), Findings("f"), "it")


def _python(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def _texts(file: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _names_defined(file: Path) -> set[str]:
    tree = _tree(file)
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} | _texts(file)


def _asked_of(file: Path, owners: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(_tree(file)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        owner, key = ast.unparse(node.func.value), node.args[0]
        is_asked = node.func.attr in (
            "get",
            "text",
            "boolean",
            "count",
            "texts",
            "mapping",
            "section",
            "seconds",
        )
        if is_asked and owner.split(".")[-1] in owners and isinstance(key, ast.Constant):
            yield str(key.value)
