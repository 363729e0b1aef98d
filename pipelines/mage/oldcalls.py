"""Lets code that was written for pandas 1 and 2 call what pandas 3 has in another way, or no more.

Projects of Mage ran on these, so their code is compiled to do here what it did there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from pipelines.mage.additions import Helpers

_KEYWORDS_THAT_DO_NOTHING = frozenset(("infer_datetime_format", "use_legacy_dataset"))
_OTHER_KEYWORDS = {"line_terminator": "lineterminator"}
_OTHER_METHODS = {"applymap": "map"}
# What could once be given by place, behind what still can.
_BY_NAME_NOW = {
    "to_csv": (1, ("sep", "na_rep", "float_format", "columns", "header", "index")),
    "to_excel": (1, ("sheet_name", "na_rep", "float_format", "columns", "header", "index")),
    "to_json": (1, ("orient", "date_format")),
    "to_sql": (2, ("schema", "if_exists", "index")),
}
_OF_PANDAS_GBQ = frozenset(("read_gbq", "to_gbq"))
_WHOLE_NUMBERS = frozenset(("int", "int64"))
_FILLING = {"ffill": "ffill", "pad": "ffill", "bfill": "bfill", "backfill": "bfill"}
_WITH_FREQUENCY = frozenset(("resample", "Grouper", "date_range", "floor", "ceil", "round", "rolling"))
_FREQUENCY = re.compile(r"(?P<count>-?\d*)(?P<unit>[A-Z]+)(?P<anchor>-[A-Z]{3})?")
_UNITS = {
    "M": "ME", "BM": "BME", "SM": "SME", "Q": "QE", "BQ": "BQE", "A": "YE", "Y": "YE", "BA": "BYE",
    "BY": "BYE", "AS": "YS", "H": "h", "BH": "bh", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns",
}  # fmt: skip
_CONVERTING = frozenset(("to_numeric", "to_datetime", "to_timedelta"))
_READING_TEXT = frozenset(("read_json", "read_html", "read_xml"))
_NUMPY_NAMES = {"NaN": "nan", "NAN": "nan", "Inf": "inf", "Infinity": "inf", "float_": "float64"}


class OlderCalls(ast.NodeTransformer):
    """Writes such calls in the way of pandas 3."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        method = node.func
        if not isinstance(method, ast.Attribute):
            return node
        _write_keywords(node)
        method.attr = _OTHER_METHODS.get(method.attr, method.attr)
        if method.attr in _BY_NAME_NOW:
            _write_names(node, *_BY_NAME_NOW[method.attr])
        elif method.attr == "drop":
            _leave_out_axis(node)
        elif method.attr == "fillna":
            _write_filling(node, method)
        elif method.attr in _WITH_FREQUENCY:
            _write_frequencies(node)
        else:
            self._write_with_helpers(node, method)
        return node

    def _write_with_helpers(self, node: ast.Call, method: ast.Attribute) -> None:
        """Rewrite what has to look at the values that it is called with."""
        if method.attr == "apply":
            method.value = self._helpers.call("with_keys", method.value)
        elif method.attr == "astype" and node.args and _is_whole_number(node.args[0]):
            method.value = self._helpers.call("in_nanoseconds", method.value)
        elif method.attr in _OF_PANDAS_GBQ:
            node.func = self._helpers.call("of_bigquery", method.value)
            node.func.args.append(ast.Constant(method.attr))
        elif method.attr in _CONVERTING:
            self._write_conversion(node)
        elif method.attr in _READING_TEXT and node.args:
            node.args[0] = self._helpers.call("readable", node.args[0])

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Let `df["a"].dtype == "object"` be true of text, which has a type of its own since pandas 3."""
        self.generic_visit(node)
        operator = node.ops[0]
        if len(node.ops) > 1 or not _is_dtype(node.left) or not _is_object(node.comparators[0]):
            return node
        if isinstance(operator, ast.Eq):
            return self._helpers.call("is_object", node.left)
        return self._helpers.call("is_not_object", node.left) if isinstance(operator, ast.NotEq) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy"):
            node.attr = _NUMPY_NAMES.get(node.attr, node.attr)
        return node

    def _write_conversion(self, node: ast.Call) -> None:
        """Make `pd.to_numeric(x, errors="ignore")` give `x` itself where it cannot be converted."""
        ignoring = [word for word in node.keywords if word.arg == "errors" and _text(word.value) == "ignore"]
        if ignoring and node.args:
            node.keywords = [word for word in node.keywords if word not in ignoring]
            node.args.insert(0, node.func)
            node.func = self._helpers.function("converted_if_possible")


# --- the parts of a call -----------------------------------------------------------------------------


def _write_keywords(call: ast.Call) -> None:
    call.keywords = [word for word in call.keywords if word.arg not in _KEYWORDS_THAT_DO_NOTHING]
    for word in call.keywords:
        if word.arg == "delim_whitespace" and isinstance(word.value, ast.Constant):
            word.arg, word.value = "sep", ast.Constant(r"\s+" if word.value.value else ",")
        elif word.arg == "error_bad_lines" and isinstance(word.value, ast.Constant):
            word.arg, word.value = "on_bad_lines", ast.Constant("error" if word.value.value else "skip")
        elif word.arg is not None:
            word.arg = _OTHER_KEYWORDS.get(word.arg, word.arg)


def _write_names(call: ast.Call, by_place: int, names: Sequence[str]) -> None:
    """Make `.to_csv(path, ";")` into `.to_csv(path, sep=";")`."""
    given, further = call.args[:by_place], call.args[by_place:]
    if len(further) <= len(names) and not any(isinstance(value, ast.Starred) for value in call.args):
        call.args = given
        call.keywords += [ast.keyword(name, value) for name, value in zip(names, further, strict=False)]


def _leave_out_axis(call: ast.Call) -> None:
    """Make `.drop(columns=["a"], axis=1)` into `.drop(columns=["a"])`, which is what it always meant."""
    if {"columns", "index"} & {word.arg for word in call.keywords}:
        call.keywords = [word for word in call.keywords if word.arg != "axis"]


def _write_filling(call: ast.Call, method: ast.Attribute) -> None:
    """Make `.fillna(method="pad", ...)` into `.ffill(...)`."""
    for word in call.keywords:
        if word.arg == "method" and (name := _FILLING.get(_text(word.value) or "")) is not None:
            method.attr = name
            call.keywords.remove(word)
            return


def _write_frequencies(call: ast.Call) -> None:
    """Write months as ME and hours as h, where they stand as texts."""
    call.args = [_frequency(value) for value in call.args]
    for word in call.keywords:
        if word.arg in ("freq", "rule", "window"):
            word.value = _frequency(word.value)


def _frequency(node: ast.expr) -> ast.expr:
    found = _FREQUENCY.fullmatch(_text(node) or "")
    if found is None or found["unit"] not in _UNITS:
        return node
    text = f"{found['count']}{_UNITS[found['unit']]}{found['anchor'] or ''}"
    return ast.copy_location(ast.Constant(text), node)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_whole_number(node: ast.expr) -> bool:
    """Tell whether a type is named that times are counted in: `int`, `"int64"`, `np.int64`."""
    name = node.id if isinstance(node, ast.Name) else _text(node)
    return (node.attr if isinstance(node, ast.Attribute) else name) in _WHOLE_NUMBERS


def _is_dtype(node: ast.expr) -> bool:
    """Tell whether `node` looks like `df["a"].dtype`, `df.dtypes` or `df.dtypes["a"]`."""
    inner = node.value if isinstance(node, ast.Subscript) else node
    return isinstance(inner, ast.Attribute) and inner.attr in ("dtype", "dtypes")


def _is_object(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("object_", "object")
    return _text(node) in ("object", "O") or (isinstance(node, ast.Name) and node.id == "object")
