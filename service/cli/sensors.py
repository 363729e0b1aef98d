"""`millrace sensors`: where sensors stand, ticking them by hand, and setting them anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from service.cli.opened import opened
from service.cli.options import json_option, project_option
from service.cli.output import duration, print_fields, print_json, print_table, styled, when
from service.runtime import Runtime, build_dispatcher
from service.store import triggers as trigger_store
from service.store.sensors import SensorTick
from service.store.session import Commit
from service.watching.dry import DryTicks
from service.watching.watcher import SensorTickError, Watcher
from service.web.sensor_views import (
    DryEventJson,
    DryTickJson,
    Existing,
    SensorDetailJson,
    SensorJson,
    SensorTickJson,
    SensorViews,
)

_NAME = "NAME is PIPELINE/TRIGGER, or TRIGGER alone where only one pipeline has a sensor of that name."
_LONGEST_CURSOR = 300


@click.group()
def sensors() -> None:
    """List, tick, reset, pause and resume sensors."""


@sensors.command("list")
@click.option("--pipeline", help="Only of this pipeline.")
@project_option
@json_option
def list_sensors(pipeline: str | None, projects: tuple[Path, ...], as_json: bool) -> None:
    """List the sensors of the project, each with its last tick."""
    with opened(projects) as runtime:
        found = SensorViews(runtime).all(None, pipeline)
    if as_json:
        print_json({"items": [one.model_dump(mode="json") for one in found], "next": None})
        return
    print_table(
        ("sensor", "type", "every", "state", "last tick", "result"),
        [(_path(one), one.sensor, one.every, _state(one), *_last(one.last_tick)) for one in found],
        empty="No pipeline has a trigger of the type sensor.",
    )


@sensors.command(epilog=_NAME)
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Ticks shown.")
@project_option
@json_option
def show(name: str, count: int, projects: tuple[Path, ...], as_json: bool) -> None:
    """Show where a sensor stands, and its last ticks."""
    with opened(projects) as runtime:
        one = _detail(runtime, name, count)
    if as_json:
        print_json(one.model_dump(mode="json"))
        return
    print_fields(
        [
            ("sensor", _path(one)),
            ("project", one.project),
            ("type", one.sensor),
            ("every", one.every),
            ("state", _state(one)),
            ("cursor", _cut(one.cursor)),
        ]
    )
    print_table(
        ("tick", "took", "seen", "new", "known", "filtered", "left", "result"),
        [_row(tick) for tick in one.ticks],
        empty="It has not ticked yet.",
    )


@sensors.command(epilog=_NAME)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Show what a tick would find and start; write nothing.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Events shown of each state.",
)
@project_option
@json_option
def tick(name: str, dry_run: bool, limit: int, projects: tuple[Path, ...], as_json: bool) -> None:
    """Tick a sensor now, whenever it is due.

    What it finds is recorded, and runs are queued for a service that serves this project. Exits with 1 when
    the tick failed.
    """
    with opened(projects) as runtime:
        if dry_run:
            found = _tick_dry(runtime, name, limit)
            print_json(found.model_dump(mode="json")) if as_json else _tell_dry(found)
            if found.error is not None:
                raise click.exceptions.Exit(1)
            return
        result = _tick(runtime, name)
    if as_json:
        print_json(_counts(result))
        return
    _tell(result)


@sensors.command(epilog=_NAME)
@click.argument("name")
@click.option(
    "--existing",
    type=click.Choice(["ignore", "trigger"]),
    required=True,
    help="What is there and not yet known: ignore makes it baseline, trigger makes it events.",
)
@project_option
@json_option
def reset(name: str, existing: Existing, projects: tuple[Path, ...], as_json: bool) -> None:
    """Forget where a sensor stands: its next tick looks as if for the first time.

    What is known stays known, so nothing starts twice; `millrace events replay` does things again.
    """
    with opened(projects) as runtime:
        one = _detail(runtime, name, 1)
        SensorViews(runtime).reset(one.project, one.pipeline, one.trigger, existing)
    if as_json:
        print_json({"sensor": _path(one), "existing": existing})
    else:
        click.echo(f"{_path(one)} is reset; its next tick looks as if for the first time ({existing})")


@sensors.command(epilog=_NAME)
@click.argument("name")
@project_option
@json_option
def pause(name: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Pause a sensor's trigger: it goes on watching, and its events are held until it is resumed."""
    with opened(projects) as runtime:
        one = _detail(runtime, name, 1)
        place = (one.project, one.pipeline, one.trigger)
        runtime.database.write(Commit.TRIGGER, lambda tx: trigger_store.pause(tx, *place))
    if as_json:
        print_json({"sensor": _path(one), "paused": True})
    else:
        click.echo(f"{_path(one)} is paused; its events are held")


@sensors.command(epilog=_NAME)
@click.argument("name")
@project_option
@json_option
def resume(name: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Resume a sensor's trigger and let the events go that it held, oldest first."""
    with opened(projects) as runtime:
        one = _detail(runtime, name, 1)
        released = build_dispatcher(runtime).release(one.project, one.pipeline, one.trigger)
    if as_json:
        print_json({"sensor": _path(one), "paused": False, "released": released})
    else:
        click.echo(f"{_path(one)} is resumed; {released} held events were let go")


def _detail(runtime: Runtime, name: str, ticks: int) -> SensorDetailJson:
    """Return the sensor called `name`, `pipeline/name` or `project/pipeline/name`."""
    views = SensorViews(runtime)
    *path, own_name = name.split("/")
    default = runtime.projects.default.name
    found = [
        one
        for one in views.all(None, None)
        if one.trigger == own_name
        and path == [one.project, one.pipeline][2 - len(path) :]
        and (len(path) == 2 or one.project == default)
    ]
    if len(found) != 1:
        known = ", ".join(map(_path, found or views.all(None, None))) or "none"
        trouble = f"{name!r} is one of several" if found else f"there is no sensor {name!r}"
        raise click.UsageError(f"{trouble}; there are: {known}")
    (one,) = found
    return views.one(one.project, one.pipeline, one.trigger, ticks=ticks)


def _tick_dry(runtime: Runtime, name: str, limit: int) -> DryTickJson:
    one = _detail(runtime, name, 1)
    compiled = SensorViews(runtime).compiled(one.project, one.pipeline, one.trigger)
    return DryTickJson.of(DryTicks(runtime, build_dispatcher(runtime)).tick(compiled, limit=limit))


def _tick(runtime: Runtime, name: str) -> SensorTick:
    one = _detail(runtime, name, 1)
    compiled = SensorViews(runtime).compiled(one.project, one.pipeline, one.trigger)
    with _watcher(runtime) as watcher:
        try:
            result = watcher.tick(compiled, runtime.clock())
        except SensorTickError as error:
            raise click.ClickException(str(error)) from error
    if result is None:
        raise click.ClickException(f"an engine is ticking {_path(one)} at this moment; see `sensors show`")
    return result


@contextmanager
def _watcher(runtime: Runtime) -> Iterator[Watcher]:
    watcher = Watcher(runtime, build_dispatcher(runtime))
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.close()


def _counts(result: SensorTick) -> dict[str, Any]:
    return {
        "seen": result.seen,
        "new": result.new,
        "duplicate": result.duplicate,
        "filtered": result.filtered,
        "capped": result.capped,
        "reconciled": result.reconciled,
        "reason": result.reason,
    }


def _tell(result: SensorTick) -> None:
    why = f": {result.reason}" if result.reason else ""
    click.echo(f"{result.seen} seen, {result.new} new, {result.duplicate} known{why}")


def _tell_dry(found: DryTickJson) -> None:
    print_table(
        ("state", "type", "key", "would"),
        [(styled(one.state), one.type, one.key, _would(one)) for one in found.events],
        empty="Nothing is there that a tick would report." if found.error is None else "The tick failed.",
    )
    hidden = Counter({"new": found.new, "baseline": found.baseline, "known": found.known})
    click.echo(", ".join(f"{count} {state}" for state, count in hidden.items()) + "; nothing was written")
    for sentence in (found.ended, found.error):
        if sentence:
            click.echo(sentence, err=True)


def _would(one: DryEventJson) -> str:
    """Say what would become of the event."""
    parts = []
    for match in one.matches:
        values = f" with {match.variables}" if match.variables else ""
        reason = f": {match.reason}" if match.reason else ""
        parts.append(f"{match.pipeline}/{match.trigger} {match.outcome}{reason}{values}")
    return "; ".join(parts)


def _row(tick: SensorTickJson) -> tuple[object, ...]:
    took = duration(tick.started_at, tick.finished_at)
    return (
        when(tick.tick_at),
        took,
        tick.seen,
        tick.new,
        tick.duplicate,
        tick.filtered,
        tick.capped,
        _result(tick),
    )


def _last(tick: SensorTickJson | None) -> tuple[object, object]:
    return (None, None) if tick is None else (when(tick.finished_at), _result(tick))


def _result(tick: SensorTickJson) -> object:
    if tick.error is not None:
        return f"failed: {tick.error}"
    missed = f"{tick.reconciled} without a notification" if tick.reconciled else ""
    return "; ".join(filter(None, (missed, tick.reason or f"{tick.new} new")))


def _state(one: SensorJson) -> Any:
    if not one.enabled:
        return styled("off")
    return styled("paused" if one.paused else "running" if one.ticking else "on")


def _cut(cursor: Any) -> str | None:
    text = None if cursor is None else str(cursor)
    return text if text is None or len(text) <= _LONGEST_CURSOR else text[:_LONGEST_CURSOR] + " …"


def _path(one: SensorJson) -> str:
    return f"{one.pipeline}/{one.trigger}"
