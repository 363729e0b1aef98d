"""A block of type global_data_product gives the output of another pipeline, which runs when it is too old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.calls import ProductAnswer, load_outputs, running_block, service_of
from pipelines.context import BlockContext
from pipelines.errors import CheckpointError, NotYet
from pipelines.parse_products import named_product, product_of
from pipelines.products import PRODUCTS_FILE, Product

LOOK_SECONDS = 10.0  # the end of the run wakes the block; this is for a wake-up that got lost
MOST_LOSSES = 3  # runs whose outputs vanish while they are read

Outputs = tuple[Any, ...]


def run_product(context: BlockContext, inputs: Sequence[Any]) -> Outputs:
    """Return the outputs of the product's newest run, when it is fresh; else raise NotYet until it is.

    One block of the product gives its outputs as they are; of several, each gives one. Where several
    `partitions` of a block are wanted, it gives the list of them, newest first. A block that Mage's editor
    wrote gives what it gives there.
    """
    product = product_of(context.block, context.source)
    asked = _AskedAsInMage if context.block.is_of_mage else _Asked
    found = asked(context, product, is_parked=True).look()
    if isinstance(found, str):
        raise NotYet(f"data product {product.uuid!r} is made by run {found}", seconds=LOOK_SECONDS)
    return found


def get_global_data_product(uuid: str) -> Any:
    """Return what a block of this data product would give, and wait here while it is made.

    A block of type global_data_product does the same and holds no worker while it waits.
    """
    context = running_block("get_global_data_product")
    service = service_of(context)
    try:
        text = (context.root / PRODUCTS_FILE).read_text("utf-8-sig")
    except FileNotFoundError:
        text = ""
    asked = _Asked(context, named_product(uuid, text), is_parked=False)
    while isinstance(found := asked.look(), str):
        service.wait(found)
    return found[0] if len(found) == 1 else list(found)


class _Asked:
    """A product, as one block asks for it."""

    def __init__(self, context: BlockContext, product: Product, *, is_parked: bool) -> None:
        self._context = context
        self._product = product
        self._is_parked = is_parked

    def look(self) -> Outputs | str:
        """Return the outputs, or the run that makes them."""
        gone: list[str] = []
        while True:
            answer = service_of(self._context).product(
                self._product,
                call=f"{self._context.block.name}/{self._product.uuid}",
                is_parked=self._is_parked,
                gone=gone,
            )
            if answer.awaited is not None:
                return answer.awaited
            try:
                return self._loaded(answer)
            except CheckpointError:
                # Deleted since the answer, or damaged: it is made again.
                if len(gone) == MOST_LOSSES:
                    raise
                gone += [one.run_id for one in answer.outputs if one.run_id not in gone]

    def _loaded(self, answer: ProductAnswer) -> Outputs:
        blocks = list(answer.outputs[0].manifests)
        if len(blocks) == 1 and self._wanted(blocks[0]) == 1:
            return load_outputs(self._context, answer.outputs[0].manifests[blocks[0]])
        return tuple(self._of_block(answer, block) for block in blocks)

    def _of_block(self, answer: ProductAnswer, block: str) -> Any:
        wanted = self._wanted(block)
        newest = [
            _one(load_outputs(self._context, stored.manifests[block])) for stored in answer.outputs[:wanted]
        ]
        return newest[0] if wanted == 1 else newest

    def _wanted(self, block: str) -> int:
        return self._product.partitions.get(block, 1)


class _AskedAsInMage(_Asked):
    """A product that is one mapping: each of its blocks -> the list of all that the block returned."""

    def _loaded(self, answer: ProductAnswer) -> Outputs:
        return ({block: self._all_of(answer, block) for block in answer.outputs[0].manifests},)

    def _all_of(self, answer: ProductAnswer, block: str) -> list[Any]:
        wanted = answer.outputs[: self._wanted(block)]
        return [part for stored in wanted for part in load_outputs(self._context, stored.manifests[block])]


def _one(outputs: Outputs) -> Any:
    if not outputs:
        return None
    return outputs[0] if len(outputs) == 1 else list(outputs)
