from typing import Any

from pipelines import data_loader


@data_loader
def load(**_: Any) -> list[list[dict[str, Any]]]:
    """Return the items and a name for each: the next block runs once for every item, with it alone."""
    items = [{"city": "Berlin"}, {"city": "Paris"}]
    return [items, [{"block_uuid": item["city"].lower()} for item in items]]
