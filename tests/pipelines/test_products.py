"""The file of global data products, and when a product is fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.products import Product
from pipelines.project import Project
from tests.parts.projects import BlockFile, write, write_pipeline, write_project

MADE = datetime(2024, 1, 31, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "starting_at", "now", "is_fresh"),
    [
        ({"hours": 12}, {}, "2024-02-01T00:29:59", True),
        ({"hours": 12}, {}, "2024-02-01T00:30:00", False),
        ({"hours": 12}, {"hour_of_day": 17}, "2024-02-01T16:59:59", True),
        ({"hours": 12}, {"hour_of_day": 17}, "2024-02-01T17:00:00", False),
        ({"months": 1}, {}, "2024-02-29T12:29:59", True),  # the last day of a shorter month
        ({"months": 1}, {}, "2024-02-29T12:30:00", False),
        ({"years": 1, "days": 1, "seconds": 1}, {}, "2025-02-01T12:30:00", True),
        ({"weeks": 1}, {"day_of_week": 0}, "2024-02-11T00:00:00", False),  # a Sunday
        ({}, {"week_of_month": 2}, "2024-02-04T23:00:00", True),
        ({}, {"week_of_month": 2}, "2024-02-05T00:00:00", False),
        ({}, {}, "2024-01-31T12:30:00", False),
    ],
)
def test_a_product_is_fresh_for_its_time(
    after: dict[str, int], starting_at: dict[str, int], now: str, is_fresh: bool
) -> None:
    product = Product("p", "pipeline", "x", outdated_after=after, outdated_starting_at=starting_at)

    assert product.is_fresh(MADE, datetime.fromisoformat(now).replace(tzinfo=UTC)) is is_fresh
    assert Product.from_plain(product.as_plain()) == product


def gives(name: str, uuid: str, **keys: object) -> BlockFile:
    configuration = {"global_data_product": {"uuid": uuid, **keys}}
    return BlockFile(name, "", type="global_data_product", keys={"configuration": configuration})


def test_all_that_is_wrong_with_products_is_told_with_its_line(tmp_path: Path) -> None:
    root = write_project(tmp_path / "shop")
    write(
        root / "global_data_products.yaml",
        """\
good:
  object_type: pipeline
  object_uuid: maker
  outdated_after: {hours: 1}
odd:
  object_type: table
  outdated_after: {days: many, moons: 1}
lost:
  object_type: block
  object_uuid: makers
part:
  object_type: pipeline
  object_uuid: maker
  outdated_after: {hours: 1}
  settings: {need_itself: {}}
""",
    )
    write_pipeline(root, "maker", [gives("needs_itself", "good")])
    write_pipeline(root, "uses", [gives("a", "god"), gives("b", "good", settings={"x": {"partitions": 0}})])

    problems = [str(problem) for problem in Project.load(root).problems]

    for wanted in (
        "global_data_products.yaml:5: error: data product 'odd': it has no `object_uuid`",
        "global_data_products.yaml:6: error: data product 'odd': `object_type` must be one of",
        "global_data_products.yaml:7: error: data product 'odd', outdated_after: `days` must be a",
        "global_data_products.yaml:7: error: data product 'odd', outdated_after: 'moons' is unknown",
        "global_data_products.yaml:8: warning: data product 'lost': it has no `outdated_after`",
        "global_data_products.yaml:8: warning: data product 'lost': there is no block 'makers' that can run",
        "global_data_products.yaml:11: warning: data product 'part': pipeline 'maker' has no block "
        "'need_itself', whose output it takes; it has: needs_itself; did you mean 'needs_itself'?",
        "there is no data product 'god' in global_data_products.yaml that can be used; did you mean 'good'?",
        "settings of block 'x': `partitions` must be a whole number, 1 or more",
        "pipeline 'maker' waits for itself, by data products: maker > maker",
    ):
        assert any(wanted in problem for problem in problems), (wanted, problems)


def test_a_run_is_pinned_to_the_products_that_it_uses(tmp_path: Path) -> None:
    root = write_project(tmp_path / "shop")
    text = "good:\n  object_type: pipeline\n  object_uuid: maker\n  outdated_after: {hours: 1}\n"
    write(root / "global_data_products.yaml", text)
    write_pipeline(root, "uses", [gives("a", "good")])
    project = Project.load(root)

    assert project.sources_of("uses")["global_data_products.yaml"] == text
    write(root / "global_data_products.yaml", text.replace("hours", "days"))
    assert project.refresh()
    assert "days" in project.sources_of("uses")["global_data_products.yaml"]
