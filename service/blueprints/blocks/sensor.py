from pathlib import Path
from typing import Any

from pipelines import sensor


@sensor
def is_there(*, ds: str, **_: Any) -> bool:
    """Say whether what follows may begin. Until then the run is parked, and this is asked again."""
    return Path(f"data/{ds}.done").exists()
