"""What a project says, as frozen values. Nothing here reads a file or loads a data library."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    ERROR = "error"  # the pipeline or trigger cannot run
    WARNING = "warning"  # it runs, perhaps not as meant
    INFO = "info"  # worth knowing


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a project: where, how bad, and a sentence that says what to do."""

    file: str  # relative to the project's root, with forward slashes
    line: int  # counted from 1
    severity: Severity
    message: str
    pipeline: str | None = None  # the pipeline it breaks; None when it concerns the whole project

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


class BlockType(StrEnum):
    DATA_LOADER = "data_loader"
    TRANSFORMER = "transformer"
    DATA_EXPORTER = "data_exporter"
    CUSTOM = "custom"
    SENSOR = "sensor"  # waits, parked, until its function says yes
    DBT = "dbt"
    DATA_INTEGRATION = "data_integration"  # a dlt source into a dlt destination
    GLOBAL_DATA_PRODUCT = "global_data_product"  # the output of another pipeline, run when it is too old
    CONDITIONAL = "conditional"  # an add-on: says whether the blocks it guards run at all
    CALLBACK = "callback"  # an add-on: hears how the blocks it guards ended

    @property
    def folder(self) -> str:
        return "custom" if self is BlockType.CUSTOM else f"{self.value}s"

    @property
    def decorator(self) -> str:
        """The decorator that marks the function of a Python block of this type."""
        return "condition" if self is BlockType.CONDITIONAL else self.value

    @property
    def decorators(self) -> tuple[str, ...]:
        """All that may mark a function of such a block: the decorator of today, and Mage's older ones."""
        older = ("on_success", "on_failure") if self is BlockType.CALLBACK else ()
        return (self.decorator, *older)


# Blocks that stand beside the graph: their `upstream` are the blocks they guard, and nothing follows them.
ADD_ONS = (BlockType.CONDITIONAL, BlockType.CALLBACK)

CALLBACK_ENDS = ("success", "failure", "cancelled")  # what `@callback(...)` chooses from

# Types whose way to execute does not follow from the language of their code.
_OWN_KINDS = (BlockType.DBT, BlockType.DATA_INTEGRATION, BlockType.GLOBAL_DATA_PRODUCT)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed block is tried again. `retries` counts the tries after the first."""

    retries: int = 0
    delay_seconds: float = 5.0
    max_delay_seconds: float = 60.0
    exponential: bool = True
    jitter: bool = True

    def delay_after(self, attempt: int) -> timedelta | None:
        """Return the wait after the failed `attempt` (1 is the first), or None when no try is left."""
        if attempt > self.retries:
            return None
        growth = 2 ** min(attempt - 1, 30) if self.exponential else 1
        seconds = min(self.delay_seconds * growth, self.max_delay_seconds)
        if self.jitter:
            seconds *= random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        return timedelta(seconds=seconds)


class CheckKind(StrEnum):
    """What a data check looks at."""

    NOT_NULL = "not_null"
    UNIQUE = "unique"
    RANGE = "range"
    SET = "set"
    ROW_COUNT = "row_count"
    FRESHNESS = "freshness"
    SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class DataCheck:
    """One thing that must hold of the tables that a block returns."""

    kind: CheckKind
    columns: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    is_warning: bool = False  # it is logged, and fails nothing

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(self.columns)})" if self.columns else self.kind.value


CHILD_MARK = ":"  # between the name of a block and what tells its children apart; no block's name has it


@dataclass(frozen=True, slots=True)
class Block:
    """One node of a pipeline: one file of code."""

    name: str
    type: BlockType
    language: str  # "python", "sql", "r" or "yaml"
    path: str  # of the code, relative to the project's root; "" for a block that has none
    upstream: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    memory_mb: int | None = None
    checkpoint: bool = True  # False: the output is volatile, a resume runs the block again
    checks: tuple[DataCheck, ...] = ()  # what must hold of its tables before they are handed on
    trigger_rule: str = "all_success"  # what of its upstream blocks lets it start
    is_of_mage: bool = False  # written by Mage's editor
    line: int = 1  # where the pipeline's YAML declares it

    @property
    def is_child(self) -> bool:
        """Say whether it stands for one item of a dynamic block: it is in no pipeline's file."""
        return CHILD_MARK in self.name

    @property
    def kind(self) -> str:
        """How it executes: the name of an entry of `pipelines.blockruns.KINDS`."""
        return self.type.value if self.type in _OWN_KINDS else self.language

    @property
    def has_code(self) -> bool:
        """Say whether a file of its own says what it does; a data product is an entry of one for all."""
        return bool(self.path) and self.type is not BlockType.GLOBAL_DATA_PRODUCT

    @property
    def is_dynamic(self) -> bool:
        """Say whether each item of its output gets a run of its own of the blocks that follow."""
        dynamic = self.configuration.get("dynamic")
        return dynamic.get("parent") is True if isinstance(dynamic, Mapping) else bool(dynamic)

    @property
    def reduces_output(self) -> bool:
        """Say whether what follows its children runs once, on the list of all that they returned."""
        dynamic = self.configuration.get("dynamic")
        wherever = [self.configuration, dynamic] if isinstance(dynamic, Mapping) else [self.configuration]
        return any(place.get("reduce_output") is True for place in wherever)


TRIGGER_RULES = ("all_success", "all_done", "one_success", "none_failed")


class InputType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    OBJECT = "object"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Input:
    """A typed input of a pipeline, checked at the door."""

    name: str
    type: InputType
    required: bool = False
    default: Any = None
    description: str = ""
    choices: tuple[Any, ...] = ()


class TriggerType(StrEnum):
    WEBHOOK = "webhook"
    SCHEDULE = "schedule"
    SENSOR = "sensor"
    EVENT = "event"
    EXPECTATION = "expectation"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A declared rule: which events start the pipeline, with which variables.

    `spec` holds every key of the YAML as plain values. For Mage's triggers `mage` is true and
    the keys are already translated into ours (`cron`, `every`, `verify`, `token`, ...), so that no other code
    has to know Mage's names.
    """

    pipeline: str
    name: str
    type: TriggerType
    spec: Mapping[str, Any]
    enabled: bool = True
    mage: bool = False
    file: str = ""
    line: int = 1


# The events that the end of a run makes; their source is `run:<pipeline>`.
RUN_EVENTS = ("run.succeeded", "run.failed", "run.cancelled")


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody outside who is told of the ends of runs. Templates stand as they were written."""

    name: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    events: tuple[str, ...] = ("run.succeeded", "run.failed")
    pipelines: tuple[str, ...] = ()  # empty: all
    allow_private: bool = False
    line: int = 1

    def wants(self, event: str, pipeline: str) -> bool:
        return event in self.events and (not self.pipelines or pipeline in self.pipelines)


@dataclass(frozen=True, slots=True)
class CloudEvents:
    """What a project says of CloudEvents: how those that come are verified, and to whom its own go."""

    verify: str | Mapping[str, Any] | None = field(default=None, repr=False)  # None: nobody may post any
    rate: str | None = None
    max_body: int | None = None
    origins: tuple[str, ...] = ()  # who may ask to send, by the handshake; empty: whoever asks
    send: tuple[Address, ...] = ()
    line: int = 1


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A declared graph. `blocks` is in topological order, ties in the order of the file."""

    name: str
    file: str
    blocks: tuple[Block, ...]
    conditionals: tuple[Block, ...] = ()
    callbacks: tuple[Block, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    timeout_seconds: float | None = None
    run_limit: int | None = None  # how many runs at once; None is no limit
    block_limit: int | None = None  # how many blocks of one run at once
    child_limit: int = 10_000  # how many children a block may have that runs once for each item
    allow_blocks_to_fail: bool = (
        False  # a run succeeds although blocks failed, and what needs them is left out
    )
    when_full: str = "queue"  # or skip: an event that finds a limit full starts no run
    throttle: Mapping[str, Any] | None = None  # limit, per, when_full
    allow_pickle: bool = False  # cloudpickle checkpoints for outputs Arrow and JSON cannot hold

    def block(self, name: str) -> Block:
        """Return the block of that name; KeyError when there is none."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)

    @property
    def code_paths(self) -> tuple[str, ...]:
        """The files of its blocks and add-ons, each once: what a run is pinned to."""
        everything = (*self.blocks, *self.conditionals, *self.callbacks)
        return tuple(dict.fromkeys(block.path for block in everything if block.path))

    def downstream(self, name: str) -> tuple[str, ...]:
        return tuple(block.name for block in self.blocks if name in block.upstream)
