"""Pub/Sub subscriptions: will they still be there, do they lose messages, and who may speak for them?

The rules are Google's: a subscription that nobody uses expires after 31 days unless told otherwise; a dead
letter topic needs a subscription of its own, and the service agent of Pub/Sub needs to publish to it and to
subscribe to the source (docs of Pub/Sub: subscription properties, handle message failures).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound

from service.doctor.findings import Finding, Patient, problem, unknown, warning, well
from service.doctor.google import publisher, subscriber
from service.matching.triggers import CompiledTrigger

CHECK = "subscription"
LEAST_ACK_SECONDS = 20
TIMEOUT = 15.0
MOST_LISTED = 1000
PUBLISH, CONSUME = "roles/pubsub.publisher", "roles/pubsub.subscriber"


def pulled(patient: Patient) -> Iterator[Finding]:
    """Look at the subscription of every `pubsub_message` sensor."""
    for compiled in patient.triggers:
        path = (
            f"projects/{compiled.options.get('project')}/subscriptions/{compiled.options.get('subscription')}"
        )
        yield from _subscription(patient, compiled, path)


def pushed(patient: Patient) -> Iterator[Finding]:
    """Look at the subscription that a push trigger names, and whether both sides want the same audience."""
    for compiled in patient.triggers:
        path = compiled.trigger.spec.get("subscription")
        if path is None:
            yield unknown(
                CHECK,
                f"{compiled.pipeline.name}/{compiled.name}",
                "the trigger does not say which subscription pushes to it",
                "add `subscription: projects/P/subscriptions/S` to have it examined",
            )
        else:
            yield from _subscription(patient, compiled, str(path))


def _subscription(patient: Patient, compiled: CompiledTrigger, path: str) -> Iterator[Finding]:
    client = subscriber(patient.runtime, compiled)
    try:
        found = client.get_subscription(subscription=path, timeout=TIMEOUT)
    except NotFound:
        yield problem(
            CHECK, path, "is not there", f"gcloud pubsub subscriptions create {_short(path)} --topic=TOPIC"
        )
        return
    except GoogleAPICallError as error:
        yield unknown(
            CHECK, path, f"cannot be looked at: {error.message}", "let this account view subscriptions"
        )
        return
    yield from _expiry(path, found)
    yield from _deadline(path, found)
    yield from _push(path, found, compiled)
    yield from _dead_letters(patient, compiled, path, found)


def _expiry(path: str, found: Any) -> Iterator[Finding]:
    lifetime = found.expiration_policy.ttl if "expiration_policy" in found else None
    if lifetime is not None and not lifetime.total_seconds():
        yield well(CHECK, path, "never expires")
        return
    days = lifetime.days if lifetime else 31
    yield warning(
        CHECK,
        path,
        f"is deleted with all its messages after {days} days in which nobody uses it",
        f"gcloud pubsub subscriptions update {_short(path)} --expiration-period=never",
    )


def _deadline(path: str, found: Any) -> Iterator[Finding]:
    seconds = found.ack_deadline_seconds
    if seconds >= LEAST_ACK_SECONDS:
        yield well(CHECK, path, f"waits {seconds} s for an ack")
        return
    yield warning(
        CHECK,
        path,
        f"waits only {seconds} s for an ack: a slow commit brings messages twice",
        f"gcloud pubsub subscriptions update {_short(path)} --ack-deadline=60",
    )


def _push(path: str, found: Any, compiled: CompiledTrigger) -> Iterator[Finding]:
    is_pushing = bool(found.push_config.push_endpoint)
    if compiled.trigger.spec.get("format") != "pubsub":
        if is_pushing:
            yield problem(
                CHECK,
                path,
                f"pushes to {found.push_config.push_endpoint}, so that nothing can be pulled",
                f"gcloud pubsub subscriptions modify-push-config {_short(path)} --push-endpoint=",
            )
        return
    wanted = compiled.verify.get("audience") if isinstance(compiled.verify, dict) else None
    given = found.push_config.oidc_token.audience or found.push_config.push_endpoint
    if not is_pushing:
        yield problem(CHECK, path, "does not push", "set its push endpoint to this trigger's address")
    elif wanted is not None and wanted != given:
        yield problem(
            CHECK,
            path,
            f"signs for the audience {given!r}, the trigger wants {wanted!r}: every push is refused",
            f"gcloud pubsub subscriptions update {_short(path)} --push-auth-token-audience={wanted}",
        )
    else:
        yield well(CHECK, path, f"pushes to {found.push_config.push_endpoint}")


def _dead_letters(patient: Patient, compiled: CompiledTrigger, path: str, found: Any) -> Iterator[Finding]:
    topic = found.dead_letter_policy.dead_letter_topic
    if not topic:
        yield well(CHECK, path, "has no dead letter topic: what is not acked comes again until it expires")
        return
    client = publisher(patient.runtime, compiled)
    try:
        readers = list(client.list_topic_subscriptions(topic=topic, timeout=TIMEOUT).subscriptions)
    except NotFound:
        yield problem(
            CHECK,
            path,
            f"its dead letter topic {topic} is not there",
            f"gcloud pubsub topics create {_short(topic)}",
        )
        return
    except GoogleAPICallError as error:
        yield unknown(CHECK, path, f"its dead letter topic cannot be looked at: {error.message}")
        return
    if readers:
        yield well(CHECK, path, f"dead letters are kept by {readers[0]}")
    else:
        yield problem(
            CHECK,
            path,
            f"its dead letter topic {topic} has no subscription: dead letters are lost",
            f"gcloud pubsub subscriptions create {_short(topic)}-kept --topic={_short(topic)}",
        )
    yield from _permissions(patient, compiled, path, topic)


def _permissions(patient: Patient, compiled: CompiledTrigger, path: str, topic: str) -> Iterator[Finding]:
    """Look whether Pub/Sub's own account may move dead letters: publish there, and take from here."""
    for resource, role, kind in ((topic, PUBLISH, "topics"), (path, CONSUME, "subscriptions")):
        client = subscriber(patient.runtime, compiled)
        try:
            policy = client.get_iam_policy(request={"resource": resource}, timeout=TIMEOUT)
        except GoogleAPICallError as error:
            yield unknown(CHECK, path, f"the rights on {resource} cannot be looked at: {error.message}")
            continue
        if _agent_has(policy, role):
            yield well(CHECK, path, f"Pub/Sub's account has {role} on {resource}")
        else:
            yield problem(
                CHECK,
                path,
                f"Pub/Sub's account lacks {role} on {resource}: dead letters stay where they are",
                f"gcloud pubsub {kind} add-iam-policy-binding {_short(resource)} --role={role} "
                "--member=serviceAccount:service-PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com",
            )


def _agent_has(policy: Any, role: str) -> bool:
    return any(
        binding.role == role and any("gcp-sa-pubsub" in member for member in binding.members)
        for binding in policy.bindings
    )


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]
