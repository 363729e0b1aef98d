"""The door for CloudEvents: `/cloudevents`, and `/projects/<project>/cloudevents`."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from flask import Blueprint, Response, request

from service.dispatcher import Dispatcher
from service.intake.cloud_doors import ROAD, CloudDoor
from service.intake.cloudevents import is_batch
from service.intake.refusals import Refused
from service.matching.planning import Arrival
from service.web.deliveries import answer_body, answer_to, committed
from service.web.entrance import Entrance
from service.web.parts import WebParts
from service.web.problems import Refusal

_ALLOWED = "POST, OPTIONS"
_ORIGIN = re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII)  # a name of DNS, by the words of the specification
_RATE = re.compile(r"[0-9]{1,9}", re.ASCII)
_ANY = "*"


def blueprint(parts: WebParts) -> Blueprint:
    """Build the routes. To methods other than POST and OPTIONS they answer with 405."""
    door = CloudEvents(parts.dispatcher, parts.runtime.settings.max_body_bytes)
    built = Blueprint("cloudevents", __name__)
    for rule, endpoint in (
        ("/cloudevents", "receive"),
        ("/projects/<project>/cloudevents", "receive_for_project"),
    ):
        built.add_url_rule(
            rule, endpoint, door.receive, methods=["POST", "OPTIONS"], provide_automatic_options=False
        )
    built.register_error_handler(Refused, lambda refused: answer_to(refused).response())
    return built


class CloudEvents:
    """Answers events that are posted, and senders that ask whether they may send."""

    def __init__(self, dispatcher: Dispatcher, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._entrance = Entrance(dispatcher, max_body_bytes)

    def receive(self, project: str | None = None) -> Response:
        door = self._dispatcher.cloud_door(project)
        arrival = self._entrance.read(project, ROAD, None if door is None else door.max_body_bytes)
        if door is None:
            raise self._entrance.unknown(project, ROAD, "the project takes no CloudEvents", arrival)
        if request.method == "OPTIONS":
            return _handshake(door)
        return self._take(door, arrival)

    def _take(self, door: CloudDoor, arrival: Arrival) -> Response:
        futures = self._dispatcher.accept_cloudevents(door, arrival)
        recorded = [committed(future, door.source) for future in futures]
        is_news = not recorded or any(not one.duplicate for one in recorded)
        bodies = [answer_body(one) for one in recorded]
        shown = bodies if is_batch(arrival.headers) else bodies[0]
        status = HTTPStatus.ACCEPTED if is_news else HTTPStatus.OK
        return Response(json.dumps(shown), status, content_type="application/json")


def _handshake(door: CloudDoor) -> Response:
    """Answer a sender that asks, as the web hook binding of CloudEvents has it, whether it may send here.

    That is no proof of who it is: each delivery is verified all the same. A callback that it names is not
    called, because the answer is known at once.
    """
    origin = request.headers.get("WebHook-Request-Origin")
    if origin is None:
        return Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": _ALLOWED})
    if not _ORIGIN.fullmatch(origin):
        raise Refusal(HTTPStatus.BAD_REQUEST, "WebHook-Request-Origin must be a DNS name.")
    if not door.may_ask(origin):
        raise Refusal(HTTPStatus.FORBIDDEN, "This origin may not send here.")
    headers = {"Allow": _ALLOWED, "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": _rate(door)}
    return Response(status=HTTPStatus.OK, headers=headers)


def _rate(door: CloudDoor) -> str:
    """Return the requests a minute that the sender gets: what it asks for, as far as the door allows it."""
    asked = request.headers.get("WebHook-Request-Rate", _ANY)
    if asked != _ANY and not _RATE.fullmatch(asked):
        raise Refusal(HTTPStatus.BAD_REQUEST, "WebHook-Request-Rate must be a number a minute, or *.")
    if door.per_minute is None:
        return asked
    return str(door.per_minute if asked == _ANY else min(int(asked), door.per_minute))
