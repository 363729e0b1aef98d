"""A project: a folder of pipelines, read again only where it changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.model import CloudEvents, Pipeline, Problem, Trigger
from pipelines.parse import (
    PROJECT_FILE,
    ProjectError,
    ProjectSettings,
    pipeline_file,
    read_pipeline,
    read_settings,
)
from pipelines.parse_blocks import Sources
from pipelines.parse_fields import Findings
from pipelines.parse_products import product_problems
from pipelines.project_checks import (
    once_per_key,
    unknown_profiles,
    unknown_triggers,
    without_shared_paths,
    wrong_inputs,
)
from pipelines.project_files import Folder, PinnedSources
from pipelines.project_reading import PipelineRead, SettingsRead, pipeline_names, read_one, read_own_files

__all__ = ["Project", "ProjectError", "Sources", "content_hash", "pipeline_from_sources"]


def content_hash(sources: Mapping[str, str]) -> str:
    """Return what names these sources: the SHA-256 of their sorted paths and texts."""
    return hashlib.sha256(json.dumps(sorted(sources.items())).encode()).hexdigest()


def pipeline_from_sources(name: str, sources: Mapping[str, str]) -> Pipeline:
    """Read a pipeline, without triggers, from what a run was pinned to. Raises ProjectError."""
    pinned = PinnedSources(sources)
    settings = ProjectSettings()
    if pinned.exists(PROJECT_FILE):
        settings = read_settings(pinned.read(PROJECT_FILE), Findings(PROJECT_FILE))
    findings = Findings(pipeline_file(name), name)
    pipeline = read_pipeline(name, pinned, settings.retry, findings)
    if pipeline is None or findings.error_count:
        raise ProjectError(name, findings.problems)
    return pipeline


@dataclass(frozen=True, eq=False)
class _State:
    """All that a project knows at one moment. It is replaced as a whole, so that readers need no lock."""

    own: SettingsRead
    reads: Mapping[str, PipelineRead]
    pipelines: Mapping[str, Pipeline]
    sources: Mapping[str, Mapping[str, str]]
    problems: tuple[Problem, ...] = field(repr=False)


class Project:
    """The pipelines of a folder, each in its last good version, and what is wrong with the newest ones.

    Reading it is safe from any thread; `refresh` is for one thread at a time.
    """

    def __init__(self, root: Path) -> None:
        """Read the folder. What is wrong in it becomes `problems`, never an exception."""
        self.root = root.resolve()
        self._folder = Folder(self.root)
        self._state = self._read(None)
        self._name = re.sub(r"\W", "_", self._state.own.settings.name or self.root.name).lower()

    @classmethod
    def load(cls, root: Path) -> Project:
        return cls(root)

    @property
    def name(self) -> str:
        """The `name` in `metadata.yaml`, else the folder's; cleaned as Mage does it.

        As it was at first: all that is known of a project is known by its name, so a new one takes a restart.
        """
        return self._name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The keys of the project's `metadata.yaml`; templates in them stand as they were written."""
        return self._state.own.settings.values

    @property
    def cloudevents(self) -> CloudEvents:
        """What `metadata.yaml` says of CloudEvents, in its last good version."""
        return self._state.own.settings.cloudevents

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        return self._state.pipelines

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._state.problems

    def sources_of(self, name: str) -> Mapping[str, str]:
        """Return all that a run of `pipelines[name]` is pinned to, from the read that made it.

        Raises KeyError when there is no such pipeline.
        """
        return self._state.sources[name]

    def pinned(self, name: str) -> tuple[Pipeline, Mapping[str, str]] | None:
        """Return `pipelines[name]` and `sources_of(name)` of one and the same moment; None without it."""
        state = self._state
        pipeline = state.pipelines.get(name)
        return None if pipeline is None else (pipeline, state.sources[name])

    def refresh(self) -> bool:
        """Read again what changed on disk. Return whether anything is different now."""
        state = self._read(self._state)
        changed = state is not self._state
        self._state = state
        return changed

    def _read(self, old: _State | None) -> _State:
        snapshot = self._folder.snapshot()
        own = read_own_files(snapshot, old.own if old else None)
        names, name_problems = pipeline_names(snapshot)
        old_reads = old.reads if old else {}
        reads = {name: read_one(name, snapshot, own.settings.retry, old_reads.get(name)) for name in names}
        if old is not None and own is old.own and _are_same(reads, old.reads):
            return old
        return _merged(old, own, reads, name_problems)


def _are_same(reads: Mapping[str, PipelineRead], old: Mapping[str, PipelineRead]) -> bool:
    return reads.keys() == old.keys() and all(read is old[name] for name, read in reads.items())


def _merged(
    old: _State | None, own: SettingsRead, reads: Mapping[str, PipelineRead], problems: Sequence[Problem]
) -> _State:
    """Put the new versions beside the last good ones of what is broken now."""
    pipelines: dict[str, Pipeline] = {}
    sources: dict[str, Mapping[str, str]] = {}
    for name, read in reads.items():
        before = old.pipelines.get(name) if old else None
        if read.draft is not None and read.is_good:
            pipelines[name] = replace(read.draft, triggers=_triggers(read, before))
            sources[name] = read.sources(own.good_text)
        elif old is not None and before is not None:
            pipelines[name] = before
            sources[name] = old.sources[name]
    pipelines, shared = without_shared_paths(pipelines)
    found = [
        *problems,
        *own.problems,
        *shared,
        *unknown_profiles(_drafts(reads.values()), own.profiles),
        *unknown_triggers(pipelines.values()),
        *product_problems(own.products, pipelines),
        *wrong_inputs(pipelines.values()),
        *(problem for read in reads.values() for problem in read.problems),
    ]
    return _State(own, reads, pipelines, sources, tuple(once_per_key(found)))


def _drafts(reads: Iterable[PipelineRead]) -> list[Pipeline]:
    return [replace(read.draft, triggers=read.triggers.good) for read in reads if read.draft]


def _triggers(read: PipelineRead, before: Pipeline | None) -> tuple[Trigger, ...]:
    """Return the good triggers, and of the broken ones the version that was good before."""
    kept = before.triggers if before else ()
    if not read.triggers.is_readable:
        return kept
    return (*read.triggers.good, *(trigger for trigger in kept if trigger.name in read.triggers.broken))
