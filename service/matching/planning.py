"""From an event, or a delivery of one, to what is recorded: the event and what each trigger makes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pipelines.templating import TemplateError
from sensors.event import Event, bounded_key
from sensors.gcs_news import from_body
from sensors.payloads import Payload, read_payload
from service.intake.doors import Door
from service.intake.pubsub_push import pushed_event
from service.intake.redaction import REDACTED, redacted
from service.matching.decisions import MAX_HOPS, Circumstances, Interval, decide, outcome_of
from service.matching.listeners import Listeners
from service.matching.mapping import MappingError, plain
from service.matching.retention import NO_ENDS, Ends, Lifetime, ends_of
from service.matching.triggers import CompiledTrigger, StateKey
from service.store.ids import new_id
from service.store.values import NewEvent, NewMatch, Outcome, StoredEvent

WEBHOOK_RECEIVED = "webhook.received"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery at a door, as it came. `headers` has lower-case names and unredacted values."""

    body: bytes
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(default="", repr=False)  # its query may hold a token
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What is true while an event is planned."""

    now: datetime
    paused: frozenset[StateKey] = frozenset()
    watching: frozenset[StateKey] = frozenset()  # triggers whose sensors have had their first sight
    interval: Interval | None = None
    kept: Lifetime = field(default_factory=Lifetime)  # by the service, where triggers do not say
    max_hops: int = MAX_HOPS

    def is_paused(self, compiled: CompiledTrigger) -> bool:
        return compiled.is_paused_by_file or compiled.state_key in self.paused

    def ends(self, concerned: Sequence[CompiledTrigger]) -> Ends:
        """Return when an event that comes now, and concerns these triggers, is deleted."""
        return ends_of([compiled.lifetime for compiled in concerned], self.now, self.kept)


def plan_event(
    project: str, event: Event, triggers: Sequence[CompiledTrigger], moment: Moment, *, road: str
) -> NewEvent:
    """Match an event to the triggers that it concerns. `road`: the way it came by."""
    event_id = new_id()
    event, text = _checked(event)
    matches = tuple(_decide(compiled, event, event_id, moment) for compiled in triggers)
    ends = moment.ends(triggers)
    return _new_event(project, event, event_id, matches, moment, text=text, road=road, ends=ends)


def plan_baseline(
    project: str, event: Event, compiled: CompiledTrigger, moment: Moment, *, road: str
) -> NewEvent:
    """Record what was there at the first sight of a trigger's sensor; for that trigger it starts nothing."""
    event, text = _checked(event)
    match = NewMatch(compiled.pipeline.name, compiled.name, Outcome.BASELINE, "it was there at first sight")
    ends = moment.ends([compiled])
    return _new_event(project, event, new_id(), (match,), moment, text=text, road=road, ends=ends)


def plan_delivery(door: Door, arrival: Arrival, listeners: Listeners, moment: Moment) -> NewEvent:
    """Match an authentic delivery to the trigger behind its door, and to those that listen for it."""
    event_id = new_id()
    event, text = _received(door, arrival, moment)
    try:
        event = _keyed(door.compiled, event, event_id)
    except (TemplateError, MappingError) as error:
        concerned = [door.compiled]
        matches: tuple[NewMatch, ...] = (_without_key(door.compiled, str(error), moment),)
    else:
        concerned = listeners.concerned(event, [door.compiled], moment.watching)
        matches = tuple(_decide(compiled, event, event_id, moment) for compiled in concerned)
    return _new_event(
        door.compiled.project,
        event,
        event_id,
        matches,
        moment,
        text=text,
        road=door.source,
        ends=moment.ends(concerned),
    )


def _received(door: Door, arrival: Arrival, moment: Moment) -> tuple[Event, str | None]:
    """Return the delivery's event, and its data as JSON. Raises Refused."""
    if door.is_push:
        return _checked(pushed_event(door, arrival.body, arrival.headers, moment.now))
    content_type = arrival.headers.get("content-type")
    payload = read_payload(arrival.body, content_type, door.form, arrival.headers.get("content-encoding", ""))
    headers = redacted(arrival.headers, door.scheme.secret_headers if door.scheme else frozenset())
    news = from_body(payload.data) if door.takes_news else None
    if news is not None:
        return _checked(replace(news, headers=headers))
    event = Event(
        source=door.source,
        key=_default_key(door, arrival, payload),
        type=WEBHOOK_RECEIVED,
        time=moment.now,
        data=payload.data,
        headers=headers,
        raw=payload.raw,
        content_type=content_type,
        quarantine=payload.quarantine,
    )
    return event, payload.text


def _decide(compiled: CompiledTrigger, event: Event, event_id: str, moment: Moment) -> NewMatch:
    circumstances = Circumstances(
        event_id, moment.now, moment.is_paused(compiled), moment.interval, moment.max_hops
    )
    return decide(compiled, event, circumstances)


def _default_key(door: Door, arrival: Arrival, payload: Payload) -> str:
    """By the body where the trigger says so, else the sender's id, else a fresh one for every delivery."""
    if door.is_keyed_by_body:
        return f"sha256:{hashlib.sha256(arrival.body).hexdigest()}"
    given = door.scheme.delivery_id(arrival.headers, payload.data) if door.scheme else None
    return bounded_key(given or arrival.headers.get("idempotency-key") or new_id())


def _keyed(compiled: CompiledTrigger, event: Event, event_id: str) -> Event:
    """Return the event under the key of the trigger's template. An unreadable event keeps its default key."""
    if compiled.key is None or event.quarantine is not None:
        return event
    key = compiled.key.evaluate(event=event.as_template_value(event_id))
    if isinstance(key, bool) or not isinstance(key, str | int | float) or key == "":
        raise MappingError(f"the trigger's `key` gave {key!r}"[:200] + "; it must be a text or a number")
    if isinstance(key, str) and REDACTED in key:
        raise MappingError("the trigger's `key` reads a header that is redacted, the same for all deliveries")
    return replace(event, key=bounded_key(str(plain(key, "the trigger's `key`"))))


def _without_key(compiled: CompiledTrigger, reason: str, moment: Moment) -> NewMatch:
    if not moment.is_paused(compiled):
        outcome = Outcome.MAPPING_FAILED
    else:
        outcome = Outcome.SKIPPED if compiled.drops_while_paused else Outcome.HELD
    return NewMatch(compiled.pipeline.name, compiled.name, outcome, reason)


def _checked(event: Event) -> tuple[Event, str | None]:
    """Return the event and its data as JSON; quarantined when a sensor gave what JSON cannot hold."""
    if event.quarantine is not None or event.data is None:
        return event, None
    try:
        data = plain(event.data, "data")
    except MappingError as error:
        return replace(event, data=None, quarantine=str(error)), None
    return replace(event, data=data), json.dumps(data)


def _new_event(
    project: str,
    event: Event,
    event_id: str,
    matches: tuple[NewMatch, ...],
    moment: Moment,
    *,
    text: str | None,
    road: str,
    ends: Ends = NO_ENDS,
) -> NewEvent:
    outcome = Outcome.QUARANTINED if event.quarantine is not None else outcome_of(matches)
    reasons = (match.reason for match in matches if match.outcome is outcome)
    return NewEvent(
        id=event_id,
        project=project,
        source=event.source,
        key=event.key,
        type=event.type,
        time=event.time,
        received_at=moment.now,
        outcome=outcome,
        subject=event.subject,
        reason=event.quarantine or next(reasons, None),
        data=text,
        raw=event.raw,
        content_type=event.content_type,
        headers=event.headers,
        matches=matches,
        road=road,
        shared=event.shared,
        hops=event.hops,
        payload_until=ends.payload_until,
        keep_until=ends.keep_until,
    )


def event_of(stored: StoredEvent) -> Event:
    """Return a stored event as it was when it came, without its raw bytes."""
    return Event(
        source=stored.source,
        key=stored.original_key,
        type=stored.type,
        time=stored.time,
        subject=stored.subject,
        data=stored.data,
        headers=stored.headers,
        hops=stored.hops,
    )
