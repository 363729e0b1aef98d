"""The table in docs/mage.md says what the code does: of each name, of each key, of each kind of thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines import parse, parse_blocks, parse_mage_triggers, parse_products
from pipelines.mage.keys import WITHOUT_EFFECT
from pipelines.model import RetryPolicy
from pipelines.parse_fields import Findings, Section
from pipelines.parse_yaml import Document
from tests.architecture.floors import ROOT
from tests.docs.mage_code import AREAS

PAGE = (ROOT / "docs" / "mage.md").read_text("utf-8")
HEADER = "| of | names in Mage | status | what differs and why, or what to write instead |\n"
_CODE = re.compile(r"`([^`]+)`")
_FREE = "behaviour"  # what no registry has


@dataclass(frozen=True)
class Said:
    """What the page says of one name."""

    status: str
    note: str


def rows() -> Iterator[tuple[str, list[str], Said]]:
    for line in PAGE.split(HEADER)[1].splitlines()[1:]:
        if not line.startswith("|"):
            return
        area, names, status, note = (cell.strip() for cell in line.strip("|").split(" | "))
        yield area, list(_names(names)), Said(status, note)


def _names(cell: str) -> Iterator[str]:
    """Yield the names of a cell; of a module and its names, each with the module in front."""
    module, colon, names = cell.partition("`: ")
    for name in _CODE.findall(names if colon else cell):
        yield f"{module.strip('`')}: {name}" if colon else name


def said(area: str) -> dict[str, Said]:
    return {name: told for place, names, told in rows() if place == area for name in names}


def words_of(note: str) -> str:
    return note.replace("`", "").strip()


def test_there_is_one_table_and_no_name_stands_in_it_twice() -> None:
    assert PAGE.count(HEADER) == 1
    counted = Counter((area, name) for area, names, _ in rows() for name in names)
    assert [name for name, times in counted.items() if times > 1] == []
    assert {area for area, _, _ in rows()} == {*AREAS, _FREE}


def test_every_status_is_explained() -> None:
    explained = set(re.findall(r"^\| ([a-z ]+) \| [^|]+ \|$", PAGE, re.MULTILINE)) - {"status"}

    assert {told.status for _, _, told in rows()} <= explained
    # Whoever reads that something differs wants to know how.
    assert [area for area, _, told in rows() if told.status != "works" and not told.note] == []


@pytest.mark.parametrize("area", AREAS)
def test_page_names_all_that_the_code_knows(area: str) -> None:
    assert sorted(AREAS[area]().keys() - said(area).keys()) == []


@pytest.mark.parametrize("area", AREAS)
def test_page_names_nothing_that_the_code_lacks(area: str) -> None:
    surplus = said(area).keys() - AREAS[area]().keys()
    assert sorted(surplus) == []


@pytest.mark.parametrize("area", AREAS)
def test_page_says_of_each_name_what_becomes_of_it(area: str) -> None:
    told = said(area)
    wrong = [
        f"{name} is {told[name].status!r} on the page, {' or '.join(sorted(known.statuses))} in the code"
        for name, known in AREAS[area]().items()
        if name in told and told[name].status not in known.statuses
    ]
    assert wrong == []


@pytest.mark.parametrize("area", AREAS)
def test_page_gives_the_reasons_that_the_code_gives(area: str) -> None:
    told = said(area)
    wrong = {
        name: (told[name].note, known.note)
        for name, known in AREAS[area]().items()
        if name in told and known.note is not None
        if words_of(told[name].note) != words_of(known.note)
    }
    assert wrong == {}


class _NoFiles:
    """Sources that have every file, and no text of any."""

    def read(self, path: str) -> str:
        raise FileNotFoundError(path)

    def exists(self, path: str) -> bool:
        return True


def _read_project(section: Section) -> None:
    parse.read_settings("retry_config: {}\n", section.findings)


def _read_pipeline(section: Section) -> None:
    parse._pipeline("p", section, _NoFiles(), RetryPolicy())


def _read_block(section: Section) -> None:
    parse_blocks.read_blocks(section, _NoFiles(), RetryPolicy())


def _read_trigger(section: Section) -> None:
    parse_mage_triggers.read_mage_trigger("p", "t", section)
    parse_mage_triggers.read_mage_trigger("p", "t", _as(section, schedule_type="api"))


def _as(section: Section, **values: Any) -> Section:
    return Section(Document({**section.values, **values}), (), section.findings, section.what)


def _read_product(section: Section) -> None:
    parse_products._product("x", section)


# Which mapping is read by what, how its document looks, and the keys that other code reads.
READERS: dict[str, tuple[Callable[[Section], None], dict[str, Any], tuple[Any, ...], set[str]]] = {
    "project": (_read_project, {}, (), set()),
    "pipeline": (_read_pipeline, {}, (), set()),
    "block": (
        _read_block,
        {"blocks": [{"name": "b", "type": "custom"}]},
        ("blocks", 0),
        {"has_callback"},  # by the callbacks
    ),
    "trigger": (
        _read_trigger,
        {"schedule_type": "time", "schedule_interval": "@daily", "status": "active"},
        (),
        {"name"},  # by who lists the triggers
    ),
    "settings": (
        _read_trigger,
        {"schedule_type": "time", "schedule_interval": "@daily", "settings": {"timeout": 5}},
        ("settings",),
        set(),
    ),
    "data product": (_read_product, {}, (), {"uuid"}),  # the product goes by its key
}
KEYS = {
    "project": parse.PROJECT_KEYS,
    "pipeline": parse.PIPELINE_KEYS,
    "block": parse_blocks.BLOCK_KEYS,
    "trigger": parse_mage_triggers.TRIGGER_KEYS,
    "settings": parse_mage_triggers.SETTINGS_KEYS,
    "data product": parse_products.PRODUCT_KEYS,
}
# They are looked at, to say that they have no effect, or to know whether Mage's editor wrote the file.
LOOKED_AT = {
    "all_upstream_blocks_executed",
    "executor_type",
    "extensions",
    "notification_config",
    "overrides",
    "repo_path",
    "sla",
}


@pytest.mark.parametrize("kind", READERS)
def test_keys_that_work_are_read_and_those_without_effect_are_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, document, path, elsewhere = READERS[kind]
    asked: set[str] = set()
    get, contains = Section.get, Section.__contains__

    def watched_get(self: Section, key: str, default: Any = None) -> Any:
        if self._path == path:
            asked.add(key)
        return get(self, key, default)

    def watched_contains(self: Section, key: str) -> bool:
        if self._path == path:
            asked.add(key)
        return contains(self, key)

    monkeypatch.setattr(Section, "get", watched_get)
    monkeypatch.setattr(Section, "__contains__", watched_contains)
    read(Section(Document(document), (), Findings("f"), "it"))

    assert sorted(KEYS[kind] - asked - elsewhere) == []
    assert sorted((asked & WITHOUT_EFFECT[kind].keys()) - LOOKED_AT) == []
