"""From a request to the door it knocks at, and what it brings."""

from __future__ import annotations

from contextlib import suppress

from flask import request

from service.dispatcher import Dispatcher
from service.intake.doors import Door
from service.intake.refusals import Cause, Refused, check_authentic
from service.intake.verify.base import Signed
from service.intake.verify.registry import build_scheme
from service.matching.planning import Arrival
from service.web.deliveries import read_arrival


class Entrance:
    """Shared by all kinds of doors, so that an address without one looks alike everywhere."""

    def __init__(self, dispatcher: Dispatcher, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        # Checked for nobody, so that an address without a door costs what one with a bad signature costs.
        self._decoy = build_scheme({"scheme": "hmac", "secret": "decoy", "header": "x-decoy"})

    def enter(self, project: str | None, address: str) -> tuple[Door, Arrival]:
        """Return the door at the address and the delivery of the request in hand. Raises Refused."""
        door = self._dispatcher.door(project, address)
        road = f"address:{address}" if door is None else door.source
        arrival = self.read(project, road, None if door is None else door.max_body_bytes)
        if door is None:
            raise self.unknown(project, road, Cause.UNKNOWN, arrival)
        return door, arrival

    def read(self, project: str | None, road: str, max_body_bytes: int | None) -> Arrival:
        """Return the delivery of the request in hand. Raises Refused, which is noted."""
        try:
            return read_arrival(request, max_body_bytes or self._max_body_bytes)
        except Refused as refused:
            self._dispatcher.refuse(project, road, refused.reason, request.remote_addr)
            raise

    def unknown(self, project: str | None, road: str, reason: str, arrival: Arrival) -> Refused:
        """Return the refusal of a delivery that found no door; it is noted."""
        with suppress(Refused):
            check_authentic(self._decoy, Signed(arrival.body, arrival.headers), self._dispatcher.now())
        self._dispatcher.refuse(project, road, reason, arrival.address)
        return Refused(Cause.UNKNOWN)
