"""Pipelines and triggers as JSON: what the files declare, and what the store knows of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pipelines.model import (
    Block,
    BlockType,
    Input,
    InputType,
    Pipeline,
    Problem,
    Severity,
    Trigger,
    TriggerType,
)
from pipelines.project import Project
from service.checks import problems_of
from service.errors import NotFound
from service.intake.doors import ADDRESS_PREFIX
from service.projects import Projects
from service.running.launch import find_pipeline
from service.runtime import Runtime
from service.store import triggers as trigger_rows
from service.store.held import held_counts
from service.web.schemas import ListJson, Shape

TriggerName = tuple[str, str]  # (pipeline, trigger)

# Of a trigger's spec only what says when it fires: the rest may hold secrets, written out or as templates.
_SHOWN_SPEC = ("cron", "every", "timezone", "catch_up", "sensor", "event", "source", "by")


class ProblemOfProjectJson(Shape):
    file: str
    line: int
    severity: Severity
    message: str
    pipeline: str | None

    @classmethod
    def of(cls, problem: Problem) -> ProblemOfProjectJson:
        return cls.model_validate(problem)


class ProjectJson(Shape):
    name: str
    default: bool = Field(description="True when short paths, such as /webhooks/..., speak to this project.")
    projects: tuple[str, ...] = Field(description="All projects this service serves.")
    pipelines: tuple[str, ...]
    problems: tuple[ProblemOfProjectJson, ...]

    @classmethod
    def of(cls, project: Project, projects: Projects) -> ProjectJson:
        return cls(
            name=project.name,
            default=project.name == projects.default.name,
            projects=projects.names,
            pipelines=tuple(sorted(project.pipelines)),
            problems=tuple(ProblemOfProjectJson.of(problem) for problem in problems_of(project)),
        )


class BlockJson(Shape):
    name: str
    type: BlockType
    language: str
    path: str
    upstream: tuple[str, ...]

    @classmethod
    def of(cls, block: Block) -> BlockJson:
        return cls.model_validate(block)


class InputJson(Shape):
    name: str
    type: InputType
    required: bool
    default: Any
    description: str
    choices: tuple[Any, ...]

    @classmethod
    def of(cls, declared: Input) -> InputJson:
        return cls.model_validate(declared)


class TriggerJson(Shape):
    project: str
    pipeline: str
    name: str
    type: TriggerType
    enabled: bool = Field(description="What the file says.")
    paused: bool = Field(description="A paused trigger holds its events until it is resumed.")
    held: int = Field(default=0, description="Events that wait: for a resume, or for their batch.")
    verify: str | None = Field(description="The scheme that checks a webhook's sender.")
    url: str | None = Field(description="Path of the webhook.")
    fires: Mapping[str, Any] = Field(description="When: cron, every, sensor, event and the like.")
    file: str
    line: int

    @classmethod
    def of(
        cls, project: str, trigger: Trigger, *, url: str | None, is_paused: bool, held: int = 0
    ) -> TriggerJson:
        return cls(
            project=project,
            pipeline=trigger.pipeline,
            name=trigger.name,
            type=trigger.type,
            enabled=trigger.enabled,
            paused=is_paused,
            held=held,
            verify=_scheme(trigger),
            url=url,
            fires={key: trigger.spec[key] for key in _SHOWN_SPEC if trigger.spec.get(key) is not None},
            file=trigger.file,
            line=trigger.line,
        )


class PipelineJson(Shape):
    name: str
    project: str
    file: str
    description: str
    tags: tuple[str, ...]
    blocks: tuple[BlockJson, ...] = Field(description="In the order they may run.")
    inputs: tuple[InputJson, ...]
    variables: Mapping[str, Any]
    triggers: tuple[TriggerJson, ...]
    problems: tuple[ProblemOfProjectJson, ...]

    @classmethod
    def of(cls, project: Project, pipeline: Pipeline, triggers: tuple[TriggerJson, ...]) -> PipelineJson:
        return cls(
            name=pipeline.name,
            project=project.name,
            file=pipeline.file,
            description=pipeline.description,
            tags=pipeline.tags,
            blocks=tuple(BlockJson.of(block) for block in pipeline.blocks),
            inputs=tuple(InputJson.of(declared) for declared in pipeline.inputs),
            variables=pipeline.variables,
            triggers=triggers,
            problems=tuple(
                ProblemOfProjectJson.of(problem)
                for problem in project.problems
                if problem.pipeline == pipeline.name
            ),
        )


class PipelineListJson(ListJson[PipelineJson]):
    """Pipelines, by project and name."""


class TriggerListJson(ListJson[TriggerJson]):
    """Triggers, by project, pipeline and the order of their file."""


def _scheme(trigger: Trigger) -> str | None:
    if trigger.type is not TriggerType.WEBHOOK:
        return None
    verify = trigger.spec.get("verify")
    if isinstance(verify, Mapping):
        return str(verify.get("scheme", "token"))
    return str(verify) if verify else "token"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store knows of a project's triggers."""

    paused: Collection[TriggerName]
    held: Mapping[TriggerName, int]


class Declarations:
    """Looks up what the projects declare, with what the store knows of their triggers."""

    def __init__(self, runtime: Runtime) -> None:
        self._projects = runtime.projects
        self._database = runtime.database

    def project(self, name: str | None) -> Project:
        """Return the project of that name, or the default one. Raises UnknownProject."""
        return self._projects.default if name is None else self._projects.get(name)

    def describe_project(self, name: str | None) -> ProjectJson:
        return ProjectJson.of(self.project(name), self._projects)

    def pipelines(self, project: str | None) -> list[PipelineJson]:
        """Return the pipelines of that project, or of all, by project and name."""
        chosen = self._projects.all() if project is None else (self._projects.get(project),)
        return [described for one in chosen for described in self._pipelines_of(one)]

    def pipeline(self, project: str | None, name: str) -> PipelineJson:
        """Return one pipeline. Raises UnknownProject or UnknownPipeline."""
        home = self.project(project)
        pipeline = find_pipeline(home, name)
        return self._describe(home, pipeline, self._known(home))

    def triggers(self, project: str | None, pipeline: str | None) -> list[TriggerJson]:
        """Return the triggers of that pipeline, or of all, in the order of their files."""
        return [
            trigger
            for described in self.pipelines(project)
            if pipeline is None or described.name == pipeline
            for trigger in described.triggers
        ]

    def trigger(self, project: str | None, pipeline: str, name: str) -> TriggerJson:
        """Return one trigger. Raises UnknownProject, UnknownPipeline or NotFound."""
        for trigger in self.pipeline(project, pipeline).triggers:
            if trigger.name == name:
                return trigger
        raise NotFound("trigger", f"{pipeline}/{name}")

    def _known(self, project: Project) -> _Known:
        with self._database.read() as connection:
            everywhere = trigger_rows.paused(connection)
            held = held_counts(connection, project.name)
        return _Known(
            {(pipeline, name) for owner, pipeline, name in everywhere if owner == project.name}, held
        )

    def _pipelines_of(self, project: Project) -> list[PipelineJson]:
        known = self._known(project)
        return [self._describe(project, pipeline, known) for _, pipeline in sorted(project.pipelines.items())]

    def _describe(self, project: Project, pipeline: Pipeline, known: _Known) -> PipelineJson:
        described = tuple(
            TriggerJson.of(
                project.name,
                trigger,
                url=self._url(project, trigger),
                is_paused=(pipeline.name, trigger.name) in known.paused,
                held=known.held.get((pipeline.name, trigger.name), 0),
            )
            for trigger in pipeline.triggers
        )
        return PipelineJson.of(project, pipeline, described)

    def _url(self, project: Project, trigger: Trigger) -> str | None:
        if trigger.type is not TriggerType.WEBHOOK:
            return None
        address = trigger.spec.get("path") or f"{ADDRESS_PREFIX}{trigger.pipeline}/{trigger.name}"
        is_default = project.name == self._projects.default.name
        return str(address) if is_default else f"/projects/{project.name}{address}"
