from logging import Logger
from typing import Any

import pandas as pd

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def write_totals(totals: pd.DataFrame, *, logger: Logger, **_: Any) -> None:
    with Files.from_profile("default") as files:
        rows = files.export(totals, "out/totals.csv")
    logger.info("wrote %s rows to out/totals.csv", rows)
