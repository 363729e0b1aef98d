"""Between a request and the dispatcher: reads the delivery, waits for its commit, answers refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

import structlog
from flask import Request

from service.dispatcher import Dispatcher
from service.errors import CommitUnknown, StoreUnavailable
from service.intake.doors import Door
from service.intake.refusals import Cause, Refused
from service.matching.planning import Arrival
from service.store.values import Recorded
from service.web.bodies import BodyBroken, BodyTooLarge, read_body
from service.web.problems import Refusal

logger = structlog.get_logger(__name__)

COMMIT_SECONDS = 15.0  # a commit that takes longer is answered as one whose fate is unknown
STORE_RETRY_SECONDS = 5

# What a sender is told. Constant: whoever is refused learns nothing about the webhook.
_ANSWERS: Mapping[Cause, tuple[HTTPStatus, str]] = {
    Cause.UNKNOWN: (HTTPStatus.NOT_FOUND, "There is no webhook at this address."),
    Cause.UNVERIFIED: (HTTPStatus.UNAUTHORIZED, "The delivery could not be verified."),
    Cause.TOO_LARGE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large."),
    Cause.BROKEN_OFF: (HTTPStatus.BAD_REQUEST, "The body did not come whole. Send it again."),
    Cause.NO_MESSAGE_ID: (
        HTTPStatus.BAD_REQUEST,
        "The message has no id. Let the subscription send its messages wrapped, or with their metadata.",
    ),
    Cause.OVER_RATE: (HTTPStatus.TOO_MANY_REQUESTS, "Too many deliveries. Send this one again later."),
    Cause.QUEUE_FULL: (HTTPStatus.TOO_MANY_REQUESTS, "Too many runs wait. Send this one again later."),
    Cause.UNDECIDED: (HTTPStatus.SERVICE_UNAVAILABLE, "The delivery cannot be verified now. Send it again."),
    Cause.NO_CLOUDEVENT: (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Send CloudEvents 1.0 over HTTP: binary, structured as JSON, or a batch as JSON.",
    ),
    Cause.BUSY: (HTTPStatus.SERVICE_UNAVAILABLE, "The delivery was not stored. Send it again."),
    Cause.BROKEN: (HTTPStatus.SERVICE_UNAVAILABLE, "The webhook cannot work now. Send this one again later."),
}


def answer_to(refused: Refused) -> Refusal:
    """Return what the sender of a refused delivery gets."""
    status, detail = _ANSWERS[refused.cause]
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return Refusal(status, detail, headers=headers)


def read_arrival(request: Request, limit: int) -> Arrival:
    """Read the request as it came over the wire. Raises Refused for a body over `limit`, or not whole."""
    environ = request.environ
    return Arrival(
        body=_read_body(request, limit),
        headers=_headers(environ),
        url=f"{request.scheme}://{environ.get('HTTP_HOST', '')}{environ.get('RAW_URI', '')}",
        query=request.args if environ.get("QUERY_STRING") else {},
        address=request.remote_addr,
    )


def deliver(dispatcher: Dispatcher, door: Door, arrival: Arrival) -> Recorded:
    """Hand the delivery over and return once it is committed. Raises Refused."""
    return committed(dispatcher.accept(door, arrival), door.source)


def committed(future: Future[Recorded], road: str) -> Recorded:
    """Return what became of a delivery, once it is committed. Raises Refused."""
    try:
        return future.result(timeout=COMMIT_SECONDS)
    except (StoreUnavailable, CommitUnknown, TimeoutError) as error:
        logger.warning("delivery was not acknowledged", road=road, error=str(error))
        raise Refused(Cause.BUSY, str(error), retry_after=STORE_RETRY_SECONDS) from error


def answer_body(recorded: Recorded) -> dict[str, Any]:
    """Return the JSON that tells a sender what became of its delivery."""
    body: dict[str, Any] = {
        "event_id": recorded.event_id,
        "outcome": recorded.outcome,
        "run_ids": recorded.run_ids,
        "duplicate": recorded.duplicate,
    }
    if recorded.reason is not None:
        body["reason"] = recorded.reason
    return body


def wait_seconds(request: Request, longest: float) -> float:
    """Read `?wait=`; 0 when it is absent. Raises Refusal when it is no number of seconds."""
    text = request.args.get("wait") if request.environ.get("QUERY_STRING") else None
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise Refusal(HTTPStatus.BAD_REQUEST, "`wait` must be a number of seconds, 0 or more.")
    return min(seconds, longest)


def _read_body(request: Request, limit: int) -> bytes:
    try:
        return read_body(request, limit)
    except BodyTooLarge:
        raise Refused(Cause.TOO_LARGE, f"the body has more than {limit} bytes") from None
    except BodyBroken:
        raise Refused(Cause.BROKEN_OFF) from None


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    found = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        found["content-type"] = environ["CONTENT_TYPE"]
    return found
