"""DESIGN 1.1 and 1.2: no event is lost or doubled, also when repeats arrive while the first is in flight."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project

pytestmark = pytest.mark.acceptance

EVENTS = 400
REPEATS = 100
CLIENTS = 8


def test_repeats_in_flight_get_the_ids_of_their_first(tmp_path, start_service, store_environ):
    project = write_project(tmp_path / "storm")
    block = BlockFile("note", "@custom\ndef note(*args, **kwargs):\n    return kwargs['number']\n")
    hook = open_webhook(variables={"number": "{{ event.data.number }}"})
    write_pipeline(project, "storm", [block], triggers=[hook])
    service = start_service(project, environ={**store_environ, "MILLRACE_WEB_PROCESSES": "2"})
    numbers = list(range(EVENTS))
    # A repeat stands right behind its first, so that another client sends it while the first is in flight.
    for number in random.Random(7).sample(range(EVENTS), REPEATS):
        numbers.insert(numbers.index(number) + 1, number)

    with ThreadPoolExecutor(CLIENTS) as clients, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CLIENTS))
        answers = list(clients.map(lambda number: (number, _post(session, service.url, number)), numbers))

    firsts = {number: body for number, (status, body) in answers if status == 202}
    repeats = [(number, body) for number, (status, body) in answers if status == 200]
    assert len(firsts) == EVENTS
    assert len(repeats) == REPEATS
    for number, body in repeats:
        assert body["duplicate"] is True
        assert body["event_id"] == firsts[number]["event_id"]
        assert body["run_ids"] == firsts[number]["run_ids"]
    assert len({run_id for body in firsts.values() for run_id in body["run_ids"]}) == EVENTS
    assert _count_runs(service.url) == EVENTS


def _post(session: requests.Session, url: str, number: int) -> tuple[int, dict]:
    answer = session.post(
        f"{url}/webhooks/storm/hook",
        json={"number": number},
        headers={"Idempotency-Key": f"event-{number}"},
        timeout=30,
    )
    return answer.status_code, answer.json()


def _count_runs(url: str) -> int:
    seen, cursor = set(), ""
    while True:
        page = requests.get(f"{url}/api/v1/runs?limit=100{cursor}", timeout=30).json()
        seen |= {run["id"] for run in page["items"]}
        if page["next"] is None:
            return len(seen)
        cursor = f"&cursor={page['next']}"
