"""`millrace trigger`: what starts pipelines, and doing it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sensors.event import Event
from service.cli.opened import json_of, opened
from service.cli.options import Moment, json_option, project_option
from service.cli.output import print_json, print_table, styled, when
from service.cli.tokens import compiled_trigger
from service.clocks.preview import TIMED, Preview, upcoming, without_moments
from service.matching.releasing import Held
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime, build_dispatcher
from service.store import triggers as trigger_store
from service.store.ids import new_id
from service.store.session import Commit
from service.store.values import Outcome, Recorded
from service.web.declarations import Declarations, TriggerJson

_NAME = "TRIGGER is PIPELINE/NAME, or NAME alone where only one pipeline has a trigger of that name."


@click.group()
def trigger() -> None:
    """List, pause, resume and fire triggers; when they are due."""


@trigger.command("list")
@click.option("--pipeline", help="Only of this pipeline.")
@project_option
@json_option
def list_triggers(pipeline: str | None, projects: tuple[Path, ...], as_json: bool) -> None:
    """List the triggers of the project."""
    with opened(projects) as runtime:
        found = Declarations(runtime).triggers(None, pipeline)
        default = runtime.projects.default.name
    if as_json:
        print_json({"items": [one.model_dump(mode="json") for one in found], "next": None})
        return
    print_table(
        ("trigger", "type", "state", "fires"),
        [(_listed([one], default), one.type, _state(one), _fires(one)) for one in found],
        empty="No pipeline has a trigger that works. `millrace check` reports those that are wrong.",
    )


@trigger.command(epilog=_NAME)
@click.argument("name", metavar="TRIGGER")
@project_option
@json_option
def pause(name: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Pause a trigger: what arrives is accepted and held until it is resumed."""
    with opened(projects) as runtime:
        one = _find(runtime, name)
        runtime.database.write(
            Commit.TRIGGER, lambda tx: trigger_store.pause(tx, one.project, one.pipeline, one.name)
        )
    if as_json:
        print_json({"trigger": _path(one), "paused": True})
    else:
        click.echo(f"{_path(one)} is paused; its events are held")


@trigger.command(epilog=_NAME)
@click.argument("name", metavar="TRIGGER")
@click.option(
    "--held",
    "choice",
    type=click.Choice([str(one) for one in Held]),
    default=str(Held.RUN),
    show_default=True,
    help="What becomes of the held events: all run, oldest first; only the latest of each key; or none.",
)
@project_option
@json_option
def resume(name: str, choice: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Resume a paused trigger, and let the events go that it held, or only some of them."""
    with opened(projects) as runtime:
        one = _find(runtime, name)
        released = build_dispatcher(runtime).release(one.project, one.pipeline, one.name, Held(choice))
    if as_json:
        print_json({"trigger": _path(one), "paused": False, "released": released})
    else:
        ends = "were dropped" if choice == Held.DROP else "were let go"
        click.echo(f"{_path(one)} is resumed; {released} held events {ends}")


@trigger.command("next", epilog=_NAME)
@click.argument("name", metavar="TRIGGER")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many.")
@click.option("--after", type=Moment(), metavar="TIME", help="Count from this time. [default: now]")
@project_option
@json_option
def show_next(
    name: str, count: int, after: datetime | None, projects: tuple[Path, ...], as_json: bool
) -> None:
    """Show when a schedule, a sensor or an expectation is due next: in UTC and on the clocks of its zone."""
    with opened(projects) as runtime:
        one = _find(runtime, name)
        if one.type not in TIMED:
            raise click.UsageError(f"{_path(one)} is a {one.type} trigger, which nobody knows the times of")
        declared = compiled_trigger(runtime, one.project, one.pipeline, one.name).trigger
        due = list(islice(upcoming(declared, after or runtime.clock()), count))
    remark = without_moments(declared)
    if as_json:
        print_json(_next_json(one, due, remark))
        return
    if remark:
        click.echo(remark, err=True)
    else:
        rows = [
            (when(each.utc), f"{each.local:%a %Y-%m-%d %H:%M:%S %Z}", each.clock_change or "") for each in due
        ]
        print_table(("utc", "local", ""), rows, empty="It is not due any more: its `end` has passed.")


def _next_json(one: TriggerJson, due: Sequence[Preview], remark: str | None) -> dict[str, Any]:
    return {
        "trigger": _path(one),
        "next": [when(each.utc) for each in due],
        "ticks": [
            {"utc": when(each.utc), "local": each.local.isoformat(), "clock_change": each.clock_change}
            for each in due
        ],
        "remark": remark,
    }


@trigger.command(epilog=_NAME)
@click.argument("name", metavar="TRIGGER")
@click.option(
    "--data", default="null", metavar="JSON", help="Data of the event, as a webhook's body would be."
)
@click.option("--key", help="Key of the event; the same key starts nothing twice. [default: a fresh one]")
@project_option
@json_option
def fire(name: str, data: str, key: str | None, projects: tuple[Path, ...], as_json: bool) -> None:
    """Fire a trigger by hand: an event with your data passes its filter and its mapping, and starts its run.

    The run is queued: a service that serves this project takes it. Exits with 1 when no run was started.
    """
    with opened(projects) as runtime:
        one = _find(runtime, name)
        compiled = compiled_trigger(runtime, one.project, one.pipeline, one.name)
        recorded = _fire(runtime, compiled, data=_json(data), key=key or new_id())
    if as_json:
        print_json(
            {
                "event_id": recorded.event_id,
                "outcome": recorded.outcome,
                "reason": recorded.reason,
                "run_ids": list(recorded.run_ids),
                "duplicate": recorded.duplicate,
            }
        )
    else:
        _tell(recorded)
    if not recorded.run_ids and recorded.outcome is not Outcome.HELD:
        raise click.exceptions.Exit(1)


def _fire(runtime: Runtime, compiled: CompiledTrigger, *, data: Any, key: str) -> Recorded:
    event = Event(
        source=f"manual:{compiled.pipeline.name}/{compiled.name}",
        key=key,
        type="manual.fired",
        time=runtime.clock(),
        data=data,
    )
    dispatcher = build_dispatcher(runtime)
    planned = replace(dispatcher.plan(compiled.project, event, [compiled]), road="cli:fire")
    (answer,) = runtime.database.write(Commit.ACCEPT, lambda tx: dispatcher.record_page(tx, [planned]))
    if isinstance(answer, Exception):
        raise answer
    return answer


def _json(text: str) -> Any:
    try:
        return json_of(text)
    except ValueError as error:
        raise click.UsageError(f"--data is not JSON: {error}; write text in double quotes") from error


def _find(runtime: Runtime, name: str) -> TriggerJson:
    """Return the trigger called `name`, `pipeline/name` or `project/pipeline/name`."""
    *path, own_name = name.split("/")
    default = runtime.projects.default.name
    found = [
        one
        for one in Declarations(runtime).triggers(None, None)
        if one.name == own_name
        and path == [one.project, one.pipeline][2 - len(path) :]
        and (len(path) == 2 or one.project == default)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.UsageError(f"{name!r} is one of {_listed(found, default)}; say which")
    known = _listed(Declarations(runtime).triggers(None, None), default) or "none"
    raise click.UsageError(f"there is no trigger {name!r}; there are: {known}")


def _path(one: TriggerJson) -> str:
    return f"{one.pipeline}/{one.name}"


def _listed(found: Sequence[TriggerJson], default: str) -> str:
    """Return their names as this command takes them."""
    return ", ".join(_path(one) if one.project == default else f"{one.project}/{_path(one)}" for one in found)


def _state(one: TriggerJson) -> Any:
    if not one.enabled:
        return styled("off")
    state = "paused" if one.paused else "on"
    return f"{state}, holds {one.held}" if one.held else styled(state)


def _fires(one: TriggerJson) -> str:
    facts = [str(one.url)] if one.url else []
    facts += [f"{name} {value}" for name, value in one.fires.items()]
    return ", ".join(facts)


def _tell(recorded: Recorded) -> None:
    reason = f": {recorded.reason}" if recorded.reason else ""
    click.echo(f"event {recorded.event_id} {recorded.outcome}{reason}")
    for run_id in recorded.run_ids:
        click.echo(f"run {run_id}")
