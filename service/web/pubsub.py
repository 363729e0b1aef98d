"""Doors for Pub/Sub push: `/pubsub/<pipeline>/<trigger>`."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response

from service.dispatcher import Dispatcher
from service.intake.doors import PUSH_PREFIX
from service.intake.refusals import Refused
from service.web.deliveries import answer_to, deliver
from service.web.entrance import Entrance
from service.web.parts import WebParts


def blueprint(parts: WebParts) -> Blueprint:
    """Build the routes. They answer to POST only, and to each other method with 405."""
    push = Push(parts.dispatcher, parts.runtime.settings.max_body_bytes)
    built = Blueprint("pubsub", __name__)
    for rule, endpoint in (
        ("/pubsub/<path:rest>", "receive"),
        ("/projects/<project>/pubsub/<path:rest>", "receive_for_project"),
    ):
        built.add_url_rule(rule, endpoint, push.receive, methods=["POST"], provide_automatic_options=False)
    built.register_error_handler(Refused, lambda refused: answer_to(refused).response())
    return built


class Push:
    """Pub/Sub takes a 204 for an ack; whatever else it hears, it sends the message again."""

    def __init__(self, dispatcher: Dispatcher, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._entrance = Entrance(dispatcher, max_body_bytes)

    def receive(self, rest: str, project: str | None = None) -> Response:
        door, arrival = self._entrance.enter(project, f"{PUSH_PREFIX}{rest}")
        deliver(self._dispatcher, door, arrival)
        return Response(status=HTTPStatus.NO_CONTENT)
