"""Reads `global_data_products.yaml`, and what a block says in the place of an entry."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from pipelines.errors import BlockCodeError
from pipelines.mage.keys import WITHOUT_EFFECT
from pipelines.model import Block, BlockType, Pipeline, Problem, Severity
from pipelines.parse_fields import Findings, Section, closest, listed, read_document, words
from pipelines.parse_yaml import Document
from pipelines.products import AGES, MOMENTS, PRODUCTS_FILE, Product


class Sources(Protocol):
    """Where the project's files are read."""

    def read(self, path: str) -> str: ...


PRODUCT_KEYS = words("uuid object_type object_uuid outdated_after outdated_starting_at settings pipeline")
_BLOCK_KEYS = words("uuid outdated_after outdated_starting_at settings")
_OBJECT_TYPES = ("pipeline", "block")
_SETTINGS_KEYS = frozenset(("partitions",))


def read_products(text: str, findings: Findings) -> dict[str, Product]:
    """Return the products of the file by name; what is wrong goes to `findings` and is left out."""
    document = read_document(text, findings)
    if document is None:
        return {}
    entries = Section(document, (), findings, PRODUCTS_FILE)
    found = {}
    for uuid in entries.values:
        before = findings.error_count
        product = _product(uuid, entries.section(uuid, f"data product '{uuid}'"))
        if findings.error_count == before:
            found[uuid] = product
    return found


def check_product_block(section: Section, sources: Sources) -> None:
    """Report what is wrong with a block of type global_data_product."""
    try:
        text = sources.read(PRODUCTS_FILE)
    except (OSError, UnicodeDecodeError):
        section.error("type", f"it needs {PRODUCTS_FILE} in the project's folder, which cannot be read")
        return
    wanted = _of_block(section)
    uuid = wanted.text("uuid")
    known = read_products(text, Findings(PRODUCTS_FILE))
    if not uuid:
        section.error(
            "configuration",
            "it does not say which data product it gives; write `configuration: "
            "{global_data_product: {uuid: ...}}`",
        )
    elif uuid not in known:
        wanted.error(
            "uuid",
            f"there is no data product '{uuid}' in {PRODUCTS_FILE} that can be used"
            f"{closest(uuid, known)}; it has: {listed(known) or 'none'}",
        )
    else:
        wanted.unknown_keys("block's data product", _BLOCK_KEYS)
        _overridden(known[uuid], wanted)


def product_of(block: Block, text: str) -> Product:
    """Return the product that a block gives. Raises BlockCodeError."""
    findings = Findings(PRODUCTS_FILE)
    known = read_products(text, findings)
    wanted = Section(
        Document(block.configuration.get("global_data_product") or {}), (), findings, f"block '{block.name}'"
    )
    product = known.get(wanted.text("uuid"))
    if product is None:
        raise BlockCodeError(
            f"block {block.name!r}: there is no data product {wanted.text('uuid')!r} in {PRODUCTS_FILE} that "
            f"can be used; it has: {listed(known) or 'none'}"
        )
    return _overridden(product, wanted)


def named_product(uuid: str, text: str) -> Product:
    """Return the product of this name. Raises BlockCodeError."""
    known = read_products(text, Findings(PRODUCTS_FILE))
    if uuid not in known:
        raise BlockCodeError(
            f"there is no data product {uuid!r} in {PRODUCTS_FILE} that can be used{closest(uuid, known)}; "
            f"it has: {listed(known) or 'none'}"
        )
    return known[uuid]


def product_problems(products: Collection[Product], pipelines: Mapping[str, Pipeline]) -> list[Problem]:
    """Return what is wrong with products that can only be seen beside the pipelines."""
    return [*_unknown_objects(products, pipelines), *_circles(products, pipelines)]


def _unknown_objects(products: Collection[Product], pipelines: Mapping[str, Pipeline]) -> Iterator[Problem]:
    blocks = {block.name for pipeline in pipelines.values() for block in pipeline.blocks}
    for product in products:
        known: Collection[str] = pipelines if product.object_type == "pipeline" else blocks
        if product.object_uuid not in known:
            message = (
                f"data product '{product.uuid}': there is no {product.object_type} '{product.object_uuid}' "
                f"that can run{closest(product.object_uuid, known)}"
            )
            yield Problem(PRODUCTS_FILE, product.line, Severity.WARNING, message)
        elif product.object_type == "pipeline":
            yield from _unknown_blocks(product, pipelines[product.object_uuid])


def _unknown_blocks(product: Product, pipeline: Pipeline) -> Iterator[Problem]:
    there = [block.name for block in pipeline.blocks]
    for name in product.partitions:
        if name not in there:
            message = (
                f"data product '{product.uuid}': pipeline '{pipeline.name}' has no block '{name}', whose "
                f"output it takes; it has: {listed(there) or 'none'}{closest(name, there)}"
            )
            yield Problem(PRODUCTS_FILE, product.line, Severity.WARNING, message)


def _circles(products: Collection[Product], pipelines: Mapping[str, Pipeline]) -> Iterator[Problem]:
    """Find pipelines that wait, by their data products, for a run of themselves."""
    made_by = {product.uuid: product.object_uuid for product in products if product.object_type == "pipeline"}
    needs = {
        name: [made_by[uuid] for uuid in map(_named_by, pipeline.blocks) if uuid in made_by]
        for name, pipeline in pipelines.items()
    }
    for name, pipeline in pipelines.items():
        if way := _way_round(name, needs):
            message = f"pipeline '{name}' waits for itself, by data products: {' > '.join(way)}"
            yield Problem(pipeline.file, 1, Severity.ERROR, message, name)


def _way_round(name: str, needs: Mapping[str, list[str]]) -> list[str]:
    waiting = [[name, needed] for needed in needs[name]]
    seen: set[str] = set()
    while waiting:
        way = waiting.pop()
        if way[-1] == name:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            waiting += [[*way, needed] for needed in needs.get(way[-1], ())]
    return []


def _named_by(block: Block) -> str:
    if block.type is not BlockType.GLOBAL_DATA_PRODUCT:
        return ""
    declared = block.configuration.get("global_data_product")
    return str(declared.get("uuid", "")) if isinstance(declared, Mapping) else ""


def _product(uuid: str, section: Section) -> Product:
    section.unknown_keys("data product", PRODUCT_KEYS | WITHOUT_EFFECT["data product"].keys())
    kind = section.text("object_type", "pipeline")
    if kind not in _OBJECT_TYPES:
        section.error("object_type", f"`object_type` must be one of {listed(_OBJECT_TYPES)}, not '{kind}'")
    if not section.text("object_uuid"):
        section.error("object_uuid", f"it has no `object_uuid`; name the {kind} that makes it")
    if "repo_path" in section:
        section.warning("repo_path", "`repo_path` is not used; products are made by pipelines of the project")
    product = Product(
        uuid, kind, section.text("object_uuid"), pipeline=section.text("pipeline"), line=section.line()
    )
    if "outdated_after" not in section:
        section.warning(
            "outdated_after", "it has no `outdated_after`, so every use starts a run; say how old it may be"
        )
    return _overridden(product, section)


def _overridden(product: Product, section: Section) -> Product:
    """Return the product with what the section says of its age and its blocks."""
    if "outdated_after" in section:
        after = _numbers(section, "outdated_after", AGES)
        product = replace(product, outdated_after=after)
    if "outdated_starting_at" in section:
        product = replace(
            product, outdated_starting_at=_numbers(section, "outdated_starting_at", tuple(MOMENTS))
        )
    if "settings" in section:
        product = replace(product, partitions=_partitions(section))
    return product


def _numbers(section: Section, key: str, known: Collection[str]) -> dict[str, int]:
    inner = section.section(key, f"{section.what}, {key}")
    found = {}
    for name in inner.values:
        if name not in known:
            inner.error(name, f"'{name}' is unknown{closest(name, known)} (known: {listed(known)})")
        elif (number := inner.count(name)) is not None:
            found[name] = number
    return found


def _partitions(section: Section) -> dict[str, int]:
    inner = section.section("settings", f"{section.what}, settings")
    found = {}
    for block in inner.values:
        settings = inner.section(block, f"{section.what}, settings of block '{block}'")
        settings.unknown_keys("block's settings in a data product", _SETTINGS_KEYS)
        found[block] = settings.count("partitions", 1, least=1) or 1
    return found


def _of_block(section: Section) -> Section:
    configuration = section.section("configuration", section.what)
    return configuration.section("global_data_product", section.what)
