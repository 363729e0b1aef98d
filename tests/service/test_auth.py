from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.web.auth import OPEN_ENDPOINTS
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.site import Site, site

TOKEN = "a-token-of-at-least-16-characters"  # not a secret: for tests
FAR = {"REMOTE_ADDR": "203.0.113.9"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Site]:
    with site(project(tmp_path)) as made:
        yield made


@pytest.fixture
def token_site(tmp_path: Path) -> Iterator[Site]:
    with site(project(tmp_path), host="0.0.0.0", api_token=TOKEN, allowed_hosts="millrace.example") as made:
        yield made


def project(root: Path) -> Path:
    write_project(root)
    write_pipeline(
        root, "etl", [BlockFile("one", "@custom\ndef one():\n    return 1\n")], triggers=[open_webhook()]
    )
    return root


def problem(answer: TestResponse, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = answer.get_json(force=True)
    assert body["status"] == status
    return str(body["detail"])


def test_loopback_needs_no_token(token_site: Site) -> None:
    assert token_site.client.get("/api/v1/project").status_code == 200


def test_other_machines_need_the_token(token_site: Site) -> None:
    refused = token_site.client.get("/api/v1/project", environ_overrides=FAR)
    answered = token_site.client.get("/api/v1/project", environ_overrides=FAR, headers=BEARER)

    assert "MILLRACE_API_TOKEN" in problem(refused, 401)
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert answered.status_code == 200


@pytest.mark.parametrize("value", ["Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \u00fc\u00fc"])
def test_anything_but_the_token_is_refused(token_site: Site, value: str) -> None:
    answer = token_site.client.get("/api/v1/project", environ_overrides={**FAR, "HTTP_AUTHORIZATION": value})

    assert TOKEN not in problem(answer, 401)


def test_without_a_token_other_machines_are_never_answered(open_site: Site) -> None:
    answer = open_site.client.get("/", environ_overrides=FAR, headers={"Authorization": "Bearer "})

    assert "MILLRACE_API_TOKEN is not set" in problem(answer, 401)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"])
def test_a_proxy_on_this_machine_is_not_loopback(token_site: Site, header: str) -> None:
    answer = token_site.client.get("/api/v1/project", headers={header: "127.0.0.1"})

    problem(answer, 401)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_every_loopback_address_is_loopback(open_site: Site, address: str) -> None:
    answer = open_site.client.get("/api/v1/project", environ_overrides={"REMOTE_ADDR": address})

    assert answer.status_code == 200


def test_every_route_but_the_open_ones_is_closed_to_other_machines(token_site: Site) -> None:
    for path, method, endpoint in routes(token_site.app):
        answer = token_site.client.open(path, method=method, environ_overrides=FAR)
        is_guarded = answer.status_code == 401 and "MILLRACE_API_TOKEN" in answer.text
        assert is_guarded == (endpoint not in OPEN_ENDPOINTS), f"{method} {path}"


def test_open_endpoints_are_all_there(open_site: Site) -> None:
    assert set(open_site.app.view_functions) >= OPEN_ENDPOINTS


def test_unknown_paths_tell_other_machines_nothing(token_site: Site) -> None:
    problem(token_site.client.get("/nowhere", environ_overrides=FAR), 401)
    problem(token_site.client.post("/healthz/x", environ_overrides=FAR), 401)


def test_wrong_method_on_a_webhook_is_405_for_everybody(token_site: Site) -> None:
    answer = token_site.client.get("/webhooks/etl/hook", environ_overrides=FAR)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:6789", "localhost.evil.example", "169.254.1.1"]
)
def test_foreign_host_is_refused_also_on_loopback(open_site: Site, host: str) -> None:
    for path in ("/", "/api/v1/project", "/metrics"):
        problem(open_site.client.get(path, headers={"Host": host}), 403)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:6789", "127.0.0.1:1", "[::1]:6789", "millrace.example"]
)
def test_known_hosts_are_answered(token_site: Site, host: str) -> None:
    assert token_site.client.get("/api/v1/project", headers={"Host": host}).status_code == 200


def test_wildcard_address_is_not_a_known_host(token_site: Site) -> None:
    problem(token_site.client.get("/", headers={"Host": "0.0.0.0:6789"}), 403)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "file://", "http://["]
)
def test_foreign_origin_is_refused_also_on_loopback(open_site: Site, origin: str) -> None:
    headers = {"Host": "localhost:6789", "Origin": origin}

    problem(open_site.client.get("/api/v1/project", headers=headers), 403)
    problem(open_site.client.post("/api/v1/runs", headers=headers, json={"pipeline": "etl"}), 403)


def test_own_origin_is_answered(open_site: Site) -> None:
    headers = {"Host": "localhost:6789", "Origin": "http://localhost:6789"}

    answer = open_site.client.post("/api/v1/runs", headers=headers, json={"pipeline": "etl"})

    assert answer.status_code == 201


def test_origin_of_a_listed_host_is_answered(token_site: Site) -> None:
    headers = {"Host": "127.0.0.1:6789", "Origin": "https://millrace.example"}

    assert token_site.client.get("/api/v1/project", headers=headers).status_code == 200


@pytest.mark.parametrize("site_value", ["cross-site", "same-site"])
def test_change_asked_for_by_another_site_is_refused(open_site: Site, site_value: str) -> None:
    answer = open_site.client.post(
        "/api/v1/runs", headers={"Sec-Fetch-Site": site_value}, json={"pipeline": "etl"}
    )

    problem(answer, 403)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
def test_body_that_a_form_can_send_is_415(open_site: Site, kind: str) -> None:
    problem(open_site.client.post("/api/v1/runs", data='{"pipeline": "etl"}', content_type=kind), 415)
    problem(open_site.client.post("/api/v1/runs/x/cancel", data="", content_type=kind), 415)


def test_body_without_a_type_is_415(open_site: Site) -> None:
    problem(open_site.client.post("/api/v1/runs", data='{"pipeline": "etl"}'), 415)


@pytest.mark.parametrize("body", ["{", "", '{"pipeline": NaN}', "[" * 100_000])
def test_body_that_is_no_json_is_400(open_site: Site, body: str) -> None:
    answer = open_site.client.post("/api/v1/runs", data=body or "\xff", content_type="application/json")

    problem(answer, 400)


def test_body_that_is_no_json_is_told_where(open_site: Site) -> None:
    answer = open_site.client.post("/api/v1/runs", data='{"pipeline": etl}', content_type="application/json")

    assert problem(answer, 400) == "The body is not JSON: Expecting value: line 1 column 14 (char 13)"


def test_webhooks_are_open_to_foreign_hosts_origins_and_forms(token_site: Site) -> None:
    headers = {"Host": "evil.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}

    answer = token_site.client.post(
        "/webhooks/etl/nothing", headers=headers, environ_overrides=FAR, data="a=1"
    )

    assert answer.status_code == 404


def test_every_answer_carries_security_headers(open_site: Site) -> None:
    for path in ("/", "/api/v1/project", "/nowhere", "/healthz", "/webhooks/etl/hook", "/static/page.css"):
        with open_site.client.get(path) as answer:
            headers = answer.headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        names = [name.lower() for name, _ in headers]
        assert len(names) == len(set(names)), path


def test_answers_are_kept_nowhere_but_static_files_may_be(open_site: Site) -> None:
    with open_site.client.get("/static/page.css") as file:
        assert file.headers["Cache-Control"] == "no-cache"
    assert open_site.client.get("/").headers["Cache-Control"] == "no-store"


def routes(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Yield a concrete path for every route and method of the app."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            values = {name: "1" for name in rule.arguments}
            built = rule.build(values)
            assert built is not None
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
                yield built[1], method, rule.endpoint
