from typing import Any

from pipelines import custom


@custom
def work(*inputs: Any, logger: Any, **_: Any) -> None:
    """Do what is neither loading nor transforming nor exporting."""
    logger.info("got %d inputs", len(inputs))
