"""Whatever is sent to a door, the answer is one of the documented ones, and nothing of it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parts.hooks import SECRET, running_hooks

HOOKS: list[dict[str, Any]] = [
    {"name": "open", "type": "webhook", "verify": "none", "max_body": 2000},
    {
        "name": "mapped",
        "type": "webhook",
        "verify": "none",
        "key": "{{ event.data.key }}",
        "filter": "{{ event.data.n > 0 }}",
        "variables": {"a": "{{ event.data.a }}", "b": "{{ event.headers['x-b'] }}"},
        "execution_date": "{{ event.data.at }}",
    },
    {"name": "signed", "type": "webhook", "verify": {"scheme": "standard_webhooks", "secret": SECRET}},
    {
        "schedule_type": "api",
        "start_time": None,
        "schedule_interval": None,
        "status": "active",
        "name": "mage",
        "token": "t",
    },
]
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["key", "n", "a", "at", "variables", "execution_date", "pipeline_run"]), inner
        ),
    ),
    max_leaves=10,
)
BODIES = st.one_of(st.binary(max_size=3000), JSON_VALUES.map(lambda value: json.dumps(value).encode()))
HEADER_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-encoding", "idempotency-key", "x-b", "webhook-id", "authorization"]
    ),
    HEADER_VALUES,
)
PATHS = st.sampled_from(
    [
        "/webhooks/etl/open",
        "/webhooks/etl/mapped",
        "/webhooks/etl/signed",
        "/api/pipeline_schedules/1/pipeline_runs/t",
    ]
)


def test_every_answer_is_a_documented_one(tmp_path: Path) -> None:
    with running_hooks(tmp_path / "demo", HOOKS) as hooks:

        @settings(max_examples=150, deadline=None)
        @given(PATHS, BODIES, HEADERS)
        def send(path: str, body: bytes, headers: dict[str, str]) -> None:
            answer = hooks.client.post(path, data=body, headers=headers)

            assert answer.status_code in (200, 202, 401, 413), answer.text
            if answer.status_code in (200, 202):
                assert hooks.event(answer.get_json()["event_id"]).deliveries

        send()


def test_strange_addresses_are_unknown(tmp_path: Path) -> None:
    paths = ["/webhooks/%00/x", "/webhooks/" + "x" * 5000, "/webhooks/%ff%fe", "/webhooks/a/../b"]
    with running_hooks(tmp_path / "demo", HOOKS) as hooks:
        for path in paths:
            assert hooks.client.post(path).status_code == 404
            assert hooks.client.post(f"/projects/%00{path}").status_code == 404

        noted = hooks.refusals(len(paths) * 2)

    assert {refusal.reason for refusal in noted} == {"no enabled webhook has this address"}
    assert max(len(refusal.road) for refusal in noted) <= 300
