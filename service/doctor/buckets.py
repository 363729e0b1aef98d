"""Notification configs of buckets: one too many doubles every message, one too few leaves it to listing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError

from service.doctor.findings import Finding, Patient, problem, unknown, warning, well
from service.doctor.google import bucket_client

CHECK = "notifications"


def notifications(patient: Patient) -> Iterator[Finding]:
    """Look at the notification configs of every bucket that a `gcs_object` sensor watches."""
    buckets = {str(compiled.options.get("bucket")): compiled for compiled in patient.triggers}
    for name, compiled in sorted(buckets.items()):
        with bucket_client(patient.runtime, compiled) as client:
            try:
                configs = list(client.bucket(name).list_notifications(timeout=15.0))
            except (GoogleAPICallError, GoogleAuthError, ValueError) as error:
                yield unknown(
                    CHECK, name, f"cannot be looked at: {error}", "let this account view the bucket"
                )
                continue
        yield from judge(name, configs, expected=compiled.options.get("notifications") == "expected")


def judge(bucket: str, configs: Sequence[Any], *, expected: bool) -> Iterator[Finding]:
    """Judge the configs of one bucket. `expected`: a trigger relies on them and lists only to reconcile."""
    alike = Counter(
        (config.topic_name, tuple(sorted(config.event_types or ())), config.blob_name_prefix or "")
        for config in configs
    )
    doubled = [topic for (topic, _, _), count in alike.items() if count > 1]
    for topic in doubled:
        yield warning(
            CHECK,
            bucket,
            f"tells the topic {topic} of every object more than once",
            f"gcloud storage buckets notifications list gs://{bucket}, and delete all but one",
        )
    if not configs and expected:
        yield problem(
            CHECK,
            bucket,
            "has no notification, and a trigger expects them",
            f"gcloud storage buckets notifications create gs://{bucket} --topic=TOPIC",
        )
    elif not doubled:
        yield well(CHECK, bucket, f"{len(configs)} notification configs, none doubled")
