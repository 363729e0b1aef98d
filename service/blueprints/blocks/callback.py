from typing import Any

from pipelines import callback


@callback("success")
def tell(output: Any, *, parent_block_uuid: str, logger: Any, **_: Any) -> None:
    """Hear that the guarded block has ended well."""
    logger.info("%s is done", parent_block_uuid)


@callback("failure")
def warn(output: Any, *, parent_block_uuid: str, logger: Any, **_: Any) -> None:
    """Hear that it has failed for good."""
    logger.warning("%s has failed", parent_block_uuid)
