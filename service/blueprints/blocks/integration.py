from typing import Any

import dlt

from pipelines import data_integration


@data_integration
def orders(**variables: Any) -> Any:
    """Return a source or a resource of dlt; the block's `configuration` says where it goes."""
    return dlt.resource([{"id": 1, "day": variables["ds"]}], name="orders", primary_key="id")
