"""All triggers and doors of all projects, compiled again only when a file has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from pipelines.model import Pipeline, TriggerType
from pipelines.parse import PROJECT_FILE
from pipelines.project import Project
from service.intake.cloud_doors import CloudDoor, build_cloud_door
from service.intake.doors import Door, TokenOf, build_door, own_token, token_digest
from service.matching.listeners import Listeners
from service.matching.rendering import Rendering
from service.matching.triggers import CompiledTrigger, StateKey, TriggerKey, compile_trigger
from service.projects import Projects

logger = structlog.get_logger(__name__)

FAULT_SECONDS = 5.0  # how long a fault is believed: what it misses may be a secret that somebody adds

DoorBuilder = Callable[[CompiledTrigger], Door]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The triggers at one version of the projects."""

    version: int
    triggers: Mapping[str, Mapping[TriggerKey, CompiledTrigger]]  # by project
    doors: Mapping[tuple[str, str], Door]  # by project and address
    mage_doors: Mapping[bytes, Door]  # by the digest of their token
    listeners: Mapping[str, Listeners]  # by project
    cloud_doors: Mapping[str, CloudDoor]  # by project
    good_until: float  # monotonic


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What was made of one pipeline, to be used again while the pipeline is the same object."""

    pipeline: Pipeline
    triggers: tuple[CompiledTrigger, ...]

    @property
    def has_fault(self) -> bool:
        return any(compiled.fault for compiled in self.triggers)


class Catalog:
    """Hands out the newest snapshot. Safe to use from many threads."""

    def __init__(
        self, projects: Projects, *, rendering: Rendering, token_of: TokenOf, max_body_bytes: int
    ) -> None:
        self._projects = projects
        self._rendering = rendering
        self._token_of = token_of
        self._max_body_bytes = max_body_bytes
        self._lock = threading.Lock()
        self._compiled: dict[tuple[str, str], _Compiled] = {}
        self._built: dict[StateKey, Door] = {}
        self._cloud_doors: dict[str, CloudDoor] = {}
        self._snapshot: Snapshot | None = None
        self._stamp = rendering.stamp()
        self._told: set[str] = set()  # faults that are in the log already

    def current(self) -> Snapshot:
        """Return the triggers as the files have them now. Raises StoreUnavailable when a token is wanted."""
        snapshot = self._snapshot
        if snapshot is not None and self._is_good(snapshot):
            return snapshot
        with self._lock:
            if self._snapshot is None or not self._is_good(self._snapshot):
                self._snapshot = self._build()
            return self._snapshot

    def _is_good(self, snapshot: Snapshot) -> bool:
        return snapshot.version == self._projects.version and time.monotonic() < snapshot.good_until

    def _build(self) -> Snapshot:
        version = self._projects.version  # read first: a change while we build makes another snapshot
        stamp = self._rendering.stamp()
        if stamp != self._stamp:  # what was rendered with the old secrets counts no more
            self._compiled.clear()
            self._cloud_doors.clear()
            self._stamp = stamp
        triggers = {project.name: self._triggers_of(project) for project in self._projects.all()}
        doors = list(self._doors(triggers))
        cloud_doors = dict(self._cloud_doors_of(self._projects.all()))
        has_fault = (
            any(door.fault for door in doors)
            or any(door.fault for door in cloud_doors.values())
            or any(item.has_fault for item in self._compiled.values())
        )
        return Snapshot(
            version,
            triggers,
            self._by_address(doors),
            {
                token_digest(own_token(door.compiled, self._token_of)): door
                for door in doors
                if door.compiled.trigger.mage and door.fault is None
            },
            {name: Listeners.of(found.values()) for name, found in triggers.items()},
            cloud_doors,
            good_until=time.monotonic() + FAULT_SECONDS if has_fault else float("inf"),
        )

    def _triggers_of(self, project: Project) -> Mapping[TriggerKey, CompiledTrigger]:
        return {
            (pipeline.name, compiled.name): compiled
            for pipeline in project.pipelines.values()
            for compiled in self._compile(project.name, pipeline)
        }

    def _compile(self, project: str, pipeline: Pipeline) -> tuple[CompiledTrigger, ...]:
        known = self._compiled.get((project, pipeline.name))
        if known is not None and known.pipeline is pipeline and not known.has_fault:
            return known.triggers
        made = tuple(
            compile_trigger(project, pipeline, trigger, self._rendering)
            for trigger in pipeline.triggers
            if trigger.enabled
        )
        self._compiled[project, pipeline.name] = _Compiled(pipeline, made)
        return made

    def _doors(self, triggers: Mapping[str, Mapping[TriggerKey, CompiledTrigger]]) -> Iterator[Door]:
        for of_project in triggers.values():
            for compiled in of_project.values():
                if compiled.trigger.type is TriggerType.WEBHOOK:
                    yield self._door(compiled)

    def _door(self, compiled: CompiledTrigger) -> Door:
        # The same door while its trigger is the same: what its scheme keeps, such as certificates, stays.
        known = self._built.get(compiled.state_key)
        if known is None or known.compiled is not compiled or known.fault is not None:
            known = build_door(compiled, token_of=self._token_of, max_body_bytes=self._max_body_bytes)
            self._built[compiled.state_key] = known
        return known

    def _cloud_doors_of(self, projects: Iterable[Project]) -> Iterator[tuple[str, CloudDoor]]:
        for project in projects:
            known = self._cloud_doors.get(project.name)
            if known is not None and known.settings is project.cloudevents and known.fault is None:
                yield project.name, known
                continue
            render = partial(self._rendering.tree, where=f"{PROJECT_FILE}:{project.cloudevents.line}")
            door = build_cloud_door(
                project.name, project.cloudevents, render, max_body_bytes=self._max_body_bytes
            )
            if door is not None:
                if door.fault is not None:
                    self._tell(project.name, door.source, door.fault)
                self._cloud_doors[project.name] = door
                yield project.name, door

    def _by_address(self, doors: list[Door]) -> Mapping[tuple[str, str], Door]:
        found: dict[tuple[str, str], Door] = {}
        for door in doors:
            if door.fault is not None:
                self._tell(door.compiled.project, door.source, door.fault)
            owner = found.setdefault((door.compiled.project, door.address), door)
            if owner is not door:
                fault = f"{owner.source} has the address {door.address} already; change one `path`"
                self._tell(door.compiled.project, door.source, fault)
        return found

    def _tell(self, project: str, road: str, fault: str) -> None:
        """Log a fault once: a snapshot with faults is built again every few seconds."""
        sentence = f"{project} {road}: {fault}"
        if sentence not in self._told:
            self._told.add(sentence)
            logger.error("webhook cannot work", project=project, road=road, fault=fault)
