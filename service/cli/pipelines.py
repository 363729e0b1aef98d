"""`millrace pipelines`: what the projects declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.model import TriggerType
from service.cli.opened import opened, pipeline_called
from service.cli.options import json_option, project_option
from service.cli.output import console, print_fields, print_json, print_table, table
from service.cli.tokens import trigger_token
from service.runtime import Runtime
from service.web.declarations import Declarations, PipelineJson, TriggerJson


@click.group()
def pipelines() -> None:
    """List and show pipelines."""


@pipelines.command("list")
@project_option
@json_option
def list_pipelines(projects: tuple[Path, ...], as_json: bool) -> None:
    """List the pipelines of the project; broken ones are reported by `millrace check`."""
    with opened(projects) as runtime:
        found = Declarations(runtime).pipelines(None)
        is_single = len(runtime.projects.all()) == 1
    if as_json:
        print_json({"items": [pipeline.model_dump(mode="json") for pipeline in found], "next": None})
        return
    print_table(
        ("pipeline", "blocks", "triggers", "description"),
        [
            (
                pipeline.name if is_single else f"{pipeline.project}/{pipeline.name}",
                len(pipeline.blocks),
                ", ".join(trigger.name for trigger in pipeline.triggers) or None,
                pipeline.description or None,
            )
            for pipeline in found
        ],
        empty="There is no pipeline that can run. `millrace check` says why.",
    )


@pipelines.command()
@click.argument("pipeline")
@project_option
@json_option
def show(pipeline: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Show a pipeline: its inputs, blocks and triggers, with the address and token of each webhook."""
    with opened(projects) as runtime:
        project, declared = pipeline_called(runtime, pipeline)
        described = Declarations(runtime).pipeline(project.name, declared.name)
        webhooks = {
            trigger.name: _webhook(runtime, trigger)
            for trigger in described.triggers
            if trigger.type is TriggerType.WEBHOOK
        }
    if as_json:
        print_json(_json_of(described, webhooks))
    else:
        _print(described, webhooks)


def _webhook(runtime: Runtime, trigger: TriggerJson) -> dict[str, str | None]:
    settings = runtime.settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "address": f"http://{host}:{settings.port}{trigger.url}",
        "token": trigger_token(runtime, trigger.project, trigger.pipeline, trigger.name),
    }


def _json_of(described: PipelineJson, webhooks: dict[str, dict[str, str | None]]) -> dict[str, Any]:
    value: dict[str, Any] = described.model_dump(mode="json")
    for trigger in value["triggers"]:
        trigger.update(webhooks.get(trigger["name"], {}))
    return value


def _print(described: PipelineJson, webhooks: dict[str, dict[str, str | None]]) -> None:
    out = console()
    print_fields(
        (
            ("pipeline", described.name),
            ("description", described.description),
            ("file", described.file),
            ("tags", ", ".join(described.tags)),
            ("variables", dict(described.variables)),
        )
    )
    if described.inputs:
        out.print()
        rows: list[tuple[Any, ...]] = [
            (
                declared.name,
                declared.type,
                "required" if declared.required else declared.default,
                ", ".join(map(str, declared.choices)) or None,
                declared.description or None,
            )
            for declared in described.inputs
        ]
        out.print(table(("input", "type", "default", "one of", "description"), rows))
    out.print()
    rows = [
        (block.name, block.type, block.language, ", ".join(block.upstream) or None, block.path)
        for block in described.blocks
    ]
    out.print(table(("block", "type", "language", "after", "file"), rows))
    for trigger in described.triggers:
        out.print()
        _print_trigger(trigger, webhooks.get(trigger.name, {}))


def _print_trigger(trigger: TriggerJson, webhook: dict[str, str | None]) -> None:
    state = "off" if not trigger.enabled else "paused" if trigger.paused else "on"
    fields: list[tuple[str, object]] = [
        ("trigger", trigger.name),
        ("type", f"{trigger.type} ({state})"),
        *((name, value) for name, value in trigger.fires.items()),
    ]
    if webhook:
        fields += [("address", webhook["address"]), ("verified by", trigger.verify)]
        if webhook["token"]:
            fields.append(("token", webhook["token"]))
            fields.append(("send as", "Authorization: Bearer <token>"))
    print_fields(fields)
