"""Bodies that break receivers, over real HTTP: each is stored as it came, and none is answered with a 500."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from tests.acceptance.conftest import StartService
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.service import run_millrace

pytestmark = pytest.mark.acceptance

JSON = "application/json"
POISON: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"n": NaN}', JSON),
    "infinity": (b'{"n": -Infinity}', JSON),
    "too large a number": (b'{"n": 1e400}', JSON),
    "NUL": (b'{"n": "\\u0000"}', JSON),
    "lone surrogate": (b'{"n": "\\ud800"}', JSON),
    "deep nesting": (b"[" * 100_000, JSON),
    "deep nesting that ends": (b"[" * 5_000 + b"]" * 5_000, JSON),
    "wrong charset": ('{"n": "ü"}'.encode("latin-1"), f"{JSON}; charset=utf-8"),
    "unknown charset": (b"{}", f"{JSON}; charset=klingon"),
    "key twice": (b'{"n": 1, "n": 2}', JSON),
    "binary": (bytes(range(256)), "application/octet-stream"),
    "binary that is called JSON": (b"\x1f\x8b\x08\x00\xff\xfe", JSON),
    "cut off": (b'{"n": 1', JSON),
    "too many digits": (b'{"n": ' + b"9" * 5_000 + b"}", JSON),
    "unknown type": (b"\x89PNG\r\n", "image/png"),
}


def test_no_body_is_lost_or_answered_with_an_error(
    tmp_path: Path, start_service: StartService, store_environ: dict[str, str]
) -> None:
    project = write_project(tmp_path / "demo")
    block = BlockFile("one", "@custom\ndef one(**_):\n    return 1\n")
    write_pipeline(project, "etl", [block], triggers=[open_webhook()])
    service = start_service(project, environ=store_environ)
    hook = f"{service.url}/webhooks/etl/hook"

    answers = {
        name: requests.post(hook, data=body, headers={"Content-Type": kind}, timeout=10)
        for name, (body, kind) in POISON.items()
    }
    empty = requests.post(hook, data=b"", headers={"Content-Type": JSON}, timeout=10)
    secret = {"Authorization": "Bearer whsec_very", "X-Api-Key": "whsec_very", "X-Kept": "yes"}
    good = requests.post(hook, json={"n": 1}, headers=secret, timeout=10)

    outcomes = {name: (answer.status_code, answer.json().get("outcome")) for name, answer in answers.items()}
    assert outcomes == dict.fromkeys(POISON, (202, "quarantined"))
    assert (empty.status_code, empty.json()["outcome"]) == (202, "ran")
    for name, answer in answers.items():
        event = requests.get(f"{service.url}/api/v1/events/{answer.json()['event_id']}", timeout=10).json()
        assert (event["outcome"], event["data"], event["run_ids"]) == ("quarantined", None, []), name
        assert event["reason"], name
    stored = requests.get(f"{service.url}/api/v1/events/{good.json()['event_id']}", timeout=10)
    assert "whsec_very" not in stored.text
    assert stored.json()["headers"]["x-kept"] == "yes"

    # What was mended runs after a replay; the command line speaks to the same store.
    replayed = run_millrace(
        "events", "replay", good.json()["event_id"], "--json", cwd=project, environ=store_environ
    )
    assert replayed.returncode == 0, replayed.stderr
    (one,) = json.loads(replayed.stdout)["items"]
    assert (one["outcome"], one["starts"][0]["changes"]) == ("ran", [])
