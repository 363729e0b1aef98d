"""Doors for webhooks: `/webhooks/<pipeline>/<trigger>`, or a path of the trigger's own, and Mage's two."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, request

from pipelines.calls import MAGE_STATUS
from service.dispatcher import Dispatcher
from service.intake.doors import ADDRESS_PREFIX, Door
from service.intake.refusals import Cause, Refused
from service.matching.planning import Arrival
from service.store import runs
from service.store.session import Database
from service.store.values import Recorded, Run
from service.web.deliveries import answer_body, answer_to, deliver, wait_seconds
from service.web.entrance import Entrance
from service.web.parts import WebParts
from service.web.problems import Refusal
from service.web.schemas import iso_time, run_json
from service.web.waiting import RunWaiters


def blueprint(parts: WebParts) -> Blueprint:
    """Build the routes. They answer to POST only, and to each other method with 405."""
    settings = parts.runtime.settings
    waiters = RunWaiters(parts.runtime.database, parts.runtime.wakeups, limit=settings.wait_limit)
    hooks = Webhooks(parts.dispatcher, waiters, settings.max_body_bytes, settings.wait_seconds)
    mage = MageWebhooks(parts.dispatcher, parts.runtime.database, settings.max_body_bytes)
    built = Blueprint("webhooks", __name__)

    def route(rule: str, endpoint: str, view: Callable[..., Response]) -> None:
        built.add_url_rule(rule, endpoint, view, methods=["POST"], provide_automatic_options=False)

    route("/webhooks/<path:rest>", "receive", hooks.receive)
    route("/projects/<project>/webhooks/<path:rest>", "receive_for_project", hooks.receive)
    route(
        "/api/pipeline_schedules/<int:schedule_id>/pipeline_runs/<token>",
        "mage_pipeline_runs",
        mage.pipeline_runs,
    )
    route("/api/pipeline_schedules/<int:schedule_id>/api_trigger", "mage_api_trigger", mage.api_trigger)
    built.register_error_handler(Refused, lambda refused: answer_to(refused).response())
    return built


class Webhooks:
    """Our own addresses."""

    def __init__(
        self, dispatcher: Dispatcher, waiters: RunWaiters, max_body_bytes: int, longest_wait: float
    ) -> None:
        self._dispatcher = dispatcher
        self._entrance = Entrance(dispatcher, max_body_bytes)
        self._waiters = waiters
        self._longest_wait = longest_wait

    def receive(self, rest: str, project: str | None = None) -> Response:
        door, arrival = self._entrance.enter(project, f"{ADDRESS_PREFIX}{rest}")
        seconds = self._seconds(door, project)
        wanted = self._dispatcher.challenge(door, arrival)
        if wanted is not None:
            return Response(wanted, HTTPStatus.OK, content_type="text/plain; charset=utf-8")
        recorded = deliver(self._dispatcher, door, arrival)
        return self._answer(recorded, seconds)

    def _seconds(self, door: Door, project: str | None) -> float:
        try:
            return wait_seconds(request, self._longest_wait)
        except Refusal as refusal:
            self._dispatcher.refuse(project, door.source, refusal.detail, request.remote_addr)
            raise

    def _answer(self, recorded: Recorded, seconds: float) -> Response:
        body = answer_body(recorded)
        run = self._waiters.wait(recorded.run_ids[0], seconds) if seconds and recorded.run_ids else None
        if run is not None:
            return _json({**body, "run": run_json(run)}, HTTPStatus.OK)
        return _json(body, HTTPStatus.OK if recorded.duplicate else HTTPStatus.ACCEPTED)


class MageWebhooks:
    """Mage's addresses. Its schedule ids lie in its own database, so the token finds the trigger."""

    def __init__(self, dispatcher: Dispatcher, database: Database, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._database = database
        self._entrance = Entrance(dispatcher, max_body_bytes)

    def pipeline_runs(self, schedule_id: int, token: str) -> Response:
        return self._receive(schedule_id, token)

    def api_trigger(self, schedule_id: int) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._receive(schedule_id, token.strip() if scheme.lower() == "bearer" else "")

    def _receive(self, schedule_id: int, token: str) -> Response:
        road = f"mage:{schedule_id}"
        door = self._dispatcher.mage_door(token)
        arrival = self._entrance.read(None, road, None if door is None else door.max_body_bytes)
        if door is None:
            self._dispatcher.refuse(None, road, "no trigger has this token", arrival.address)
            raise Refused(Cause.UNVERIFIED)
        # The scheme behind the door wants a bearer, wherever Mage's address had the token.
        bearer = {**arrival.headers, "authorization": f"Bearer {token}"}
        recorded = deliver(self._dispatcher, door, Arrival(arrival.body, bearer, address=arrival.address))
        return self._answer(recorded, schedule_id)

    def _answer(self, recorded: Recorded, schedule_id: int) -> Response:
        body = answer_body(recorded)
        if not recorded.run_ids:
            return _json({"pipeline_run": None, **body}, HTTPStatus.ACCEPTED)
        with self._database.read() as connection:
            run = runs.get(connection, recorded.run_ids[0])
        shown = _mage_run(run, schedule_id) if run is not None else {"id": recorded.run_ids[0]}
        return _json({"pipeline_run": shown, **body}, HTTPStatus.OK)


def _mage_run(run: Run, schedule_id: int) -> dict[str, Any]:
    return {
        "id": run.id,
        "pipeline_schedule_id": schedule_id,
        "pipeline_uuid": run.pipeline,
        "status": MAGE_STATUS[run.state],
        "execution_date": iso_time(run.execution_date),
        "created_at": iso_time(run.created_at),
        "started_at": iso_time(run.started_at) if run.started_at else None,
        "completed_at": iso_time(run.finished_at) if run.finished_at else None,
        "variables": dict(run.variables),
    }


def _json(body: dict[str, Any], status: HTTPStatus) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")
