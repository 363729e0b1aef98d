"""The dtypes of pandas that hold Arrow's whole numbers and booleans when some are missing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

NULLABLE: Mapping[pa.DataType, pd.api.extensions.ExtensionDtype] = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}
