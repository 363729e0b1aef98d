"""Reads the blocks of a pipeline: what each is, where its code is, and in which order they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

from pipelines.mage.keys import WITHOUT_EFFECT
from pipelines.mage.places import SOURCE_FOLDER
from pipelines.model import ADD_ONS, TRIGGER_RULES, Block, BlockType, RetryPolicy
from pipelines.parse_checks import read_checks
from pipelines.parse_dynamic import WITHOUT_OUTPUT, check_repetition, warn_of_idle_keys
from pipelines.parse_fields import Section, closest, listed, words
from pipelines.parse_products import check_product_block
from pipelines.parse_sql import check_sql_configuration
from pipelines.products import PRODUCTS_FILE

_NAME = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*")
EXTENSIONS = {"python": "py", "sql": "sql", "r": "r", "yaml": "yaml"}
IGNORED_TYPES = frozenset(("markdown", "scratchpad", "chart"))  # notes and drafts; they never run
LEFT_OUT_TYPES = frozenset(("extension", "hook", "group", "pipeline", "ai"))  # of Mage, and not run
# Which languages blocks of a type may be written in; all others take those of the last line.
_LANGUAGES_OF = {
    BlockType.SENSOR: ("python", "sql"),
    BlockType.CUSTOM: ("python", "sql", "r"),
    BlockType.CONDITIONAL: ("python",),
    BlockType.CALLBACK: ("python",),
    BlockType.DBT: ("sql", "yaml"),
    BlockType.DATA_INTEGRATION: ("yaml", "python"),
    BlockType.GLOBAL_DATA_PRODUCT: ("python", "sql", "r", "yaml"),
}
_LANGUAGES = ("python", "sql", "r")
BLOCK_KEYS = words(
    """
    uuid name type language configuration upstream_blocks retry_config timeout has_callback
    replicated_block memory checkpoint checks trigger_rule
    """
)
RETRY_KEYS = frozenset(("retries", "delay", "max_delay", "exponential_backoff", "jitter"))


class Sources(Protocol):
    """The texts of a project by path, with forward slashes, relative to its root."""

    def read(self, path: str) -> str:
        """Return the text. Raises FileNotFoundError; OSError, UnicodeDecodeError when it is no text."""
        ...

    def exists(self, path: str) -> bool: ...


@dataclass(frozen=True)
class _Declared:
    section: Section
    name: str
    type: str
    language: str


def read_retry(section: Section, inherited: RetryPolicy) -> RetryPolicy:
    """Return the policy of `retry_config`; what it does not say comes from `inherited`."""
    if "retry_config" not in section:
        return inherited
    config = section.section("retry_config", f"{section.what}, retry_config")
    config.unknown_keys("retry_config", RETRY_KEYS)
    return RetryPolicy(
        retries=config.count("retries", inherited.retries) or 0,
        delay_seconds=config.number("delay", inherited.delay_seconds),
        max_delay_seconds=config.number("max_delay", inherited.max_delay_seconds),
        exponential=config.boolean("exponential_backoff", inherited.exponential),
        jitter=config.boolean("jitter", inherited.jitter),
    )


def read_blocks(pipeline: Section, sources: Sources, retry: RetryPolicy) -> tuple[Block, ...]:
    """Return the blocks that run, upstream before downstream. Problems go to the section's findings."""
    declared = list(_declared(pipeline))
    for item in declared:
        if item.type in ADD_ONS:
            item.section.error(
                "type", f"a {item.type} stands under `{item.type}s:` of the pipeline, not here"
            )
        elif item.type in LEFT_OUT_TYPES:
            item.section.warning("type", f"blocks of type '{item.type}' are not run; it is left out")
    left_out = (*IGNORED_TYPES, *LEFT_OUT_TYPES, *ADD_ONS)
    runnable = {item.name: item for item in declared if item.type not in left_out}
    ignored = {item.name for item in declared} - set(runnable)
    upstream = {name: _upstream(item.section, runnable, ignored) for name, item in runnable.items()}
    blocks = {
        item.name: block
        for item in runnable.values()
        if (block := _block(item, upstream[item.name], runnable, sources, retry)) is not None
    }
    lines = {name: item.section.line() for name, item in runnable.items()}
    order = _in_order(upstream, lines, pipeline)
    found = tuple(blocks[name] for name in order if name in blocks)
    warn_of_idle_keys(found, pipeline.findings)
    return found


def read_add_ons(
    pipeline: Section, type: BlockType, sources: Sources, retry: RetryPolicy
) -> tuple[Block, ...]:
    """Return the conditionals or callbacks of a pipeline; their `upstream` are the blocks they guard."""
    blocks = {item.name: item for item in _declared(pipeline.unheard())}
    found = []
    for item in _declared(pipeline, type.folder):
        guarded = _upstream(item.section, blocks, set())
        declared = replace(item, type=type.value)
        block = _block(declared, guarded, {}, sources, retry)
        if block is None:
            continue
        if not guarded:
            item.section.warning("upstream_blocks", "it guards no block; name one in `upstream_blocks`")
        found.append(block)
    if type is BlockType.CALLBACK:
        found += _callbacks_of_old(pipeline, blocks, sources)
    return tuple(found)


def _callbacks_of_old(
    pipeline: Section, blocks: Mapping[str, _Declared], sources: Sources
) -> Iterator[Block]:
    """Yield the callbacks of blocks that say `has_callback`: Mage's older way has one file for each."""
    for item in blocks.values():
        if item.section.get("has_callback") is not True:
            continue
        name = f"{item.name}_callback"
        path = _default_path(name, BlockType.CALLBACK.value, "python")
        line = item.section.line("has_callback")
        if sources.exists(path):
            yield Block(name, BlockType.CALLBACK, "python", path, (item.name,), line=line)
        else:
            pipeline.findings.warning(
                line, f"block '{item.name}': its callback is missing; write it to {path}"
            )


def _declared(pipeline: Section, key: str = "blocks") -> Iterator[_Declared]:
    seen: dict[str, int] = {}
    for section in pipeline.sections(key, "a block"):
        name = section.text("uuid") or section.text("name")
        if not name:
            section.error("name", "it has no `name`; give it one")
            continue
        section.what = f"block '{name}'"
        if not _NAME.fullmatch(name):
            section.error(
                "uuid" if "uuid" in section else "name", "the name may have letters, digits, _ - . and / only"
            )
            continue
        if name in seen:
            section.findings.error(
                section.line(),
                f"block '{name}' is declared twice (first in line {seen[name]}); rename one of them",
            )
            continue
        seen[name] = section.line()
        section.unknown_keys("block", BLOCK_KEYS | WITHOUT_EFFECT["block"].keys())
        yield _Declared(section, name, section.text("type"), section.text("language", "python"))


def _block(
    item: _Declared,
    upstream: tuple[str, ...],
    siblings: Mapping[str, _Declared],
    sources: Sources,
    retry: RetryPolicy,
) -> Block | None:
    section = item.section
    configuration = section.mapping("configuration")
    policy = read_retry(section, retry)
    timeout, memory = section.seconds("timeout"), section.megabytes("memory")
    checkpoint = section.boolean("checkpoint", default=True)
    checks = read_checks(section)
    block_type = _type(section, item.type)
    if checks and block_type in WITHOUT_OUTPUT:
        section.error("checks", f"a {block_type} returns no table to check; take its `checks` away")
    if block_type is None or not _can_run(section, block_type, item.language):
        return None
    if block_type is BlockType.GLOBAL_DATA_PRODUCT:
        check_product_block(section, sources)
        path: str | None = PRODUCTS_FILE
    else:
        path = _code_path(item, configuration, siblings, sources)
    if path is None:
        return None
    return Block(
        name=item.name,
        type=block_type,
        language=item.language,
        path=path,
        upstream=upstream,
        configuration=configuration,
        retry=policy,
        timeout_seconds=timeout,
        memory_mb=memory,
        checkpoint=checkpoint,
        trigger_rule=_trigger_rule(section),
        is_of_mage=_is_written_by_mage(section),
        checks=checks,
        line=section.line(),
    )


def _trigger_rule(section: Section) -> str:
    rule = section.text("trigger_rule", TRIGGER_RULES[0])
    if rule not in TRIGGER_RULES:
        section.error(
            "trigger_rule",
            f"the trigger_rule '{rule}' is unknown (known: {listed(TRIGGER_RULES)})"
            f"{closest(rule, TRIGGER_RULES)}",
        )
    return rule


def _upstream(section: Section, siblings: Mapping[str, _Declared], ignored: set[str]) -> tuple[str, ...]:
    known = []
    for position, name in enumerate(section.texts("upstream_blocks")):
        if name in siblings and name not in known:
            known.append(name)
        elif name not in siblings and name not in ignored:
            line = section.line("upstream_blocks", position)
            what = f"{section.what}: its upstream block '{name}' is not in the pipeline"
            if _is_written_by_mage(section):
                section.findings.warning(line, f"{what}; it is left out, as Mage leaves it out")
            else:
                hint = closest(name, siblings) or "; declare it, or take it out of upstream_blocks"
                section.findings.error(line, what + hint)
    return tuple(known)


def _is_written_by_mage(section: Section) -> bool:
    """Tell whether Mage's editor wrote the block: it writes this key into every one."""
    return "all_upstream_blocks_executed" in section


def _type(section: Section, name: str) -> BlockType | None:
    known = [item.value for item in BlockType]
    if name in known:
        return BlockType(name)
    if not name:
        section.error("type", f"it has no `type`; give it one of {listed(known)}")
    else:
        section.error(
            "type", f"the block type '{name}' is unknown (known: {listed(known)}){closest(name, known)}"
        )
    return None


def _can_run(section: Section, type: BlockType, language: str) -> bool:
    """Report what the block asks for that is not run."""
    before = section.findings.error_count
    languages = _LANGUAGES_OF.get(type, _LANGUAGES)
    if language not in languages:
        section.error(
            "language",
            f"a {type} block cannot be written in '{language}' (it can in {listed(languages)})"
            f"{_instead_of_singer(type, language) or closest(language, languages)}",
        )
    elif language == "sql" and type is not BlockType.DBT:
        check_sql_configuration(section)
    check_repetition(section, type)
    executor = section.get("executor_type")
    if executor not in (None, "local_python", "local_python_force"):
        section.warning(
            "executor_type", f"the executor '{executor}' is not used; the block runs in a local worker"
        )
    return section.findings.error_count == before


def _instead_of_singer(type: BlockType, language: str) -> str:
    """Return what to write for Mage's loaders and exporters in YAML: sources and sinks of Singer."""
    if language != "yaml" or type not in (BlockType.DATA_LOADER, BlockType.DATA_EXPORTER):
        return ""
    return "; Singer's sources and destinations are not run: write a block of `type: data_integration`"


# --- where the code is ------------------------------------------------------------------------------


def _code_path(
    item: _Declared, configuration: Mapping[str, Any], siblings: Mapping[str, _Declared], sources: Sources
) -> str | None:
    candidates = list(_candidates(item, configuration, siblings))
    for path in candidates:
        if sources.exists(path):
            return path
    wanted = candidates[-1] if candidates else ""
    replicated = item.section.text("replicated_block")
    has_none = f"its code is missing, and its `replicated_block` '{replicated}' has none"
    item.section.findings.error(
        item.section.line(),
        f"{item.section.what}: {has_none if replicated else 'its code is missing'}; "
        f"write it to {wanted}, or remove the block",
    )
    return None


def _candidates(
    item: _Declared, configuration: Mapping[str, Any], siblings: Mapping[str, _Declared]
) -> Iterator[str]:
    """Yield where the code may be, the strongest wish first and the default place last."""
    source = configuration.get("file_source")
    given = (source.get("path") if isinstance(source, Mapping) else None, configuration.get("file_path"))
    yield from _replicated_paths(item, siblings)
    for path in given:
        if isinstance(path, str) and path:
            yield from _places(path, item.section)
            if item.type == BlockType.DBT:
                yield from _places(f"dbt/{path}", item.section)
    if item.type == BlockType.DBT:
        yield f"dbt/{PurePosixPath(_default_path(item.name, item.type, item.language)).relative_to('dbts')}"
    yield _default_path(item.name, item.type, item.language)


def _replicated_paths(item: _Declared, siblings: Mapping[str, _Declared]) -> Iterator[str]:
    """Yield where the code of the block lies that this one is a replica of, or a replica of a replica."""
    seen: set[str] = set()
    replica: _Declared | None = item
    while replica and (name := replica.section.text("replicated_block")) and name not in seen:
        seen.add(name)
        original = siblings.get(name)
        yield _default_path(name, (original or item).type, (original or item).language)
        replica = original


def _default_path(name: str, kind: str, language: str) -> str:
    folder = next((item.folder for item in BlockType if item.value == kind), kind)
    extension = EXTENSIONS.get(language, "py")
    return f"{folder}/{name}" if name.endswith(f".{extension}") else f"{folder}/{name}.{extension}"


def _places(path: str, section: Section) -> Iterator[str]:
    """Yield what a declared path may mean: in the project, with the project's folder in front, beside it."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if ".." in pure.parts:
        section.error("configuration", f"the path {path!r} leads out of the project; write one without '..'")
        return
    if pure.is_relative_to(SOURCE_FOLDER):  # in Mage's container
        yield from _places(str(pure.relative_to(SOURCE_FOLDER)), section)
    if pure.is_absolute():
        return  # from the machine it was written on; the default place is tried
    yield str(pure)
    if len(pure.parts) > 1:
        yield str(PurePosixPath(*pure.parts[1:]))
        yield f"../{pure}"


# --- the order ---------------------------------------------------------------------------------------


def _in_order(
    upstream: Mapping[str, Sequence[str]], lines: Mapping[str, int], pipeline: Section
) -> Sequence[str]:
    """Sort upstream before downstream, ties in the order of the file. A cycle is reported once."""
    waiting: list[str] = list(upstream)
    done: dict[str, None] = {}  # in the order they were taken
    while waiting:
        ready = next((name for name in waiting if all(up in done for up in upstream[name])), None)
        if ready is None:
            _report_cycle({name: upstream[name] for name in waiting}, lines, pipeline)
            return list(upstream)
        done[ready] = None
        waiting.remove(ready)
    return list(done)


def _report_cycle(waiting: Mapping[str, Sequence[str]], lines: Mapping[str, int], pipeline: Section) -> None:
    """Say which blocks run in a circle; every one of `waiting` is in one or behind one."""
    upstream = {name: next(up for up in ups if up in waiting) for name, ups in waiting.items()}
    path = [next(iter(waiting))]
    while upstream[path[-1]] not in path:
        path.append(upstream[path[-1]])
    cycle = path[path.index(upstream[path[-1]]) :]
    start = min(range(len(cycle)), key=lambda place: lines[cycle[place]])
    around = [*cycle[start:], *cycle[:start], cycle[start]]
    pipeline.findings.error(
        lines[cycle[start]],
        f"the blocks run in a circle: {' <- '.join(around)}; take one of these upstream_blocks away",
    )
