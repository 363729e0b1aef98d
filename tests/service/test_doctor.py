"""Each fault is found, and comes with a remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden
from google.iam.v1.policy_pb2 import Binding, Policy

from pipelines.project import Project
from service.cli.tokens import trigger_token
from service.doctor import subscriptions
from service.doctor.buckets import judge
from service.doctor.examination import examine
from service.doctor.findings import Finding, Health, Patient
from service.doctor.service_parts import clock, engines
from service.matching.triggers import compile_triggers
from service.store import engines as engine_rows
from service.store.session import Commit
from tests.parts.postgres import PostgresServer
from tests.parts.projects import write
from tests.parts.pubsub import PROJECT, PubSubEmulator, subscription_path
from tests.parts.service import run_millrace
from tests.parts.site import Site, site

AN_HOUR = timedelta(hours=1)
AGENT = "serviceAccount:service-7@gcp-sa-pubsub.iam.gserviceaccount.com"
ACCOUNT = "push@example.iam.gserviceaccount.com"
TRIGGERS = "pipelines/etl/triggers.yaml"
PIPELINE = """
name: etl
type: python
blocks:
- {name: work, type: custom, language: python, upstream_blocks: []}
"""


def make(root: Path, *, triggers: Sequence[dict[str, Any]] = (), profiles: str = "") -> Path:
    write(root / "metadata.yaml", "name: demo\n")
    write(root / "pipelines/etl/metadata.yaml", PIPELINE)
    write(root / "custom/work.py", "@custom\ndef work(*args, **kwargs):\n    return 1\n")
    if triggers:
        write(root / TRIGGERS, json.dumps({"triggers": list(triggers)}))
    if profiles:
        write(root / "io_config.yaml", profiles)
    return root


GITHUB = {"scheme": "github", "secret": "{{ secret('github') }}"}
NOBODY_THERE = {
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_PORT": 1,
    "POSTGRES_DBNAME": "x",
    "POSTGRES_USER": "x",
    "POSTGRES_PASSWORD": "x",
}


def of(findings: Sequence[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def faults(findings: Sequence[Finding]) -> list[str]:
    assert all(finding.remedy for finding in findings if finding.health in (Health.WARNING, Health.PROBLEM))
    return [finding.message for finding in findings if finding.health is not Health.OK]


@pytest.fixture
def demo(tmp_path: Path) -> Any:
    with site(make(tmp_path)) as made:
        yield made


def test_service_that_is_well_has_no_fault(demo: Site) -> None:
    demo.beat("engine-1")

    findings = list(examine(demo.runtime))

    assert faults(findings) == []
    assert {finding.check for finding in findings} >= {"store", "engine", "clock", "disk", "project"}


def test_secret_that_is_missing_is_found_wherever_it_is_wanted(tmp_path: Path) -> None:
    folder = make(tmp_path, triggers=[{"name": "t", "type": "webhook", "verify": GITHUB}])
    sent = "{name: ops, url: 'https://example.com', secret: \"{{ secret('ops') }}\"}"
    write(folder / "metadata.yaml", f"name: demo\ncloudevents:\n  send:\n  - {sent}\n")
    with site(folder) as made:
        made.beat("engine-1")

        told = faults(list(examine(made.runtime)))

        assert trigger_token(made.runtime, "demo", "etl", "t") is None  # it is not guarded by one of ours
    assert [sentence.partition("the secret ")[2].split()[0] for sentence in told] == ["'github'", "'ops'"]
    assert "metadata.yaml:4: " in told[1]


def test_missing_engine_is_a_problem_and_a_silent_one_a_warning(demo: Site) -> None:
    patient = Patient(demo.runtime, ())
    assert [finding.health for finding in engines(patient)] == [Health.PROBLEM]

    demo.beat("alive")
    demo.runtime.database.write(
        Commit.ENGINE,
        lambda tx: engine_rows.beat(
            SimpleNamespace(now=tx.now - AN_HOUR, connection=tx.connection, database=tx.database), "silent"
        ),
    )

    assert {(finding.subject, finding.health) for finding in engines(patient)} == {
        ("alive", Health.OK),
        ("silent", Health.WARNING),
    }


def test_clock_that_is_wrong_is_a_problem(demo: Site) -> None:
    patient = Patient(demo.runtime, ())
    assert [finding.health for finding in clock(patient)] == [Health.OK]

    demo.later(timedelta(minutes=2))

    (finding,) = clock(patient)
    assert finding.health is Health.PROBLEM
    assert "120 s" in finding.message


def test_profiles_are_tried(tmp_path: Path, postgres_server: PostgresServer, postgres_database: str) -> None:
    good = {
        "POSTGRES_HOST": postgres_server.socket_dir,
        "POSTGRES_DBNAME": postgres_database,
        "POSTGRES_USER": postgres_server.user,
        "POSTGRES_PASSWORD": "",
    }
    profiles = f"""
good: {json.dumps(good)}
down: {json.dumps(NOBODY_THERE)}
unset: {{POSTGRES_HOST: "{{{{ env_var('NOT_SET_ANYWHERE') }}}}"}}
keyless: {{GOOGLE_SERVICE_ACC_KEY_FILEPATH: keys/gone.json}}
"""
    with site(make(tmp_path, profiles=profiles)) as made:
        findings = of(list(examine(made.runtime)), "profile")
    found = {finding.subject.rpartition("/")[2]: finding for finding in findings}

    assert found["good"].health is Health.OK
    assert found["down"].health is Health.PROBLEM
    assert found["unset"].health is Health.WARNING
    assert "NOT_SET_ANYWHERE" in found["unset"].message
    assert found["keyless"].health is Health.PROBLEM
    assert "gone.json" in found["keyless"].message


def test_broken_pipelines_and_triggers_that_cannot_work_are_named(tmp_path: Path) -> None:
    verify = {"scheme": "token", "secret": "{{ secret('nowhere') }}"}
    hook = {"name": "hook", "type": "webhook", "verify": verify}
    root = make(tmp_path, triggers=[hook])
    write(root / "pipelines/broken/metadata.yaml", "blocks: 7\n")
    with site(root) as made:
        findings = list(examine(made.runtime))

    assert of(findings, "project")[0].health is Health.PROBLEM
    (trigger,) = of(findings, "trigger")
    assert "nowhere" in trigger.message


# Pub/Sub, by Google's emulator; the rights, which it does not have, by a policy of Google's own type.


def watching(subscription: str, emulator: PubSubEmulator) -> dict[str, Any]:
    options = {"project": PROJECT, "subscription": subscription, "endpoint": f"http://{emulator.host}"}
    return {"name": "messages", "type": "sensor", "sensor": "pubsub_message", "options": options}


def examined(root: Path, trigger: dict[str, Any]) -> list[Finding]:
    with site(make(root, triggers=[trigger])) as made:
        return of(list(examine(made.runtime)), "subscription")


def test_subscription_that_expires_and_acks_too_soon_is_warned_of(
    tmp_path: Path, pubsub: PubSubEmulator
) -> None:
    topic = pubsub.make_topic()
    short = pubsub.make_subscription(topic, ack_deadline_seconds=10)

    found = faults(examined(tmp_path, watching(short, pubsub)))

    assert any("deleted with all its messages after 31 days" in message for message in found)
    assert any("only 10 s" in message for message in found)


def test_missing_subscription_is_a_problem(tmp_path: Path, pubsub: PubSubEmulator) -> None:
    (finding,) = examined(tmp_path, watching("not-made", pubsub))

    assert finding.health is Health.PROBLEM
    assert "subscriptions create not-made" in (finding.remedy or "")


def test_dead_letters_that_nobody_keeps_are_a_problem(tmp_path: Path, pubsub: PubSubEmulator) -> None:
    topic, dead = pubsub.make_topic(), pubsub.make_topic()
    short = pubsub.make_subscription(
        topic,
        ack_deadline_seconds=60,
        dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
    )

    lost = faults(examined(tmp_path, watching(short, pubsub)))
    assert any("dead letters are lost" in message for message in lost)

    pubsub.make_subscription(dead)
    kept = faults(examined(tmp_path, watching(short, pubsub)))
    assert not any("dead letters are lost" in message for message in kept)
    assert any("rights" in message for message in kept)  # the emulator knows none


@dataclass
class Rights:
    """Answers for rights as Google does: by resource, the bindings, or that one may not ask."""

    policies: dict[str, Policy]

    def get_iam_policy(self, request: dict[str, str], timeout: float) -> Policy:
        if request["resource"] not in self.policies:
            raise Forbidden("you may not ask")
        return self.policies[request["resource"]]


def test_rights_of_the_service_agent_are_wanted_on_both_sides(
    demo: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, topic = subscription_path("s"), f"projects/{PROJECT}/topics/dead"
    publishes = Policy(bindings=[Binding(role=subscriptions.PUBLISH, members=[AGENT])])
    patient = Patient(demo.runtime, ())
    compiled: Any = None

    def found(policies: dict[str, Policy]) -> list[Health]:
        monkeypatch.setattr(subscriptions, "subscriber", lambda *_: Rights(policies))
        return [finding.health for finding in subscriptions._permissions(patient, compiled, path, topic)]

    assert found({topic: publishes, path: Policy()}) == [Health.OK, Health.PROBLEM]
    assert found({path: publishes}) == [Health.UNKNOWN, Health.PROBLEM]


def test_push_for_another_audience_is_a_problem(tmp_path: Path, pubsub: PubSubEmulator) -> None:
    topic = pubsub.make_topic()
    push = {
        "push_endpoint": "http://127.0.0.1:9/pubsub/etl/pushed",
        "oidc_token": {"service_account_email": ACCOUNT, "audience": "https://other"},
    }
    short = pubsub.make_subscription(topic, ack_deadline_seconds=60, push_config=push)
    root = make(tmp_path)
    with site(root) as made:
        compiled = next(
            iter(
                compile_triggers(
                    build_project(root, short, pubsub), environ={}, secrets=made.runtime.secrets
                ).values()
            )
        )
        compiled = replace(compiled, options={"endpoint": f"http://{pubsub.host}"})
        findings = list(subscriptions.pushed(Patient(made.runtime, (compiled,))))

    assert any("audience 'https://other'" in message for message in faults(findings))


def build_project(root: Path, short: str, pubsub: PubSubEmulator) -> Any:
    verify = {"scheme": "google_oidc", "audience": "https://mine", "email": ACCOUNT}
    trigger = {
        "name": "pushed",
        "type": "webhook",
        "format": "pubsub",
        "verify": verify,
        "subscription": subscription_path(short),
    }
    make(root, triggers=[trigger])
    return Project.load(root)


@dataclass(frozen=True)
class Config:
    topic_name: str
    event_types: tuple[str, ...] | None = None
    blob_name_prefix: str | None = None


def test_doubled_and_missing_notifications_are_found() -> None:
    one, other = Config("news"), Config("news", ("OBJECT_DELETE",))

    assert [finding.health for finding in judge("lake", [one, other], expected=True)] == [Health.OK]
    assert [finding.health for finding in judge("lake", [one, one, other], expected=True)] == [Health.WARNING]
    assert [finding.health for finding in judge("lake", [], expected=True)] == [Health.PROBLEM]
    assert [finding.health for finding in judge("lake", [], expected=False)] == [Health.OK]


def test_command_prints_findings_and_fails_on_a_problem(tmp_path: Path) -> None:
    root = make(tmp_path / "demo")

    told = run_millrace("doctor", cwd=root)
    as_json = run_millrace("doctor", "--json", cwd=root)

    assert told.returncode == as_json.returncode == 1  # no engine
    assert "nothing runs" in told.stdout
    found = json.loads(as_json.stdout)["findings"]
    assert {"check", "subject", "health", "message", "remedy"} == set(found[0])
