"""The enumerations that code of Mage projects names."""

from __future__ import annotations

from enum import StrEnum

from pipelines import model


class BlockLanguage(StrEnum):
    MARKDOWN = "markdown"
    PYTHON = "python"
    R = "r"
    SQL = "sql"
    YAML = "yaml"


BlockType = model.BlockType


class PipelineType(StrEnum):
    INTEGRATION = "integration"
    PYTHON = "python"
    PYSPARK = "pyspark"
    STREAMING = "streaming"


class Axis(StrEnum):
    """What an action is about."""

    ROW = "row"
    COLUMN = "column"


class ActionType(StrEnum):
    """What an action does; `pipelines.mage.actions` has what each of them means."""

    ADD = "add"
    ADD_COLUMN = "add_column"
    AVERAGE = "average"
    CLEAN_COLUMN_NAME = "clean_column_name"
    COUNT = "count"
    COUNT_DISTINCT = "count_distinct"
    CUSTOM = "custom"
    DIFF = "diff"
    DROP_DUPLICATE = "drop_duplicate"
    EXPAND_COLUMN = "expand_column"
    EXPLODE = "explode"
    FILTER = "filter"
    FIRST = "first"
    FIX_SYNTAX_ERRORS = "fix_syntax_errors"
    GROUP = "group"
    IMPUTE = "impute"
    JOIN = "join"
    LAST = "last"
    LIMIT = "limit"
    MAX = "max"
    MEDIAN = "median"
    MIN = "min"
    MODE = "mode"
    NORMALIZE = "normalize"
    REFORMAT = "reformat"
    REMOVE = "remove"
    REMOVE_COLUMN = "remove_column"
    REMOVE_OUTLIERS = "remove_outliers"
    SCALE = "scale"
    SELECT = "select"
    SHIFT_DOWN = "shift_down"
    SHIFT_UP = "shift_up"
    SORT = "sort"
    STANDARDIZE = "standardize"
    SUM = "sum"
    UNION = "union"
    UPDATE_TYPE = "update_type"
    UPDATE_VALUE = "update_value"


class ImputationStrategy(StrEnum):
    """What missing values become."""

    AVERAGE = "average"
    COLUMN = "column"
    CONSTANT = "constant"
    MEDIAN = "median"
    MODE = "mode"
    NOOP = "no_op"
    RANDOM = "random"
    SEQ = "sequential"


class ColumnType(StrEnum):
    """What a column holds, as Mage tells it."""

    CATEGORY = "category"
    CATEGORY_HIGH_CARDINALITY = "category_high_cardinality"
    DATETIME = "datetime"
    EMAIL = "email"
    LIST = "list"
    NUMBER = "number"
    NUMBER_WITH_DECIMALS = "number_with_decimals"
    PHONE_NUMBER = "phone_number"
    STRING = "string"
    TEXT = "text"
    TRUE_OR_FALSE = "true_or_false"
    UNKNOWN = "unknown"
    ZIP_CODE = "zip_code"
