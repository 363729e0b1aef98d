"""Takes what happened, has it matched, and records it: event, matches and runs in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial

import structlog

from pipelines.secrets import Secrets
from sensors.event import Event
from service.clock import Clock
from service.errors import Closed, QueueFull, StoreUnavailable
from service.intake.admission import Admission
from service.intake.cloud_doors import CloudDoor
from service.intake.cloudevents import Receiving
from service.intake.doors import Door, token_digest
from service.intake.refusals import Cause, Refused, check_authentic
from service.intake.verify.base import Signed
from service.matching.catalog import Catalog
from service.matching.decisions import MAX_HOPS, Circumstances, Interval, decide
from service.matching.listeners import Listeners
from service.matching.planning import Arrival, Moment, event_of, plan_baseline, plan_delivery, plan_event
from service.matching.releasing import Held, Releaser
from service.matching.rendering import Rendering
from service.matching.replaying import Narrowed, Triggers, plan_replay
from service.matching.retention import Lifetime
from service.matching.trigger_states import States, TriggerStates
from service.matching.triggers import CompiledTrigger, StateKey, TriggerKey
from service.projects import Projects
from service.store import events, refused
from service.store.ids import new_id
from service.store.refused import NewRefusal
from service.store.replays import Kept
from service.store.session import Commit, Database, GroupCommit, Transaction
from service.store.values import NewEvent, NewMatch, Recorded, StoredEvent
from service.store.wakeups import Subscription, WakeUps

logger = structlog.get_logger(__name__)

GATHER_SECONDS = 0.0007  # a fifth more webhooks a second on two cores, see docs/benchmarks.md
MAX_REFUSALS_WAITING = 200  # a flood of bad deliveries must not keep the writer from good ones
BUSY_RETRY_SECONDS = 2
QUEUE_FULL_RETRY_SECONDS = 5
BROKEN_RETRY_SECONDS = 30
NO_LISTENERS = Listeners({}, ())  # of a project that is not served here
MAX_ROAD_CHARACTERS = 300


class Dispatcher:
    """The room that every event passes. One per process, shared by its threads."""

    def __init__(
        self,
        database: Database,
        projects: Projects,
        clock: Clock,
        *,
        wakeups: WakeUps,
        environ: Mapping[str, str],
        secrets: Secrets,
        max_body_bytes: int,
        refused_limit: int = refused.RING_SIZE,
        kept: Lifetime | None = None,
        max_hops: int = MAX_HOPS,
    ) -> None:
        self._database = database
        self._projects = projects
        self._clock = clock
        self._wakeups = wakeups
        self._admission = Admission()
        self._kept = kept or Lifetime()
        self._max_hops = max_hops
        self._states = TriggerStates(database, limited=self._limited)
        self._catalog = Catalog(
            projects,
            rendering=Rendering(environ, secrets),
            token_of=lambda compiled: self._states.token_of(compiled.state_key),
            max_body_bytes=max_body_bytes,
        )
        self._accepts: GroupCommit[NewEvent, Recorded] = GroupCommit(
            database, Commit.ACCEPT, events.record_shared, gather_seconds=GATHER_SECONDS
        )
        self._releaser = Releaser(database, clock, find=self._trigger, decide=self._decide_again)
        self._subscription: Subscription | None = None
        self._refuses: GroupCommit[NewRefusal, None] = GroupCommit(
            database,
            Commit.REFUSE,
            partial(refused.record, ring_size=refused_limit),
            max_queue=MAX_REFUSALS_WAITING,
        )

    def start(self) -> None:
        """Begin to listen and to write. Not before a fork."""
        self._subscription = self._wakeups.subscribe(self._states.on_wake)
        self._accepts.start()
        self._refuses.start()
        with suppress(StoreUnavailable):
            self._catalog.current()  # compiles, and makes the tokens, before the first delivery

    def stop(self) -> None:
        """Take nothing new, and return when all that was taken is committed."""
        if self._subscription is not None:
            self._subscription.close()
        self._accepts.close()
        self._refuses.close()

    def now(self) -> datetime:
        return self._clock()

    # Webhooks

    def door(self, project: str | None, address: str) -> Door | None:
        """Return the enabled webhook at an address such as `/webhooks/taxi/landed`.

        Without a project the default one is meant.
        """
        name = self._projects.default.name if project is None else project
        return self._catalog.current().doors.get((name, address))

    def mage_door(self, token: str) -> Door | None:
        """Return the webhook of Mage's `triggers.yaml` that has this token."""
        return self._catalog.current().mage_doors.get(token_digest(token))

    def accept(self, door: Door, arrival: Arrival) -> Future[Recorded]:
        """Take a delivery. The future completes once it is committed; until then nothing may be acknowledged.

        Raises Refused. The future fails with StoreUnavailable or CommitUnknown.
        """
        now = self._clock()
        try:
            self._verify(door, arrival, now)
            states = self._states.current()
            self._admit(door, states)
            listeners = self._listeners(door.compiled.project)
            future = self._submit(
                plan_delivery(
                    door,
                    arrival,
                    listeners,
                    Moment(now, states.paused, states.watching, kept=self._kept, max_hops=self._max_hops),
                )
            )
        except Refused as no:
            self.refuse(door.compiled.project, door.source, no.reason, arrival.address)
            raise
        if door.quota.queued_runs is not None:
            states.count_queued(door.compiled.state_key)
        return future

    def cloud_door(self, project: str | None) -> CloudDoor | None:
        """Return the project's door for CloudEvents; without a project, that of the default one."""
        name = self._projects.default.name if project is None else project
        return self._catalog.current().cloud_doors.get(name)

    def accept_cloudevents(self, door: CloudDoor, arrival: Arrival) -> list[Future[Recorded]]:
        """Take a request with one CloudEvent or a batch. Like `accept`, with a future for each event."""
        now = self._clock()
        try:
            self._verify(door, arrival, now)
            self._check_rate(door, door.project)
            found = Receiving(now, door.takes_news).read(arrival.body, arrival.headers)
            planned = [self.plan(door.project, event, (), road=door.source) for event in found]
            return [self._submit(one) for one in planned]
        except Refused as no:
            self.refuse(door.project, door.source, no.reason, arrival.address)
            raise

    def challenge(self, door: Door, arrival: Arrival) -> str | None:
        """Return what a provider that tries the address wants to hear, None for a delivery. Raises Refused.

        Nothing is recorded: there is no event in it.
        """
        wanted = door.scheme.challenge(arrival.body) if door.scheme is not None else None
        if wanted is None:
            return None
        try:
            self._verify(door, arrival, self._clock())
        except Refused as no:
            self.refuse(door.compiled.project, door.source, no.reason, arrival.address)
            raise
        logger.info("webhook address was tried by its provider", road=door.source, address=arrival.address)
        return wanted

    def refuse(self, project: str | None, road: str, reason: str, address: str | None) -> None:
        """Have a refused delivery noted in the ring. Never waits, never fails."""
        shown = road[:MAX_ROAD_CHARACTERS].replace("\x00", "\ufffd")  # a stranger may have written it
        known = project if project in self._projects.names else None
        logger.info("delivery refused", road=shown, reason=reason, address=address)
        try:
            self._refuses.submit(NewRefusal(self._clock(), shown, reason, address or "", known))
        except (QueueFull, Closed):
            logger.warning("refused delivery was not recorded: too many wait already", road=shown)

    # Sensors and clocks

    def triggers(self, project: str) -> Mapping[TriggerKey, CompiledTrigger]:
        """Return the project's enabled triggers by pipeline and name, as its files have them now."""
        return self._catalog.current().triggers.get(project, {})

    def plan(
        self,
        project: str,
        event: Event,
        own: Sequence[CompiledTrigger],
        *,
        road: str | None = None,
        interval: Interval | None = None,
    ) -> NewEvent:
        """Decide what the event starts: `own` triggers, and all that listen for such events. Writes nothing.

        `road` is the way it came by; its source, where the source has but one.
        """
        moment = self._moment(interval)
        concerned = self._listeners(project).concerned(event, own, moment.watching)
        return plan_event(project, event, concerned, moment, road=road or event.source)

    def awaits(self, project: str, kind: str, source: str | None = None) -> bool:
        """Tell whether such an event starts or saves anything; from this source, where one is named."""
        return self._listeners(project).awaits(kind, source)

    def plan_baseline(
        self, project: str, event: Event, compiled: CompiledTrigger, *, road: str | None = None
    ) -> NewEvent:
        """Plan what was there at the first sight of the trigger's sensor, and is to start nothing."""
        return plan_baseline(project, event, compiled, self._moment(), road=road or event.source)

    def plan_replay(self, kept: Kept, *, only: Narrowed, end: str | None = None) -> NewEvent:
        """Decide what a stored event starts when it is done again. Writes nothing. Raises ReplayError.

        `end` is what its key ends with; a fresh one, unless the same replay must not be made twice.
        """
        triggers = self.all_triggers(kept.event.project)
        return plan_replay(kept, triggers, self._moment(), only=only, end=end or new_id())

    def all_triggers(self, project: str) -> Triggers:
        """Return the project's triggers, and which of them listen for events of others."""
        return Triggers(self.triggers(project), self._listeners(project))

    def record_page(self, tx: Transaction, planned: Sequence[NewEvent]) -> list[Recorded | Exception]:
        """Record planned events in the caller's transaction, each with an answer in its place."""
        return events.record(tx, planned)

    # Held events

    def release(self, project: str, pipeline: str, trigger: str, choice: Held = Held.RUN) -> int:
        """Resume a trigger and do with its held events as chosen. Return how many there were."""
        return self._releaser.resume((project, pipeline, trigger), choice)

    def release_left_over(self) -> int:
        """Let go what was held for triggers that are not paused: by a process that saw the resume late.

        To be called now and then.
        """
        return self._releaser.left_over()

    # Steps

    def _verify(self, door: Door | CloudDoor, arrival: Arrival, now: datetime) -> None:
        if door.fault is not None or door.scheme is None:
            raise Refused(Cause.BROKEN, door.fault or "", retry_after=BROKEN_RETRY_SECONDS)
        signed = Signed(arrival.body, arrival.headers, arrival.url, arrival.query, arrival.address)
        check_authentic(door.scheme, signed, now)

    def _check_rate(self, door: Door | CloudDoor, project: str) -> None:
        # After the signature: whoever cannot sign must not be able to use up a sender's rate.
        wait = self._admission.over_rate(door.quota, f"{project}/{door.source}")
        if wait is not None:
            raise Refused(Cause.OVER_RATE, f"over {door.quota.rate}", retry_after=wait)

    def _admit(self, door: Door, states: States) -> None:
        self._check_rate(door, door.compiled.project)
        limit = door.quota.queued_runs
        if limit is not None and states.queued.get(door.compiled.state_key, 0) >= limit:
            raise Refused(
                Cause.QUEUE_FULL, f"{limit} runs wait already", retry_after=QUEUE_FULL_RETRY_SECONDS
            )

    def _submit(self, planned: NewEvent) -> Future[Recorded]:
        try:
            return self._accepts.submit(planned)
        except (QueueFull, Closed) as error:
            raise Refused(Cause.BUSY, str(error), retry_after=BUSY_RETRY_SECONDS) from error

    def _moment(self, interval: Interval | None = None) -> Moment:
        states = self._states.current()
        return Moment(self._clock(), states.paused, states.watching, interval, self._kept, self._max_hops)

    def _listeners(self, project: str) -> Listeners:
        return self._catalog.current().listeners.get(project, NO_LISTENERS)

    def _decide_again(self, compiled: CompiledTrigger, stored: StoredEvent, now: datetime) -> NewMatch:
        return decide(compiled, event_of(stored), Circumstances(stored.id, now, max_hops=self._max_hops))

    def _trigger(self, key: StateKey) -> CompiledTrigger | None:
        project, pipeline, name = key
        return self.triggers(project).get((pipeline, name))

    def _limited(self) -> frozenset[StateKey]:
        doors = self._catalog.current().doors.values()
        return frozenset(door.compiled.state_key for door in doors if door.quota.queued_runs is not None)
