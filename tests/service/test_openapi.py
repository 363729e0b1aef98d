from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.projects import write_project
from tests.parts.site import Site, site


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    with site(write_project(tmp_path)) as made:
        yield made


@pytest.fixture
def document(demo: Site) -> Any:
    return demo.client.get("/api/v1/openapi.json").get_json()


def test_every_route_of_the_api_is_described(demo: Site, document: Any) -> None:
    described = {
        (path, method.upper()) for path, operations in document["paths"].items() for method in operations
    }
    routed = {
        (str(rule).replace("<", "{").replace(">", "}"), method)
        for rule in demo.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if str(rule).startswith("/api/v1/") and not str(rule).endswith("/openapi.json")
    }

    assert described == routed


def test_every_operation_has_a_summary_an_answer_and_problems(document: Any) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"].endswith("."), where
            good = [status for status in operation["responses"] if status.startswith("2")]
            assert good, where
            for status, answer in operation["responses"].items():
                kind = "application/json" if status in good else "application/problem+json"
                assert list(answer["content"]) == [kind], f"{where} {status}"


def test_every_reference_leads_to_a_schema(document: Any) -> None:
    schemas = document["components"]["schemas"]
    references = list(refs(document))

    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
    assert {"Run", "Event", "RunList", "Problem", "BlockRun", "Match"} <= set(schemas)


def test_operations_are_named_once(document: Any) -> None:
    names = [operation["operationId"] for one in document["paths"].values() for operation in one.values()]

    assert len(names) == len(set(names))


def test_bearer_token_is_described(document: Any) -> None:
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["openapi"].startswith("3.1")


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)
